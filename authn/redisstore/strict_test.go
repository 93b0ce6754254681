package redisstore

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/authn"
)

// Strict: what was acknowledged anywhere is refused everywhere, at once, and
// requests that come together share the round trips.
func TestStrict(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	a := startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{})
	b := startGateway(t, Options{URL: s.url()}, authn.RevocationPolicy{Strict: true})
	a.awaitReady()
	b.awaitReady()
	for i := range 300 {
		id := fmt.Sprint("t", i)
		must(t, a.revoke(id))
		if b.check(id) == nil { // or there was no verdict in time, on a slow machine
			t.Fatalf("%s was revoked and is accepted", id)
		}
		eventually(t, "a verdict", func() bool { return b.refuses(id) })
	}
	calls := func() int64 {
		n := int64(0)
		for line := range strings.Lines(s.admin("INFO", "commandstats").String()) {
			if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:calls="); ok {
				fmt.Sscan(rest, &n)
			}
		}
		return n
	}
	before, end := calls(), time.Now().Add(time.Minute)
	var together sync.WaitGroup
	var failed atomic.Int64
	for range 2000 {
		together.Go(func() {
			err := b.check("good")
			for errors.Is(err, authn.ErrRevocation) && time.Now().Before(end) {
				err = b.check("good") // there was no verdict in time
			}
			if err != nil {
				failed.Add(1)
			}
		})
	}
	together.Wait()
	if n := calls() - before; n > 1000 || failed.Load() > 0 {
		t.Errorf("%d round trips for 2000 requests, %d failed", n, failed.Load())
	}
}
