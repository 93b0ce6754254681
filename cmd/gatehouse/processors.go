package main

import (
	"runtime"

	"gatehouse/authn"
)

// startProcessors lets passwords be hashed beside requests, with as many threads more
// as hash at once, where the environment (GOMAXPROCS) does not say otherwise.
//
// Hashing takes 50 ms at cost 10, 200 at 12, and blocks for nothing: Go lets the next
// goroutine have its processor after ten milliseconds, and looks for what has arrived
// from the network as seldom. The system is much quicker to share out its processors.
// On one of them, honest clients' p99 in a login flood was 42 ms without, 7 with; on
// two, 4.2 and 4.1. Without hashing it costs nothing (cmd/loadtest).
//
// A container with fewer processors than the machine has is another matter: the system
// stops it for the rest of every tenth of a second when it takes more. Go goes by that
// and may change its mind later, which it does no more when told a number.
func (a *app) startProcessors() {
	if _, set := a.lookup("GOMAXPROCS"); set || runtime.GOMAXPROCS(0) != runtime.NumCPU() {
		return
	}
	runtime.GOMAXPROCS(runtime.NumCPU() + authn.HashWorkers())
}
