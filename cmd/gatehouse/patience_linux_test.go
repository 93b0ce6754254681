package main

import (
	"io"
	"net/http"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/config"
)

// The system looks after a connection that stays.
func TestSocketOptions(t *testing.T) {
	f := startFront(t, config.Limits{IdleTimeout: 90 * time.Second}, nil, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	})
	c := dial(t, f)
	if status, _, err := c.ask(simpleRequest); status != 200 {
		t.Fatal(status, err)
	}
	var conn *watched
	await(t, 10*time.Second, "the connection to be idle", func() bool {
		f.gate.mu.Lock()
		defer f.gate.mu.Unlock()
		for _, n := range f.gate.crowds {
			conn = n.oldest
		}
		return conn != nil
	})
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for what, option := range map[string]struct{ level, name, want int }{
		"SO_KEEPALIVE":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		"TCP_KEEPIDLE":     {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		"TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, tcpUserTimeout, 90000},
	} {
		var got int
		var failed error
		if err := raw.Control(func(fd uintptr) { got, failed = unix.GetsockoptInt(int(fd), option.level, option.name) }); err != nil || failed != nil {
			t.Fatal(err, failed)
		}
		if got != option.want {
			t.Errorf("%s is %d, want %d", what, got, option.want)
		}
	}
}
