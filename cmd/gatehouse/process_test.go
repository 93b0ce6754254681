package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is something that runs beside the test and ends with it.
type process struct {
	name   string
	pid    int
	output *lockedBuffer
	done   chan struct{} // closed when it has ended
}

// startIn starts a program in dir. When the test ends the program is asked to
// end, and killed ten seconds later; its output is shown if the test failed.
func startIn(t *testing.T, dir string, attr *syscall.SysProcAttr, name string, args ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = attr
	return start(t, cmd)
}

// start starts cmd as startIn does. Its Stderr may have been set.
func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: filepath.Base(cmd.Path), output: &lockedBuffer{}, done: make(chan struct{})}
	cmd.Stdout = p.output
	if cmd.Stderr == nil {
		cmd.Stderr = p.output
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = cmd.Process.Pid
	go func() {
		defer close(p.done)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() { // the context is done by now
		<-p.done
		if t.Failed() {
			t.Logf("%s wrote:\n%s", p.name, p.output)
		}
	})
	return p
}

// awaitAnswer returns once url answers with anything below 500.
func (p *process) awaitAnswer(t *testing.T, url string) {
	t.Helper()
	client := plainClient()
	client.Timeout = time.Second
	await(t, 60*time.Second, p.name+" to answer", func() bool {
		select {
		case <-p.done:
			t.Fatalf("%s has ended:\n%s", p.name, p.output)
		default:
		}
		res, err := client.Get(url)
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode < 500
	})
}

// await asks again until another process has come to where it should be: the
// only kind of waiting in these tests.
func await(t *testing.T, within time.Duration, what string, reached func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !reached(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v for %s", within, what)
		}
	}
}

// freePorts are ports of the loopback that nothing listens on, each another.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	ports := make([]string, n)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, ports[i], err = net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
	}
	return ports
}

// need is the path of a program that the machine must have. `make setup`
// installs them all, and .ci/run takes a skip for a failure.
func need(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if errors.Is(err, exec.ErrNotFound) {
		t.Skipf("%s is not installed: make setup, as root", program)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// root is the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// copyExample copies a folder of examples/ and replaces addresses in it. Each
// must be there, so that the example and its test cannot drift apart.
func copyExample(t *testing.T, name string, replace ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(root(t), "examples", name))); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(replace); i += 2 {
		found := false
		for _, file := range files {
			if info, err := os.Stat(file); err != nil || info.IsDir() || filepath.Ext(file) == ".md" {
				continue
			}
			if text := readFile(t, file); strings.Contains(text, replace[i]) {
				writeFile(t, file, strings.ReplaceAll(text, replace[i], replace[i+1]))
				found = true
			}
		}
		if !found {
			t.Fatalf("examples/%s does not mention %q", name, replace[i])
		}
	}
	return dir
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func writeFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A lockedBuffer takes a process' output while the test may read it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
