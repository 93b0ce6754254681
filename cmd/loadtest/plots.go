package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A sweep is one plot: the cost of a request against one thing.
type sweep struct {
	file, title, across string
	values              []int
	log                 bool // of the values
	show                func(int) string
	turn                func(b *bench, ctx context.Context, c *contender, value int) (turn, error)
}

var sweeps = []sweep{
	{
		file: "connections.svg", title: "CPU per request against connections", across: "kept-alive connections",
		values: []int{1, 4, 16, 64, 256, 1024, 4096}, log: true, show: thousands,
		turn: func(b *bench, ctx context.Context, c *contender, n int) (turn, error) {
			own := *b // wrk counts making connections as a part of the load
			own.generator = "own"
			return own.turn(ctx, c, n, 0, c.path, b.duration)
		},
	},
	{
		file: "headers.svg", title: "CPU per request against its headers", across: "headers of 60 bytes, beside the usual ones",
		values: []int{0, 10, 20, 30, 40, 50}, show: thousands,
		turn: func(b *bench, ctx context.Context, c *contender, n int) (turn, error) {
			return b.turn(ctx, c, b.connections, n, c.path, b.duration)
		},
	},
	{
		file: "bodies.svg", title: "CPU per request against the answer's body", across: "bytes of body",
		values: []int{0, 1 << 20, 2 << 20, 4 << 20, 8 << 20, 16 << 20}, show: mebibytes,
		turn: func(b *bench, ctx context.Context, c *contender, n int) (turn, error) {
			return b.turn(ctx, c, min(b.connections, 8), 0, strings.TrimSuffix(c.path, "/")+fmt.Sprint("/bytes/", n), b.duration)
		},
	},
	{
		file: "small-bodies.svg", title: "CPU per request against a small body", across: "bytes of body",
		values: []int{1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20}, log: true, show: bytesShort,
		turn: func(b *bench, ctx context.Context, c *contender, n int) (turn, error) {
			return b.turn(ctx, c, b.connections, 0, strings.TrimSuffix(c.path, "/")+fmt.Sprint("/bytes/", n), b.duration)
		},
	},
}

func mebibytes(n int) string { return fmt.Sprintf("%d MiB", n>>20) }

func bytesShort(n int) string {
	if n >= 1<<20 {
		return mebibytes(n)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}

// plotted are the names of the contenders in the plots, if they were entered.
var plotted = []string{bareName, "Gatehouse ES256", "Gatehouse ES256, access log", "HAProxy RS256"}

// plotRounds is how many turns a point is the median of.
const plotRounds = 3

// plot measures the sweeps and writes them.
func (b *bench) plot(ctx context.Context, entered []*contender, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var drawn []*contender
	for _, name := range plotted {
		if i := slices.IndexFunc(entered, func(c *contender) bool { return c.name == name }); i >= 0 {
			drawn = append(drawn, entered[i])
		}
	}
	for _, s := range sweeps {
		c := chart{title: s.title, across: s.across, up: "µs of CPU", log: s.log, show: s.show}
		for _, e := range drawn {
			c.lines = append(c.lines, line{name: e.name})
		}
		for _, value := range s.values {
			costs, err := b.point(ctx, s, drawn, value)
			if err != nil {
				return err
			}
			for i, cost := range costs {
				if cost > 0 {
					c.lines[i].points = append(c.lines[i].points, point{float64(value), cost})
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, s.file), []byte(c.svg()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// point is what a request costs each contender at one value, in µs; 0: it could
// not be measured, as with thousands of connections on some machines. They take
// turns, so that a machine that is slower for a while is so for all of them.
func (b *bench) point(ctx context.Context, s sweep, drawn []*contender, value int) ([]float64, error) {
	turns := make([][]turn, len(drawn))
	for range plotRounds {
		for i, e := range drawn {
			t, err := s.turn(b, ctx, e, value)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				fmt.Fprintf(b.log, "%s: %s: %d: no figure: %v\n", s.file, e.name, value, err)
				continue
			}
			turns[i] = append(turns[i], t)
		}
	}
	costs := make([]float64, len(drawn))
	for i, e := range drawn {
		if len(turns[i]) == plotRounds {
			costs[i] = medianOf(turns[i], func(t turn) float64 { return t.cpu })
			fmt.Fprintf(b.log, "%s: %s: %d: %.1f µs\n", s.file, e.name, value, costs[i])
		}
	}
	return costs, nil
}
