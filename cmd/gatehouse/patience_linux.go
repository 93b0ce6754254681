package main

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const tcpUserTimeout = 0x12 // linux/tcp.h

// giveUpOnSilent has the system end a connection whose client takes nothing of
// what is there for it for limits.idle_timeout. The system's own patience with
// a client that keeps its window shut has no end.
func (f *front) giveUpOnSilent(conn *net.TCPConn) {
	f.mu.Lock()
	patience := f.limits.idle
	f.mu.Unlock()
	if patience <= 0 {
		return
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return // it was closed meanwhile
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(min(patience, 24*time.Hour)/time.Millisecond))
	})
}

// unsent is how many bytes the client has not acknowledged yet.
func unsent(conn *net.TCPConn) (bytes int) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { bytes, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	return bytes
}

// openFiles is how many files the process may have open.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 0
	}
	return int(limit.Cur)
}
