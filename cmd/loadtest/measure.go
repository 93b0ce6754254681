package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A turn is what one contender did in one round.
type turn struct {
	cpu      float64 // µs per request
	rate     float64 // requests per second
	p50, p99 time.Duration
	ratio    float64 // cpu beside the bare proxy's in the same round
}

// A result is a contender's over all rounds.
type result struct {
	*contender
	turns  []turn
	median turn
	worst  float64 // ratio, of the worst round
	loaded int     // bytes resident after the last turn
	each   int     // bytes per idle connection; 0: not measured
	failed bool    // some turn did
}

// run gives everybody a turn in every round. Each round begins with another
// one, so that nobody always comes after the same.
func (b *bench) run(ctx context.Context, entered []*contender) ([]*result, error) {
	var results []*result
	for _, c := range entered {
		results = append(results, &result{contender: c})
	}
	// Who fails once gets no figure at all, and the others go on.
	failed := func(r *result, err error) error {
		if ctx.Err() != nil || r.name == bareName {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		fmt.Fprintf(b.log, "%s: no figure: %v\n", r.name, err)
		r.failed = true
		return nil
	}
	for _, r := range results { // caches, connections, the size of the heap
		if _, err := b.turn(ctx, r.contender, b.connections, 0, r.path, min(b.duration, time.Second)); err != nil {
			if err := failed(r, err); err != nil {
				return nil, err
			}
		}
	}
	for round := range b.rounds {
		var inRound []*result
		for i := range results {
			r := results[(i+round)%len(results)]
			if r.failed {
				continue
			}
			t, err := b.turn(ctx, r.contender, b.connections, 0, r.path, b.duration)
			if err != nil {
				if err := failed(r, err); err != nil {
					return nil, err
				}
				continue
			}
			r.turns = append(r.turns, t)
			inRound = append(inRound, r)
			fmt.Fprintf(b.log, "round %d: %s: %.1f µs, %.0f requests/s\n", round+1, r.name, t.cpu, t.rate)
		}
		setRatios(inRound)
	}
	results = slices.DeleteFunc(results, func(r *result) bool { return r.failed })
	if b.profile != "" {
		if err := b.profiles(ctx, entered); err != nil {
			return nil, err
		}
	}
	for _, r := range results {
		r.summarise()
		u, err := r.process.usage()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		r.loaded = u.rss
		if b.idle > 0 {
			if r.each, err = b.idleConnections(ctx, r.contender, b.idle); err != nil {
				return nil, fmt.Errorf("%s: %w", r.name, err)
			}
		}
	}
	return results, nil
}

// turn loads one contender.
func (b *bench) turn(ctx context.Context, c *contender, connections, headers int, path string, duration time.Duration) (turn, error) {
	var before usage
	o, err := b.load(ctx, job{c.address, path, c.token, connections, headers, duration}, func() (err error) {
		before, err = c.process.usage()
		return err
	})
	if err != nil {
		return turn{}, err
	}
	after, err := c.process.usage()
	if err != nil {
		return turn{}, err
	}
	cpu := after.cpu - before.cpu
	return turn{
		cpu:  float64(cpu.Nanoseconds()) / 1e3 / float64(o.requests),
		rate: float64(o.requests) / o.took.Seconds(),
		p50:  o.p50, p99: o.p99,
	}, nil
}

// profiles writes a CPU profile of each Gatehouse under load.
func (b *bench) profiles(ctx context.Context, entered []*contender) error {
	if err := os.MkdirAll(b.profile, 0o755); err != nil {
		return err
	}
	for _, c := range entered {
		if c.profile == "" {
			continue
		}
		loaded := make(chan error, 1)
		go func() {
			_, err := b.turn(ctx, c, b.connections, 0, c.path, b.duration+time.Second)
			loaded <- err
		}()
		seconds := max(1, int(b.duration.Seconds()))
		res, err := http.Get(fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", c.profile, seconds))
		if err != nil {
			return errors.Join(err, <-loaded)
		}
		data, err := io.ReadAll(res.Body)
		closeQuietly(res.Body)
		file := filepath.Join(b.profile, strings.NewReplacer(" ", "-", ",", "").Replace(c.name)+".pprof")
		if err := errors.Join(err, <-loaded, os.WriteFile(file, data, 0o644)); err != nil {
			return err
		}
	}
	return nil
}

// setRatios compares the last turns with the bare proxy's among them.
func setRatios(round []*result) {
	i := slices.IndexFunc(round, func(r *result) bool { return r.name == bareName })
	if i < 0 {
		return
	}
	bare := round[i].turns[len(round[i].turns)-1].cpu
	for _, r := range round {
		if last := &r.turns[len(r.turns)-1]; bare > 0 {
			last.ratio = last.cpu / bare
		}
	}
}

// summarise takes the median of each figure by itself.
func (r *result) summarise() {
	r.median = turn{
		cpu:   medianOf(r.turns, func(t turn) float64 { return t.cpu }),
		rate:  medianOf(r.turns, func(t turn) float64 { return t.rate }),
		p50:   medianOf(r.turns, func(t turn) time.Duration { return t.p50 }),
		p99:   medianOf(r.turns, func(t turn) time.Duration { return t.p99 }),
		ratio: medianOf(r.turns, func(t turn) float64 { return t.ratio }),
	}
	for _, t := range r.turns {
		r.worst = max(r.worst, t.ratio)
	}
}

func medianOf[T cmp.Ordered](turns []turn, of func(turn) T) T {
	var values []T
	for _, t := range turns {
		values = append(values, of(t))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// idleConnections is the memory of n connections that have had one answer each
// and wait for the next request, in bytes for each.
func (b *bench) idleConnections(ctx context.Context, c *contender, n int) (int, error) {
	before, err := c.process.usage()
	if err != nil {
		return 0, err
	}
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			closeQuietly(conn)
		}
	}()
	j := job{address: c.address, path: c.path, token: c.token}
	for range n {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		conn, err := net.DialTimeout("tcp", c.address, 5*time.Second)
		if err != nil {
			return 0, err
		}
		open = append(open, conn)
		if err := j.once(conn); err != nil {
			return 0, err
		}
	}
	after, err := c.process.usage()
	if err != nil {
		return 0, err
	}
	if len(open) == 0 {
		return 0, errors.New("no connection")
	}
	return (after.rss - before.rss) / n, nil
}
