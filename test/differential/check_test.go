package differential_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// rig is a proxy, or what takes its place, in front of a reader.
type rig struct {
	front  string // where clients connect
	tap    *tap
	reader *running
	serial int

	// How many messages were read as they were meant, how many of them on one
	// connection with the marker, and how many were refused by the proxy, or
	// forwarded and refused by the reader.
	forwarded, kept, refused, declined int
}

// verdict is what became of a message.
type verdict struct {
	faults   []string
	declined bool   // the reader refused what the proxy forwarded
	raw      []byte // what the proxy sent
}

// answer is a response as a client or the tap reads it.
type answer struct {
	status  int
	reader  string // that answered; empty for anybody else
	record  record // that it has
	problem bool   // it is the proxy's own refusal
}

func (a answer) String() string { return fmt.Sprintf("%d of %q: %v", a.status, a.reader, a.record) }

// look has the proxy read m, and then a request of its own that must be read as
// itself: the marker. It compares what the reader wrote down, what was on the
// wire, and what the client was answered.
func (r *rig) look(m *message, keyed bool) (v verdict) {
	r.serial++
	ctx, cancel := context.WithTimeout(context.Background(), atMost)
	defer cancel()
	fail := func(format string, args ...any) { v.faults = append(v.faults, fmt.Sprintf(format, args...)) }
	if late := r.reader.records.take(); len(late) > 0 {
		fail("%s read %v unasked", r.reader.name, late)
	}

	answers := converse(ctx, r.front, fill(m.text, r.serial, keyed), methodsOf(m.means), m.cut)
	marker := r.marker()
	marked := converse(ctx, r.front, marker.text, methodsOf(marker.means), false)
	asItself := len(marked) == 1 && marked[0].status == http.StatusOK && marked[0].record.is(marker.means[0])
	if !asItself {
		fail("the request behind it was answered %v", marked)
	}
	seen, talks, err := r.settle(ctx, marker.means[0].target(), asItself)
	if err != nil {
		fail("%v", err)
	}
	for _, k := range talks {
		v.raw = append(v.raw, k.sent...)
	}
	expect := slices.Concat(m.means, marker.means)
	switch {
	case len(m.means) > 0 && len(seen) == len(expect) && allAre(seen, expect):
		r.compareAnswers(m, answers, fail)
		r.forwarded++
		if len(talks) == 1 {
			r.kept++
		}
	case len(seen) == 1 && seen[0].is(marker.means[0]):
		expect = marker.means
		before := bytes.Index(v.raw, []byte("POST "+marker.means[0].target()+" "))
		byProxy := len(answers) == 0 || answers[0].problem
		if v.declined = before > 0 && (!m.cut || !byProxy); v.declined { // what is cut may have gone on for a part
			expect = slices.Concat(m.means[:min(len(m.means), 1)], marker.means)
			r.declined++
		} else {
			r.refused++
		}
		r.judgeRefusal(m, answers, v.declined, fail)
	default:
		fail("%s read %v, the client meant %v", r.reader.name, seen, m.means)
	}
	if !m.cut || len(talks) == 1 {
		countAnswers(talks, expect, fail)
	}
	return v
}

// marker is a well-formed request with a target of its own.
func (r *rig) marker() message {
	body := fmt.Sprintf("marker %d", r.serial)
	target := fmt.Sprintf("/marker/%d", r.serial)
	return message{
		text:  fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", target, len(body), body),
		means: []record{meaning("POST", target, body)},
	}
}

// settle waits until the reader has read all that was sent: the marker, and what
// is on connections that it did not come on, which must have ended. Where the
// marker got lost there is nothing to wait for.
func (r *rig) settle(ctx context.Context, marker string, asItself bool) (seen []record, talks []talk, err error) {
	live := r.tap.live()
	if asItself {
		err = r.reader.records.await(marker, ctx.Done())
		for _, k := range live[:max(len(live)-1, 0)] { // the proxy uses one at a time
			select {
			case <-k.ended:
			case <-ctx.Done():
				err = errors.New("a connection that is not used any more was not closed")
			}
		}
	}
	if !asItself || len(live) > 1 {
		err = errors.Join(err, r.reader.sync(fmt.Sprintf("/sync/%d", r.serial)))
	}
	for _, q := range r.reader.records.take() {
		if strings.HasPrefix(q.target(), "/sync/") {
			continue
		}
		seen = append(seen, q)
		if !slices.ContainsFunc(live, func(k *tapped) bool { return k.port == q.Port }) {
			err = errors.Join(err, fmt.Errorf("%v came on a connection of nobody's", q))
		}
	}
	return seen, r.tap.take(), err
}

