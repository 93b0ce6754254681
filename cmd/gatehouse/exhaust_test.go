package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// An attack wants the gateway to run out of something.
type attack struct {
	name string
	run  func(*bed, context.Context, *tally)
	// What may become of an attempt, as the README says; the first must, in one of
	// two words: a client that goes on sending may miss the last frame.
	outcomes []string
	tls      bool
	unread   bool // nobody reads the log
	patience bool // it is for the gateway to lose patience: its limits are short
	scarce   bool // there are few files, and the limits are the usual ones
	many     int  // connections, in the short form and in the long; 0: 30 and 200
	manyLong int
}

var attacks = []attack{
	{name: "slow heads", run: (*bed).slowHeads, outcomes: []string{"closed"}, patience: true},
	{name: "slow TLS handshakes", run: (*bed).slowHandshakes, outcomes: []string{"closed"}, tls: true, patience: true},
	{name: "slow uploads", run: (*bed).slowUploads, outcomes: []string{"still open"}},
	{name: "slow logins", run: (*bed).slowLogins, outcomes: []string{"400"}, patience: true},
	{name: "slow readers", run: (*bed).slowReaders, outcomes: []string{"closed"}, patience: true},
	{name: "idle connections", run: (*bed).idle, outcomes: []string{"closed", "200", gaveWay}, patience: true, many: 300, manyLong: 10000},
	{name: "header flood", run: (*bed).headerFlood, outcomes: []string{"431"}},
	{name: "websockets", run: (*bed).websockets, outcomes: []string{"101"}},
	{name: "login flood", run: (*bed).logins, outcomes: []string{"400 invalid_credentials", "429 too_many_attempts", "503 busy"}},
	{name: "registration flood", run: (*bed).registrations, outcomes: []string{"201", "429 too_many_attempts", "503 busy"}},
	{name: "token flood", run: (*bed).badTokens, outcomes: []string{"401 invalid_token"}},
	{name: "refresh garbage", run: (*bed).badRefreshes, outcomes: []string{"401 invalid_token"}},
	// A token may expire before its revocation.
	{name: "revocation flood", run: (*bed).revocations, outcomes: []string{"204", "200", "503 busy", "expired"}},
	{name: "log flood, log not read", run: (*bed).logFlood, outcomes: []string{"400 bad_path"}, unread: true},
	{name: "HTTP2 rapid reset", run: (*bed).rapidReset, outcomes: []string{"GOAWAY ENHANCE_YOUR_CALM or closed"}, tls: true, many: 10, manyLong: 50},
	{name: "HTTP2 made to reset", run: (*bed).madeToReset, outcomes: []string{"GOAWAY ENHANCE_YOUR_CALM or closed"}, tls: true, many: 10, manyLong: 50},
	{name: "HTTP2 CONTINUATION flood", run: (*bed).continuations, outcomes: []string{"GOAWAY PROTOCOL_ERROR or closed"}, tls: true, many: 10, manyLong: 50},
	{name: "HTTP2 header bomb", run: (*bed).bomb, outcomes: []string{"431", "still open", "closed"}, tls: true, many: 10, manyLong: 50},
	{name: "HTTP2 empty frames", run: (*bed).emptyFrames, outcomes: []string{"still open or closed"}, tls: true, many: 10, manyLong: 50},
	// net/http waits two seconds for a client's first frame.
	{name: "HTTP2 without window", run: (*bed).windowless, outcomes: []string{"still open", "closed"}, tls: true, many: 10, manyLong: 50},
	// For more connections than there are, by who keeps what he gets.
	{name: "all places, idle", run: (*bed).stay, outcomes: []string{"closed", "still open", "200"}, scarce: true, many: 300, manyLong: 300},
	{name: "all places, in handshakes", run: (*bed).stay, outcomes: []string{"closed", "still open"}, tls: true, scarce: true, many: 300, manyLong: 300},
	{name: "all places, uploads", run: (*bed).slowUploads, outcomes: []string{"still open", "503", "closed"}, scarce: true, many: 300, manyLong: 300},
	{name: "all places, websockets", run: (*bed).websockets, outcomes: []string{"101", "503", "closed"}, scarce: true, many: 300, manyLong: 300},
	{name: "all places, never idle for long", run: (*bed).refresh, outcomes: []string{"200", "503", "closed", "still open"}, scarce: true, many: 90, manyLong: 90},
	{name: "all places, three addresses", run: (*bed).together, outcomes: []string{"still open", "503", "closed"}, scarce: true, many: 100, manyLong: 100},
	{name: "all places, HTTP2 streams", run: (*bed).windowless, outcomes: []string{"still open", "503", "closed"}, tls: true, scarce: true},
}

// gaveWay is a connection that was closed for another one, as the gateway has to say.
const gaveWay = "closed for others"

// must is what has to become of one attempt at least.
func (a attack) must() []string { return strings.Split(a.outcomes[0], " or ") }

// scarceFiles leave 102 connections for clients, and as many for upstreams.
const scarceFiles = 300

