package main

// The attacks of TestExhaustion run as a process of their own, whose processor
// time comes after everybody else's: enemies have machines of their own.

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

// An order is what the process is to do.
type order struct {
	Attack              string
	URL, Address, Token string
	Many                int
}

// attackMain carries out the order in its argument, until its standard input
// ends, and prints the tally.
func attackMain() {
	var o order
	if err := json.Unmarshal([]byte(os.Args[1]), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	b := &bed{liveGateway: &liveGateway{url: o.URL}, address: o.Address, token: o.Token, many: o.Many}
	c := tally{Counts: map[string]int{}}
	attacks[slices.IndexFunc(attacks, func(a attack) bool { return a.name == o.Attack })].run(b, ctx, &c)
	if err := json.NewEncoder(os.Stdout).Encode(&c); err != nil {
		os.Exit(1)
	}
}

// attack runs a until ctx ends, and what it still waits for then.
func (b *bed) attack(t *testing.T, ctx context.Context, a attack) *tally {
	c := &tally{}
	what, err := json.Marshal(order{a.name, b.url, b.address, b.token, b.many})
	if err != nil {
		t.Error(err)
		return c
	}
	cmd := exec.CommandContext(t.Context(), "nice", "-n", "19", "attack", string(what))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &said, time.Second
	until, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Error(err)
		return c
	}
	<-ctx.Done()
	until.Close()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the attack: %v\n%s", err, &said)
	} else if err := json.Unmarshal(out.Bytes(), c); err != nil {
		t.Error(err)
	}
	return c
}
