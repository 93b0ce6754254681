package main

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"gatehouse/authn"
)

// How the garbage collector is set, where the environment (GOGC, GOMEMLIMIT)
// does not say otherwise.
//
// A gateway lives on little, three megabytes or so, and Go collects whenever
// that has doubled: under load that was 6 % of the CPU of a forwarded request, in
// profiles of cmd/loadtest. With room for smallHeap more between two collections
// it is 2 %, and a gateway under load takes that much more memory. The room comes
// on top of the usual: ten thousand routes are another ten megabytes to mark, and
// in their favour it makes collections rarer as well, so that a request costs the
// same (14 µs of it were the collector's without, 5 with, as with few routes). To
// a large heap, with many tokens and revocations in it, it makes no difference.
const (
	smallHeap = 16 << 20
	mostGOGC  = 800
	usualGOGC = 100
)

// startMemory sets the collector for the start: most of what that makes is soon
// garbage, and goes when tuneMemory begins. With 10,000 routes that is 280 ms
// instead of 330, and 66 MB at most instead of 59.
func (a *app) startMemory() {
	a.limitMemory()
	if _, set := a.lookup("GOGC"); !set {
		debug.SetGCPercent(mostGOGC)
	}
}

// limitMemory takes the limit of the container for Go's. The kernel counts more
// than Go does. Near the limit Go collects more often instead of being killed.
func (a *app) limitMemory() {
	if _, set := a.lookup("GOMEMLIMIT"); set {
		return
	}
	if limit := memoryLimit("/sys/fs/cgroup", "/proc/self/cgroup"); limit > 0 {
		debug.SetMemoryLimit(limit / 10 * 9)
	}
}

// verifiedBytes is how much memory verified tokens may take: the usual, or an
// eighth of what there is. Collecting more often makes no room for what is
// remembered, and whoever may sign in can have as many tokens as he likes.
func verifiedBytes() int {
	return int(min(authn.VerifiedBytes, debug.SetMemoryLimit(-1)/8))
}

// tuneMemory sets the collector by what lives now, and follows that until ctx
// ends, looking every second (tick). It first gives back what starting took.
func (a *app) tuneMemory(ctx context.Context, tick time.Duration) {
	debug.FreeOSMemory()
	unmapStart()
	if _, set := a.lookup("GOGC"); set {
		return
	}
	percent, rush := mostGOGC, rush{}
	defer func() { debug.SetGCPercent(usualGOGC) }()
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	now := []metrics.Sample{
		{Name: "/gc/heap/live:bytes"}, {Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"},
	}
	for {
		metrics.Read(now)
		// To set it stops everything for a moment: not for a trifle.
		if next := gcPercent(now[0].Value.Uint64()); math.Abs(float64(next-percent)) > float64(percent)/8 {
			debug.SetGCPercent(next)
			percent = next
		}
		if rush.over(now[1].Value.Uint64()) && now[2].Value.Uint64()-now[3].Value.Uint64() > mayKeep {
			debug.FreeOSMemory()
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// A rush leaves Go with a goal by what lived at the end of the last collection,
// and the next comes by itself after two minutes: so long, 10,000 connections that
// were gone held 260 MB. Without a collection for calmTicks it is over, and what a
// process holds beyond mayKeep is looked through, and goes back. Where all of it
// lives, with many tokens, that is some 30 ms of one processor every time.
const (
	calmTicks = 10
	mayKeep   = 3 * smallHeap
)

// A rush is told from calm by the collections that there have been.
type rush struct {
	collections uint64
	calm        int // ticks without one
}

// over is asked at each tick.
func (r *rush) over(collections uint64) bool {
	if collections != r.collections {
		*r = rush{collections: collections}
	}
	r.calm++
	return r.calm > calmTicks
}

// gcPercent leaves room for smallHeap and as much again as lives.
func gcPercent(live uint64) int {
	return int(min(mostGOGC, usualGOGC+smallHeap*100/max(live, 1)))
}

// memoryLimit is the least limit of the control groups that this process is in
// (cgroup v2, memory.max), in bytes; 0 for none. root is where they are mounted,
// self what the kernel says of this process.
func memoryLimit(root, self string) int64 {
	data, err := os.ReadFile(self)
	if err != nil {
		return 0
	}
	path := "/"
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "0::"); ok {
			path = filepath.Clean("/" + strings.TrimSpace(rest))
		}
	}
	least := int64(0)
	for {
		if text, err := os.ReadFile(filepath.Join(root, path, "memory.max")); err == nil {
			// "max" is no number.
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 && (least == 0 || n < least) {
				least = n
			}
		}
		if path == "/" {
			return least
		}
		path = filepath.Dir(path)
	}
}
