package main

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/pprof/profile"
)

// profiles draws where a proxy's CPU time goes, as flame graphs: for each path a
// CPU profile of a proxy under load, as .pprof and as .svg.
func (r *results) profiles(ctx context.Context, s *stage, o options) error {
	fmt.Println("profiles")
	for _, p := range []struct{ name, file, workload, contender string }{
		{"no key", "no-key", "no key", onRedisTCP},
		{"new key, Redis", "new-key-redis", newKeys, onRedisTCP},
		{"new key, embedded", "new-key-embedded", newKeys, onDisk},
		{"hot replay", "hot-replay", "one hot key", onRedisTCP},
	} {
		raw, err := s.profile(ctx, p.workload, p.contender)
		if err != nil {
			return fmt.Errorf("profile of %s: %w", p.workload, err)
		}
		parsed, err := profile.ParseData(raw)
		if err != nil {
			return fmt.Errorf("profile of %s: %w", p.workload, err)
		}
		svg := flameGraph(p.workload+", "+p.contender, parsed)
		err1 := os.MkdirAll(o.out, 0o750)
		err2 := os.WriteFile(filepath.Join(o.out, p.file+".pprof"), raw, 0o600)
		err3 := os.WriteFile(filepath.Join(o.out, p.file+".svg"), []byte(svg), 0o600)
		if err := errors.Join(err1, err2, err3); err != nil {
			return fmt.Errorf("profile of %s: %w", p.workload, err)
		}
		fmt.Printf("  %s.svg\n", p.file)
		r.Profiles = append(r.Profiles, profiled{Name: p.name, File: p.file + ".svg", Shares: sharesOf(parsed)})
	}
	return nil
}

// profile is a CPU profile of a contender in the middle of a workload.
func (s *stage) profile(ctx context.Context, workload, contender string) ([]byte, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c, w := find(contender), findWorkload(workload)
	command := c.command
	c.command = func(s *stage, p int) []string { return append(command(s, p), "--admin", local(port)) }
	if err := c.start(ctx, s); err != nil {
		return nil, err
	}
	defer c.stop()
	const seconds = 8
	loaded := make(chan error, 1)
	go func() {
		_, err := w.wrk(ctx, c.addr, fmt.Sprintf("profile-%x", time.Now().UnixNano()), (seconds+2)*time.Second)
		loaded <- err
	}()
	raw, err := fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", local(port), seconds))
	return raw, errors.Join(err, <-loaded)
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("asking for a profile: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking for a profile: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return nil, errors.Join(fmt.Errorf("asking for a profile: %s", resp.Status), err)
	}
	return raw, nil
}

// frame is a function in the stacks that were seen, with its callees.
type frame struct {
	name    string
	value   int64
	callees map[string]*frame
}

func (f *frame) callee(name string) *frame {
	if f.callees == nil {
		f.callees = map[string]*frame{}
	}
	if f.callees[name] == nil {
		f.callees[name] = &frame{name: name}
	}
	return f.callees[name]
}

// stacks merges a profile's samples into one tree.
func stacks(p *profile.Profile) *frame {
	root := &frame{name: "all"}
	last := len(p.SampleType) - 1 // nanoseconds of CPU time
	for _, sample := range p.Sample {
		at := root
		at.value += sample.Value[last]
		for _, location := range slices.Backward(sample.Location) {
			for _, line := range slices.Backward(location.Line) {
				at = at.callee(line.Function.Name)
				at.value += sample.Value[last]
			}
		}
	}
	return root
}

const (
	flameWidth = 1200.0
	flameRow   = 17
	// flameLeast is the narrowest frame that is drawn, as a share of all time.
	flameLeast = 0.004
)

// flameGraph draws a profile: width is CPU time, callees are below their
// callers. The whole name and the share show when a frame is pointed at.
func flameGraph(title string, p *profile.Profile) string {
	root := stacks(p)
	var frames strings.Builder
	deepest := drawFrame(&frames, root, root, 0, 0)
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" font-family="sans-serif" font-size="11">`+
		"\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n<text x=\"4\" y=\"14\" font-size=\"13\">%s</text>\n",
		flameWidth, (deepest+3)*flameRow, html.EscapeString(title))
	b.WriteString(frames.String())
	b.WriteString("</svg>\n")
	return b.String()
}

// drawFrame draws f and what it calls from x on, and returns the deepest row.
func drawFrame(b *strings.Builder, root, f *frame, x float64, depth int) int {
	share := float64(f.value) / float64(max(root.value, 1))
	if share < flameLeast {
		return depth
	}
	width, y := share*flameWidth, (depth+1)*flameRow+4
	fmt.Fprintf(b, `<g><title>%s: %.1f %%</title>`+
		`<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s" stroke="#fff" stroke-width=".5"/>`,
		html.EscapeString(f.name), 100*share, x, y, width, flameRow-1, flameColour(f.name))
	short := f.name[strings.LastIndexByte(f.name, '/')+1:]
	if room := int(width / 6.2); room > 4 {
		fmt.Fprintf(b, `<text x="%.1f" y="%d">%s</text>`, x+2, y+12, html.EscapeString(short[:min(room, len(short))]))
	}
	b.WriteString("</g>\n")
	callees := make([]*frame, 0, len(f.callees))
	for _, c := range f.callees {
		callees = append(callees, c)
	}
	slices.SortFunc(callees, func(a, b *frame) int { return strings.Compare(a.name, b.name) })
	deepest := depth
	for _, c := range callees {
		deepest = max(deepest, drawFrame(b, root, c, x, depth+1))
		x += float64(c.value) / float64(max(root.value, 1)) * flameWidth
	}
	return deepest
}

// flameColour tells whose code it is.
func flameColour(name string) string {
	for _, of := range []struct{ part, colour string }{
		{"idemproxy/idemproxy", "#7db3f0"},
		{"fasthttp", "#f2c46d"},
		{"rueidis", "#e99a8a"},
		{"pebble", "#a8d08d"},
		{"syscall", "#c9c9c9"},
		{"runtime", "#dcd2ea"},
	} {
		if strings.Contains(name, of.part) {
			return of.colour
		}
	}
	return "#ece6da"
}
