package main

// The attacks of TestExhaustion run as a process of their own, whose processor
// time comes after everybody else's: enemies have machines of their own. In the
// short form it gives way less, or they might get none beside other tests.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"
)

// An order is what the process is to do.
type order struct {
	Attack              string
	URL, Address, Token string
	Many                int
}

// comeTrue is how long attempts may go on, at most, for what must become of one:
// it takes long where the tests leave an enemy no processor.
const comeTrue = 30 * time.Second

// attackMain carries out the order in its argument, and prints the tally. When its
// standard input has ended, no attempt begins.
func attackMain() {
	var o order
	if err := json.Unmarshal([]byte(os.Args[1]), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, stop := context.WithCancel(context.Background())
	enough, ending := context.WithCancel(ctx)
	b := &bed{liveGateway: &liveGateway{url: o.URL}, address: o.Address, token: o.Token, many: o.Many, enough: enough}
	c := tally{Counts: map[string]int{}}
	a := attacks[slices.IndexFunc(attacks, func(a attack) bool { return a.name == o.Attack })]
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		ending()
		for end := time.Now().Add(comeTrue); !slices.Contains(a.must(), "still open") && !c.hasOne(a.must()) && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond)
		}
		stop()
	}()
	a.run(b, ctx, &c)
	if err := json.NewEncoder(os.Stdout).Encode(&c); err != nil {
		os.Exit(1)
	}
}

// attack runs a until ctx ends, and what it still waits for then, and adds to c
// what came of it.
func (b *bed) attack(t *testing.T, ctx context.Context, a attack, c *tally) {
	what, err := json.Marshal(order{a.name, b.url, b.address, b.token, b.many})
	if err != nil {
		t.Error(err)
		return
	}
	cmd := exec.CommandContext(t.Context(), "nice", "-n", strconv.Itoa(b.nice), "attack", string(what))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &said, time.Second
	until, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return
	}
	<-ctx.Done()
	until.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the attack: %v\n%s", err, &said)
		return
	}
	var came tally
	if err := json.Unmarshal(out.Bytes(), &came); err != nil {
		t.Error(err)
	}
	c.addAll(came.Counts)
}
