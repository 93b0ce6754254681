package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"time"
)

// redis is a server with nothing in it but what Gatehouse keeps there.
type redis struct {
	address string
	url     string
}

// startRedis returns nil where there is no redis-server.
func (b *bench) startRedis(ctx context.Context) (*redis, error) {
	program := found("redis-server")
	if program == "" {
		return nil, nil
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	host, port, _ := net.SplitHostPort(address)
	p, err := start(b.dir, program, "--bind", host, "--port", port, "--save", "", "--appendonly", "no")
	if err != nil {
		return nil, err
	}
	b.running = append(b.running, p)
	r := &redis{address: address, url: "redis://" + address}
	return r, p.await(ctx, func() error { return r.do(ctx, []string{"PING"}) })
}

// revoke adds n tokens that nobody has to the set of revocations.
func (r *redis) revoke(ctx context.Context, prefix string, n int) error {
	until := fmt.Sprint(time.Now().Add(24 * time.Hour).Unix())
	var commands [][]string
	for i := 0; i < n; {
		add := []string{"ZADD", "{" + prefix + "}:revoked"}
		for ; i < n && len(add) < 1000; i++ {
			add = append(add, until, fmt.Sprintf("token::%022d", i))
		}
		commands = append(commands, add)
	}
	return r.do(ctx, commands...)
}

// do sends commands in the Redis protocol and wants no error for any.
func (r *redis) do(ctx context.Context, commands ...[]string) error {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", r.address)
	if err != nil {
		return err
	}
	defer closeQuietly(conn)
	_ = conn.SetDeadline(time.Now().Add(time.Minute)) // fails where reading will
	in := bufio.NewReader(conn)
	for _, words := range commands {
		var c strings.Builder
		fmt.Fprintf(&c, "*%d\r\n", len(words))
		for _, w := range words {
			fmt.Fprintf(&c, "$%d\r\n%s\r\n", len(w), w)
		}
		if _, err := conn.Write([]byte(c.String())); err != nil {
			return err
		}
		answer, err := in.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(answer, "-") {
			return fmt.Errorf("redis: %s", strings.TrimSpace(answer))
		}
	}
	return nil
}
