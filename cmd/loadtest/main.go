// Command loadtest measures what a request through Gatehouse costs, beside a
// bare httputil.ReverseProxy and the proxies that it finds on PATH. The figures
// of the README are made with it.
//
//	go run ./cmd/loadtest                  a table of all contenders
//	go run ./cmd/loadtest -plots DIR       and plots against connections, headers and body size
//	go run ./cmd/loadtest -short -compare  a short run beside the figures in the repository
//
// # What is measured
//
// Each contender is a process of its own in front of the same upstream. Load
// comes from wrk, or from a generator of our own where there is none. In every
// round each contender has its turn; CPU is the time that its processes used in
// its turn, as the kernel counts it, divided by the requests answered. One
// machine gives 15 % more or less from one run to the next, so only figures of
// one run may be compared: a ratio is that of a contender and the bare proxy in
// the same round, and what is printed is the median of the rounds.
//
// A contender that verifies tokens must refuse a forged one with 401, or no
// figure of it is printed. Those that verify none say so in their name.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	rounds      int
	duration    time.Duration // of one contender's turn
	connections int
	only        string // comma-separated parts of names
	gatehouse   string // comma-separated binaries; "": one is built
	short       bool
	compare     bool
	save        bool
	plots       string // folder; "": none
	idle        int    // connections; 0: not measured
	revoked     int
	pin         bool
	generator   string
	profile     string
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "role" {
		if err := playRole(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "loadtest:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "loadtest:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("wrong usage")

func parseOptions(args []string, stderr io.Writer) (options, error) {
	o := options{}
	f := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.IntVar(&o.rounds, "rounds", 5, "`number` of rounds")
	f.DurationVar(&o.duration, "duration", 5*time.Second, "`time` of one contender's turn in a round")
	f.IntVar(&o.connections, "connections", 64, "`number` of kept-alive connections")
	f.StringVar(&o.only, "only", "", "measure the contenders with one of these `parts` (a,b) in their names, and the bare proxy")
	f.StringVar(&o.gatehouse, "gatehouse", "", "`binaries` to measure beside each other (a,b; default: one built from ./cmd/gatehouse)")
	f.BoolVar(&o.short, "short", false, "three short rounds of the main contenders")
	f.BoolVar(&o.compare, "compare", false, "compare with the figures of the repository; far worse ones are an error")
	f.BoolVar(&o.save, "save", false, "write the figures to compare with later")
	f.StringVar(&o.plots, "plots", "", "write plots as SVG into a `folder`")
	f.IntVar(&o.idle, "idle", 0, "also measure the memory of so `many` idle connections")
	f.IntVar(&o.revoked, "revoked", 1_000_000, "`number` of revoked tokens where there is Redis")
	f.BoolVar(&o.pin, "pin", false, "one processor for the contender, the others for all else (needs taskset)")
	f.StringVar(&o.generator, "generator", "", "`wrk` or own (default: wrk if it is there)")
	f.StringVar(&o.profile, "profile", "", "write a CPU profile of each Gatehouse under load into a `folder`")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	if f.NArg() > 0 || o.rounds < 1 || o.connections < 1 || o.duration <= 0 {
		fmt.Fprintln(stderr, "loadtest: want flags only, and at least one round, connection and moment; see -help")
		return o, errUsage
	}
	if o.pin && (runtime.NumCPU() < 2 || found("taskset") == "") {
		fmt.Fprintln(stderr, "loadtest: -pin needs two processors and taskset")
		return o, errUsage
	}
	if o.short {
		o.rounds, o.duration = 3, time.Second
	}
	return o, nil
}

// run is the program.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	raiseFileLimit()
	b, err := newBench(ctx, o, stderr)
	if err != nil {
		return err
	}
	defer b.close()
	all, err := b.contenders(ctx)
	if err != nil {
		return err
	}
	entered := b.enter(ctx, choose(all, o))
	if len(entered) == 0 {
		return errors.New("no contender could be measured")
	}
	results, err := b.run(ctx, entered)
	if err != nil {
		return err
	}
	fmt.Fprint(stdout, markdown(results, o, machine(), time.Now()))
	if o.plots != "" {
		if err := b.plot(ctx, entered, o.plots); err != nil {
			return err
		}
	}
	if o.save {
		return saveFigures(filepath.Join(b.root, figuresFile), results, machine(), time.Now())
	}
	if o.compare {
		return compareFigures(stdout, filepath.Join(b.root, figuresFile), results)
	}
	return nil
}

// choose keeps what was asked for, and the bare proxy.
func choose(all []*contender, o options) []*contender {
	var some []*contender
	for _, c := range all {
		wanted := o.only == "" && (!o.short || c.main)
		for part := range strings.SplitSeq(o.only, ",") {
			wanted = wanted || part != "" && strings.Contains(c.name, part)
		}
		if wanted || c.name == bareName {
			some = append(some, c)
		}
	}
	return some
}

// machine says where the figures come from.
func machine() string {
	model := runtime.GOARCH
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d processors (%s), %s, %s", runtime.NumCPU(), model, runtime.GOOS, runtime.Version())
}