// TestExhaustion: what an attack takes is given back, and honest clients are
// answered all the while. GATEHOUSE_EXHAUST, the time for each attack, makes it
// the long form, which prints a table with times: `make exhaust`.
func TestExhaustion(t *testing.T) {
	long, _ := time.ParseDuration(os.Getenv("GATEHOUSE_EXHAUST"))
	if long == 0 {
		t.Parallel()
	}
	bin := buildAsShipped(t)
	if long > 0 {
		fmt.Println("\n| attack | memory before, peak, after | files | goroutines | p50 quiet, attacked | p99 quiet, in the first 2 s of the attack, later | times | honest | outcome |")
		fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	}
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			if long == 0 && (a.patience || a.tls || a.scarce) {
				t.Parallel() // most of it is waiting
			}
			var log *os.File
			if a.unread {
				r, w, err := os.Pipe()
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close() // and nobody reads from it
				defer w.Close()
				log = w
			}
			seconds, rounds, many, nice, cost := time.Second, 1, cmp.Or(a.many, 30), 10, 4
			if long > 0 {
				// The least cost of which no gateway warns: at the usual one there are
				// fewer logins, and more of them are told that it is busy.
				seconds, rounds, many, nice, cost = long, 3, cmp.Or(a.manyLong, 200), 19, 10
			}
			b := startBed(t, bin, a, cost, log)
			b.seconds, b.many, b.nice = seconds, many, nice
			if row := b.suffer(t, a, rounds); long > 0 {
				fmt.Println(row)
			}
		})
	}
}

// suffer attacks the gateway, in as many rounds, and returns the row of the table.
// What else the machine does meets what is measured with the attack and without it
// alike, since one follows the other in each round.
func (b *bed) suffer(t *testing.T, a attack, rounds int) string {
	signsIn := slices.Contains(a.outcomes, "503 busy")
	during := func(d time.Duration, attack func(context.Context)) (*use, burden) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		under, over := context.WithCancel(t.Context()) // for as long as the attack lasts
		var seen *use
		var all sync.WaitGroup
		all.Go(func() { seen = b.honest(t, under, signsIn) })
		all.Go(func() { defer over(); attack(ctx) })
		peak := b.peak(t, under)
		all.Wait()
		return seen, peak
	}
	var before, peak, after burden
	var quiet, attacked uses
	c := &tally{Counts: map[string]int{}}
	for round := range rounds {
		seen, _ := during(b.seconds/2, func(ctx context.Context) { <-ctx.Done() })
		quiet = append(quiet, seen)
		if round == 0 {
			before = b.weigh(t, true)
		}
		seen, most := during(b.seconds, func(ctx context.Context) { b.attack(t, ctx, a, c) })
		attacked = append(attacked, seen)
		peak = peak.most(most)
		after = b.recovered(t, before, peak)
	}
	quiet.blameFor(t, "before the attack")
	attacked.blameFor(t, "under attack")
	if !c.hasOne(a.must()) {
		t.Errorf("the attack ended with %s, want %s", c, a.outcomes[0])
	}
	for what := range c.Counts {
		if !slices.Contains(strings.Split(strings.Join(a.outcomes, " or "), " or "), what) {
			t.Errorf("the attack ended with %s, want nothing but %q", c, a.outcomes)
		}
	}
	metrics, err := get(b.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if told := metricIn(t, metrics, "gatehouse_client_connections_closed_total"); c.Counts[gaveWay] > told {
		t.Errorf("%d connections were closed early, the gateway tells of %d", c.Counts[gaveWay], told)
	}
	if err := b.once(b.newClient(true)); err != nil {
		t.Errorf("after the attack: %v", err)
	}
	t.Logf("%s%s\nbefore %v\npeak   %v\nafter  %v", c, attacked.logins(), before, peak, after)
	_, quiet50 := quiet.quantile(.5)
	_, quiet99 := quiet.quantile(.99)
	_, attacked50 := attacked.quantile(.5)
	onset99, attacked99 := attacked.quantile(.99)
	return fmt.Sprintf("| %s, %d connections | %d, %d, %d MiB | %d, %d, %d | %d, %d, %d | %s, %s ms | %s, %s, %s ms | %.1f | %d | %s |", a.name, b.many,
		before.rss>>20, peak.rss>>20, after.rss>>20, before.files, peak.files, after.files, before.goroutines, peak.goroutines, after.goroutines,
		ms(quiet50), ms(attacked50), ms(quiet99), ms(onset99), ms(attacked99), float64(attacked99)/float64(max(quiet99, 1)),
		attacked.requests(), c.String()+attacked.logins())
}

// recovered waits until the gateway has given back what the attack took.
func (b *bed) recovered(t *testing.T, before, peak burden) burden {
	collect := false // not before the gateway has given back of itself
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		after := b.weigh(t, collect)
		collect = collect || after.rss <= before.rss+2*smallHeap+slack
		if collect && after.live <= before.live+slack+goroutineBytes*peak.goroutines && after.files <= before.files+8 && after.goroutines <= before.goroutines+8 {
			return after
		}
		if time.Now().After(end) {
			stacks, _ := get(b.admin + "/debug/pprof/goroutine?debug=1")
			t.Fatalf("before %v\npeak %v\nafter %v: not given back\n%.5000s", before, peak, after, stacks)
		}
	}
}

// slack is what may be kept in memory: pools, counters of the throttle, log
// lines that nobody reads.
const slack = 8 << 20

// goroutineBytes is what the runtime keeps for each goroutine that there once
// was, to use it again.
const goroutineBytes = 512
