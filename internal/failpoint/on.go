//go:build failpoints

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// ErrFailed is what Fail returns where a test wants an error.
var ErrFailed = errors.New("a failpoint has this fail")

// Reach is a point where nothing can fail.
func Reach(name string) {
	if points().reach(name) != nil {
		panic("failpoint " + name + " cannot fail")
	}
}

// Fail is a point where an error can be returned: nil, unless a test wants one.
func Fail(name string) error { return points().reach(name) }

// longest bounds a pause: a test that is forgotten ends by itself.
const longest = 30 * time.Second

// act is what is to happen at a point, and when.
type act struct {
	text  string // as it was given
	kind  string // pause, fail, end
	pause time.Duration
	after int // as many times more nothing happens
	times int // then it happens, and after that nothing more
}

type set struct {
	log *os.File // nil: nobody wants to know

	mu      sync.Mutex
	reached map[string]bool // guarded by mu
	acts    map[string]*act // guarded by mu; those yet to come
}

// points are those of this process. What cannot be read ends it: a test that arms
// nothing would pass.
var points = sync.OnceValue(func() *set {
	s, err := load(os.Getenv("PROXY_FAILPOINTS"), os.Getenv("PROXY_FAILPOINTS_LOG"))
	if err != nil {
		panic(err)
	}
	return s
})

func load(armed, log string) (*set, error) {
	s := &set{reached: map[string]bool{}, acts: map[string]*act{}}
	for one := range strings.SplitSeq(armed, ",") {
		if one == "" {
			continue
		}
		name, text, _ := strings.Cut(one, "=")
		a, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("failpoint %q: %w", one, err)
		}
		s.acts[name] = a
	}
	if log == "" {
		return s, nil
	}
	var err error
	s.log, err = os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	return s, err
}

var errAct = errors.New("want end, fail, fail:TIMES or pause:DURATION (of at most " + longest.String() + "), and perhaps @N")

func parse(text string) (*act, error) {
	a := &act{text: text, times: 1}
	what, count, counted := strings.Cut(text, "@")
	if counted {
		n, err := strconv.Atoi(count)
		if err != nil || n < 1 {
			return nil, errAct
		}
		a.after = n - 1
	}
	var duration string
	a.kind, duration, _ = strings.Cut(what, ":")
	switch {
	case a.kind == "pause":
		var err error
		if a.pause, err = time.ParseDuration(duration); err != nil || a.pause <= 0 || a.pause > longest {
			return nil, errAct
		}
	case a.kind == "fail" && duration != "":
		var err error
		if a.times, err = strconv.Atoi(duration); err != nil || a.times < 1 {
			return nil, errAct
		}
	case duration != "", a.kind != "fail" && a.kind != "end":
		return nil, errAct
	}
	return a, nil
}

// reach does what is to be done at a point.
func (s *set) reach(name string) error {
	a := s.due(name)
	if a == nil {
		return nil
	}
	switch a.kind {
	case "pause":
		time.Sleep(a.pause)
	case "fail":
		return fmt.Errorf("%w: %s", ErrFailed, name)
	case "end":
		end()
	}
	return nil
}

// due notes that the process came to the point, and says what is to happen there now.
func (s *set) due(name string) *act {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.reached[name] {
		s.reached[name] = true
		s.write("reached " + name)
	}
	a := s.acts[name]
	if a == nil {
		return nil
	}
	if a.after > 0 {
		a.after--
		return nil
	}
	if a.times--; a.times == 0 {
		delete(s.acts, name)
	}
	s.write(fmt.Sprintf("acts %s %s %d", name, a.text, time.Now().UnixNano()))
	return a
}

// write adds a line, in one call: other processes write to the file, too.
func (s *set) write(line string) {
	if s.log == nil {
		return
	}
	if _, err := s.log.WriteString(line + "\n"); err != nil {
		panic(err)
	}
}

// end ends the process as a kill -9 would: no deferred call runs, nothing is flushed.
func end() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {} // until it has come
}
