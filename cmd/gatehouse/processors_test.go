package main

import (
	"runtime"
	"testing"

	"gatehouse/authn"
)

func TestStartProcessors(t *testing.T) {
	more := runtime.NumCPU() + authn.HashWorkers()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, test := range []struct {
		name         string
		set          bool
		before, want int
	}{
		{"usual", false, runtime.NumCPU(), more},
		{"a second gateway in the process", false, more, more},
		{"told by the environment", true, runtime.NumCPU(), runtime.NumCPU()},
		{"another number than there are", false, runtime.NumCPU() + 7, runtime.NumCPU() + 7},
	} {
		runtime.GOMAXPROCS(test.before)
		a := &app{lookup: func(name string) (string, bool) { return "2", test.set && name == "GOMAXPROCS" }}
		if a.startProcessors(); runtime.GOMAXPROCS(0) != test.want {
			t.Errorf("%s: %d after %d, want %d", test.name, runtime.GOMAXPROCS(0), test.before, test.want)
		}
	}
	if authn.HashWorkers() > max(1, runtime.NumCPU()/2) {
		t.Errorf("%d passwords are hashed at once on %d processors", authn.HashWorkers(), runtime.NumCPU())
	}
}
