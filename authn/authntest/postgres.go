//go:build unix

package authntest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Postgres is a real PostgreSQL server on a free port of the loopback, with a
// cluster of its own, whose superuser is "gatehouse".
type Postgres struct {
	Password string

	t    testing.TB
	data string
	port string
	run  *syscall.Credential // nil: as whoever runs the tests
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// postgresTime is how long anything about the server may take.
const postgresTime = 30 * time.Second

// StartPostgres makes a cluster and serves it until the test ends. The test is
// skipped where PostgreSQL is not installed.
func StartPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	initdb := postgresProgram(t, "initdb")
	p := &Postgres{Password: "s3cr3t/p@ss:word?", t: t, data: filepath.Join(t.TempDir(), "cluster")}
	if err := os.Mkdir(p.data, 0o700); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 { // PostgreSQL does not run as root
		p.run = credential(t, "postgres", "nobody")
		if err := os.Chown(p.data, int(p.run.Uid), int(p.run.Gid)); err != nil {
			t.Fatal(err)
		}
		// The folder above belongs to root alone in some places.
		for dir := filepath.Dir(p.data); dir != filepath.Dir(os.TempDir()) && len(dir) > 1; dir = filepath.Dir(dir) {
			if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
				if err := os.Chmod(dir, info.Mode().Perm()|0o001); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	password := p.data + ".password"
	if err := os.WriteFile(password, []byte(p.Password+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), postgresTime)
	defer cancel()
	cmd := p.command(ctx, initdb, "-D", p.data, "-U", "gatehouse", "--pwfile", password, "-A", "scram-sha-256",
		"-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions", "--wal-segsize=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	conf, err := os.OpenFile(filepath.Join(p.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conf, "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nshared_buffers = 16MB\n"+
		"log_statement = none\n%s\n", strings.Join(settings, "\n"))
	if err := conf.Close(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, p.port, _ = net.SplitHostPort(l.Addr().String())
	l.Close()
	p.Start()
	t.Cleanup(func() { p.Stop() })
	return p
}

func (p *Postgres) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = p.data
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.run}
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	return cmd
}

// Start serves the cluster again after Stop or Kill, on the same port.
func (p *Postgres) Start() {
	p.t.Helper()
	p.cmd = p.command(context.Background(), postgresProgram(p.t, "postgres"), "-D", p.data, "-p", p.port)
	log, err := os.OpenFile(p.data+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	for end := time.Now().Add(postgresTime); ; time.Sleep(20 * time.Millisecond) {
		// The server itself says in this file when it takes connections.
		pid, _ := os.ReadFile(filepath.Join(p.data, "postmaster.pid"))
		lines := strings.Split(string(pid), "\n")
		if len(lines) > 7 && lines[0] == strconv.Itoa(p.cmd.Process.Pid) && strings.TrimSpace(lines[7]) == "ready" {
			return
		}
		select {
		case <-p.done:
			text, _ := os.ReadFile(p.data + ".log")
			p.t.Fatalf("postgres has ended:\n%s", text)
		default:
		}
		if time.Now().After(end) {
			p.t.Fatal("postgres does not begin to serve")
		}
	}
}

// Stop ends the server in order, dropping its clients.
func (p *Postgres) Stop() { p.end(syscall.SIGINT) }

// Kill ends the server and all its processes as a power failure does.
func (p *Postgres) Kill() {
	for _, pid := range p.backends() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	p.end(syscall.SIGKILL)
}

func (p *Postgres) end(sig syscall.Signal) {
	p.t.Helper()
	select {
	case <-p.done:
		return
	default:
	}
	p.Resume()
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Errorf("stop postgres: %v", err)
	}
	select {
	case <-p.done:
	case <-time.After(postgresTime):
		_ = p.cmd.Process.Kill()
		<-p.done
		p.t.Error("postgres did not end and was killed")
	}
}

// Pause stops all of the server's processes where they are: connections stay
// open, new ones are taken by the system, and nothing is answered.
func (p *Postgres) Pause() { p.signal(syscall.SIGSTOP) }

// Resume lets them go on.
func (p *Postgres) Resume() { p.signal(syscall.SIGCONT) }

func (p *Postgres) signal(sig syscall.Signal) {
	for _, pid := range append([]int{p.cmd.Process.Pid}, p.backends()...) {
		_ = syscall.Kill(pid, sig) // one may have ended since
	}
}

// backends are the processes that the server has started.
func (p *Postgres) backends() []int {
	var found []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue
		}
		// PID (NAME) STATE PPID …
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(p.cmd.Process.Pid) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat))); err == nil {
				found = append(found, pid)
			}
		}
	}
	return found
}

// URL names a database of the server.
func (p *Postgres) URL(database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword("gatehouse", p.Password),
		Host: "127.0.0.1:" + p.port, Path: "/" + database, RawQuery: "sslmode=disable"}
	return u.String()
}

// Put writes a file into the cluster's folder, for the server alone to read.
func (p *Postgres) Put(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.data, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if p.run == nil {
		return
	}
	if err := os.Chown(path, int(p.run.Uid), int(p.run.Gid)); err != nil {
		p.t.Fatal(err)
	}
}

// Port is where it listens.
func (p *Postgres) Port() string { return p.port }

func credential(t testing.TB, names ...string) *syscall.Credential {
	for _, name := range names {
		if u, err := osuser.Lookup(name); err == nil {
			uid, _ := strconv.ParseUint(u.Uid, 10, 32)
			gid, _ := strconv.ParseUint(u.Gid, 10, 32)
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		}
	}
	t.Fatalf("no user of the names %v", names)
	return nil
}

// postgresProgram is where PostgreSQL's own programs are: Debian keeps them out
// of PATH.
func postgresProgram(t testing.TB, name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(paths) == 0 {
		t.Skipf("%s is not installed: make setup, as root", name)
	}
	slices.Sort(paths)
	return paths[len(paths)-1]
}