// compareAnswers: each request was answered by what the reader made of that very
// request.
func (r *rig) compareAnswers(m *message, answers []answer, fail func(string, ...any)) {
	if len(answers) < len(m.means) {
		fail("the client was answered %v, and meant %v", answers, m.means)
		return
	}
	for i := range m.means {
		a := answers[i]
		if a.status != http.StatusOK || a.reader != r.reader.name || m.means[i].Method != http.MethodHead && !a.record.is(m.means[i]) {
			fail("%v was answered %v", m.means[i], a)
		}
	}
	for _, a := range answers[len(m.means):] {
		if a.status < 400 || a.reader != "" {
			fail("the client got an answer too many: %v", a)
		}
	}
}

// judgeRefusal looks at a message that the reader wrote nothing down of: either
// the proxy refused it, or the reader declined what was forwarded.
func (r *rig) judgeRefusal(m *message, answers []answer, declined bool, fail func(string, ...any)) {
	for _, a := range answers {
		if a.reader != "" || !declined && a.status < 400 { // a reader may answer OPTIONS * without its origin
			fail("nothing was read, and the client was answered %v", answers)
		}
	}
	switch {
	case declined && len(m.means) == 0:
		fail("it was forwarded, and means nothing")
	case declined && !m.odd:
		fail("%s declined what was forwarded: %v", r.reader.name, answers)
	case len(m.means) > 0 && !m.odd:
		fail("it was refused: %v", answers)
	}
}

// countAnswers: a reader answers as often as it reads a request, even one that it
// refuses and does not write down.
func countAnswers(talks []talk, expect []record, fail func(string, ...any)) {
	var all []answer
	methods := methodsOf(expect)
	for _, k := range talks {
		answers, err := readAnswers(bufio.NewReader(bytes.NewReader(k.answers)), methods[min(len(all), len(methods)):], func(int) {})
		all = append(all, answers...)
		if err != nil {
			fail("an answer of the reader's cannot be read: %v", err)
		}
	}
	if len(all) != len(expect) {
		fail("the reader answered %v to %v", all, expect)
	}
}

func allAre(seen, expect []record) bool {
	for i := range seen {
		if !seen[i].is(expect[i]) {
			return false
		}
	}
	return true
}

func methodsOf(all []record) (methods []string) {
	for i := range all {
		methods = append(methods, all[i].Method)
	}
	return methods
}

// fill puts keys in, or takes their places out.
func fill(text string, serial int, keyed bool) string {
	for i := 0; strings.Contains(text, "{k}"); i++ {
		field := ""
		if keyed {
			field = fmt.Sprintf("Idempotency-Key: key-%d-%d\r\n", serial, i)
		}
		text = strings.Replace(text, "{k}", field, 1)
	}
	return text
}

// converse sends text, and the end of all requests behind it, and reads answers
// until there are no more.
func converse(ctx context.Context, addr, text string, methods []string, cut bool) []answer {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	answered := make(chan struct{})
	all := sync.OnceFunc(func() { close(answered) })
	defer all()
	go func() { // the proxy may close before it has read all
		_, _ = io.WriteString(conn, text)
		if len(methods) > 0 && !cut { // who sends no more before has left, to a proxy that takes its time
			<-answered
		}
		_ = conn.(*net.TCPConn).CloseWrite() //nolint:forcetypeassert // we dialled TCP
	}()
	answers, _ := readAnswers(bufio.NewReader(conn), methods, func(n int) {
		if n == len(methods) {
			all()
		}
	})
	return answers
}

// readAnswers reads final responses until there are no more. methods are those of
// the requests; further ones are GETs. each is told how many there are by now.
func readAnswers(br *bufio.Reader, methods []string, each func(n int)) (all []answer, err error) {
	for {
		if _, err := br.Peek(1); err != nil {
			return all, nil //nolint:nilerr // the end
		}
		method := http.MethodGet
		if len(all) < len(methods) {
			method = methods[len(all)]
		}
		resp, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			return all, err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return all, err
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		a := answer{status: resp.StatusCode, reader: resp.Header.Get("X-Read-By")}
		a.problem = resp.Header.Get("Content-Type") == "application/problem+json"
		if a.reader != "" && len(body) > 0 {
			if err := json.Unmarshal(body, &a.record); err != nil {
				return all, fmt.Errorf("%q: %w", body, err)
			}
		}
		all = append(all, a)
		each(len(all))
	}
}
