package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/pprof/profile"
	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const (
	soakRate = 80
	soakPath = "/size/262144"
	// What the embedded store keeps in memory on purpose, in MiB: responses for replays
	// (--cache-size), blocks of its files, and two tables of what is not in files yet.
	soakCached = 64 + 64 + 2*16
)

// soak has the embedded store keep large responses for a while, and says how large the
// process became, and what of.
func (r *results) soak(ctx context.Context, s *stage, d time.Duration) error {
	fmt.Printf("soak, %d requests a second of 256 KiB, %v\n", soakRate, d)
	c := find(onDisk)
	admin, err := c.administered()
	if err != nil {
		return err
	}
	if err := c.start(ctx, s); err != nil {
		return err
	}
	defer c.stop()
	most, answered, err := soaked(ctx, c, admin, d)
	if err != nil {
		return err
	}
	r.Numbers[soakMemory], r.Numbers[soakCaches] = float64(most.rss)/(1<<20), soakCached
	r.figure(fmt.Sprintf("%s, of %v at %d/s with 256 KiB each", soakMemory, d, soakRate), fmt.Sprintf("%d MiB", most.rss>>20))
	r.figure(soakParts, most.of)
	r.figure("answered in the soak", fmt.Sprintf("%.2f%%", 100*answered))
	raw, err := fetch(ctx, fmt.Sprintf("http://%s/debug/pprof/heap?gc=1", admin))
	if err != nil {
		return err
	}
	heap, err := profile.ParseData(raw)
	if err != nil {
		return fmt.Errorf("the heap's profile: %w", err)
	}
	for _, one := range heaviest(heap, 5) {
		r.figure("heap after the soak: "+one.name, fmt.Sprintf("%.1f MiB", float64(one.value)/(1<<20)))
	}
	return nil
}

// administered gives a proxy an admin listener, and says at which address. Call it before start.
func (c *contender) administered() (admin string, err error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	command := c.command
	c.command = func(s *stage, p int) []string { return append(command(s, p), "--admin", local(port)) }
	return local(port), nil
}

// peak is the largest RSS, and what it was made of about then.
type peak struct {
	rss, explained int64
	of             string
}

// look takes the process's memory in. It asks what that is made of only when it has
// become larger by a twentieth since it did, since asking costs something, too.
func (k *peak) look(ctx context.Context, c *contender, admin string) error {
	now, err := rss(c.cmd.Process.Pid)
	if err != nil {
		return errors.Join(errors.New("the proxy has ended"), err)
	}
	k.rss = max(k.rss, now)
	if now < k.explained+k.explained/20 {
		return nil
	}
	k.explained = now
	k.of, err = madeOf(ctx, admin)
	return err
}

// madeOf says what a proxy's memory is made of, as Go's runtime counts it.
func madeOf(ctx context.Context, admin string) (string, error) {
	text, err := fetch(ctx, fmt.Sprintf("http://%s/metrics", admin))
	if err != nil {
		return "", err
	}
	var all []string
	for _, part := range []struct{ name, metric string }{
		{"in use on the heap", "go_memstats_heap_inuse_bytes"},
		{"free there, or given back", "go_memstats_heap_idle_bytes"},
		{"of that given back", "go_memstats_heap_released_bytes"},
		{"stacks", "go_memstats_stack_inuse_bytes"},
	} {
		value := regexp.MustCompile(`(?m)^` + part.metric + ` (\S+)$`).FindSubmatch(text)
		if value == nil {
			return "", fmt.Errorf("the proxy does not export %s", part.metric)
		}
		bytes, err := strconv.ParseFloat(string(value[1]), 64)
		if err != nil {
			return "", fmt.Errorf("%s: %w", part.metric, err)
		}
		all = append(all, fmt.Sprintf("%s: %.0f MiB", part.name, bytes/(1<<20)))
	}
	return strings.Join(all, "; "), nil
}

// soaked is the largest RSS meanwhile, and which share was answered with 2xx.
func soaked(ctx context.Context, c *contender, admin string, d time.Duration) (most peak, answered float64, err error) {
	var n atomic.Int64
	run := strconv.FormatInt(time.Now().UnixNano(), 36)
	targeter := func(t *vegeta.Target) error {
		t.Method, t.URL, t.Body = http.MethodPost, "http://"+c.addr+soakPath, []byte("amount=5")
		t.Header = http.Header{"Idempotency-Key": {run + "-" + strconv.FormatInt(n.Add(1), 10)}}
		return nil
	}
	attacker := vegeta.NewAttacker(vegeta.Workers(8), vegeta.MaxWorkers(200), vegeta.Connections(200))
	defer attacker.Stop()
	results := attacker.Attack(targeter, vegeta.Rate{Freq: soakRate, Per: time.Second}, d, "soak")
	look := time.NewTicker(time.Second)
	defer look.Stop()
	var m vegeta.Metrics
	for {
		select {
		case <-ctx.Done():
			return most, 0, fmt.Errorf("the soak: %w", ctx.Err())
		case result, more := <-results:
			if !more {
				m.Close()
				return most, m.Success, most.look(ctx, c, admin)
			}
			m.Add(result)
		case <-look.C:
			if err := most.look(ctx, c, admin); err != nil {
				return most, 0, err
			}
		}
	}
}

// heaviest are the functions that allocated most of what is in use, each counted where
// it allocates.
func heaviest(heap *profile.Profile, n int) (all []*frame) {
	byName := map[string]*frame{}
	last := len(heap.SampleType) - 1 // bytes in use
	for _, s := range heap.Sample {
		if len(s.Location) == 0 || len(s.Location[0].Line) == 0 {
			continue
		}
		name := s.Location[0].Line[0].Function.Name
		if byName[name] == nil {
			byName[name] = &frame{name: name}
			all = append(all, byName[name])
		}
		byName[name].value += s.Value[last]
	}
	slices.SortFunc(all, func(a, b *frame) int { return int(b.value - a.value) })
	return all[:min(n, len(all))]
}
