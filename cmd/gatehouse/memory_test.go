package main

import (
	"bytes"
	"context"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{0: mostGOGC, 1 << 20: mostGOGC, 4 << 20: 500, 8 << 20: 300, 16 << 20: 200, 64 << 20: 125, 1 << 30: 101} {
		if got := gcPercent(live); got != want {
			t.Errorf("gcPercent(%d) = %d, want %d", live, got, want)
		}
	}
}

func TestRush(t *testing.T) {
	var r rush
	for tick := range 3 * calmTicks {
		if r.over(uint64(tick)) {
			t.Fatalf("over at tick %d, with a collection in each", tick)
		}
	}
	for tick := range 3 * calmTicks {
		// The first still has the last collection of before; the next is the caller's.
		last := uint64(3*calmTicks - 1)
		if got, want := r.over(last), tick >= calmTicks-1; got != want {
			t.Fatalf("over is %v, %d ticks after the last collection", got, tick+1)
		}
	}
	if r.over(1000) {
		t.Error("over, right after a collection")
	}
}

// What a rush leaves behind goes back to the system.
func TestTuneMemoryGivesBack(t *testing.T) {
	held := func() uint64 {
		now := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
		metrics.Read(now)
		return now[0].Value.Uint64() - now[1].Value.Uint64()
	}
	before := debug.SetGCPercent(usualGOGC)
	limit := debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(before); debug.SetMemoryLimit(limit) }()
	a := &app{lookup: func(string) (string, bool) { return "", false }}
	ctx, cancel := context.WithCancel(t.Context())
	var tuning sync.WaitGroup
	tuning.Go(func() { a.tuneMemory(ctx, 20*time.Millisecond) })
	defer tuning.Wait()
	defer cancel()
	rushed := make([][]byte, 64)
	for i := range rushed {
		rushed[i] = bytes.Repeat([]byte{1}, 4<<20)
	}
	runtime.GC() // the goal is twice that now
	full := held()
	runtime.KeepAlive(rushed)
	for end := time.Now().Add(60 * time.Second); held() > full-200<<20; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d MiB are held, of %d", held()>>20, full>>20)
		}
	}
}

func TestTuneMemory(t *testing.T) {
	before := debug.SetGCPercent(usualGOGC)
	limit := debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(before); debug.SetMemoryLimit(limit) }()
	tune := func(env map[string]string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		a := &app{lookup: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
		a.startMemory()
		a.tuneMemory(ctx, time.Second)
	}
	tune(nil)
	if now := debug.SetGCPercent(usualGOGC); now != usualGOGC {
		t.Errorf("GOGC %d is left behind", now)
	}
	debug.SetGCPercent(37)
	tune(map[string]string{"GOGC": "37", "GOMEMLIMIT": "1GiB"})
	if now := debug.SetGCPercent(usualGOGC); now != 37 {
		t.Errorf("GOGC %d, want what the environment says", now)
	}
	if now := debug.SetMemoryLimit(-1); now != limit && memoryLimit("/sys/fs/cgroup", "/proc/self/cgroup") == 0 {
		t.Errorf("memory limit %d, where the environment has one", now)
	}
}

// In a small container, remembering tokens is not what ends the gateway.
func TestVerifiedBytes(t *testing.T) {
	limit := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(limit)
	for limit, want := range map[int64]int{math.MaxInt64: authn.VerifiedBytes, 1 << 30: authn.VerifiedBytes, 64 << 20: 8 << 20} {
		debug.SetMemoryLimit(limit)
		if got := verifiedBytes(); got != want {
			t.Errorf("with a limit of %d bytes verified tokens may take %d, want %d", limit, got, want)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	root := t.TempDir()
	group := func(path, max string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Join(root, path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path, "memory.max"), []byte(max+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self := filepath.Join(root, "self")
	limit := func(says string) int64 {
		t.Helper()
		if err := os.WriteFile(self, []byte(says), 0o600); err != nil {
			t.Fatal(err)
		}
		return memoryLimit(root, self)
	}
	group("pod", "300")
	group("pod/container", "max")
	group("pod/small", "200")
	group("odd", "x")
	for says, want := range map[string]int64{
		"0::/pod/container\n": 300, "1:cpu:/pod\n0::/pod/small\n": 200, "0::/\n": 0, "": 0, "0::/gone\n": 0, "0::/odd\n": 0, "0::/../../pod\n": 300,
	} {
		if got := limit(says); got != want {
			t.Errorf("limit of %q = %d, want %d", says, got, want)
		}
	}
	if got := memoryLimit(root, filepath.Join(root, "none")); got != 0 {
		t.Errorf("limit without control groups = %d", got)
	}
}
