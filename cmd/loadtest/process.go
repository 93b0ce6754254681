package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A process is one contender, or its upstream: a program and all that it
// starts.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	log  string        // file of what it says
}

// start runs a program until stop. What it says goes into a file in dir.
func start(dir, name string, arguments ...string) (*process, error) {
	log, err := os.CreateTemp(dir, filepath.Base(name)+"-*.log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &process{cmd: exec.Command(name, arguments...), done: make(chan struct{}), log: log.Name()}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, log, log
	// A group of its own, so that an interrupt reaches this program only, and
	// the end of this program all of it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait() // how it ends does not matter
		close(p.done)
	}()
	return p, nil
}

// stop ends the process and waits for its end.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.done:
	case <-time.After(5 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// said is the end of what the process has said, for errors.
func (p *process) said() string {
	data, _ := os.ReadFile(p.log)
	return strings.TrimSpace(string(data[max(0, len(data)-1000):]))
}

// await calls ready until it is nil.
func (p *process) await(ctx context.Context, ready func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		err := ready()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", err)
		case <-p.done:
			return errors.New("ended: " + p.said())
		case <-time.After(time.Millisecond):
		}
	}
}

// usage is what a process and its children have used.
type usage struct {
	cpu time.Duration
	rss int // bytes resident
}

// usage reads /proc. A child that has ended is no longer counted.
func (p *process) usage() (usage, error) {
	var u usage
	found := false
	for _, pid := range family(p.cmd.Process.Pid) {
		one, err := usageOf(pid)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return u, err
		}
		u.cpu, u.rss, found = u.cpu+one.cpu, u.rss+one.rss, true
	}
	if !found {
		return u, errors.New("ended: " + p.said())
	}
	return u, nil
}

// family is a process and all that come from it.
func family(root int) []int {
	parents := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if fields, e := statFields(pid); err == nil && e == nil {
			parents[pid], _ = strconv.Atoi(fields[1])
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		for pid, parent := range parents {
			if parent == all[i] {
				all = append(all, pid)
			}
		}
	}
	return all
}

// statFields are those of /proc/PID/stat after the name, which may hold
// anything: state, parent and so on (proc(5)).
func statFields(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 22 {
		return nil, fmt.Errorf("/proc/%d/stat: %q", pid, data)
	}
	return fields, nil
}

// tick is the unit of times in /proc: USER_HZ, 100 on every architecture that
// Linux has in use.
const tick = 10 * time.Millisecond

func usageOf(pid int) (usage, error) {
	fields, err := statFields(pid)
	if err != nil {
		return usage{}, err
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	pages, err3 := strconv.Atoi(fields[21])
	// The scheduler's own count is in nanoseconds, where the kernel has one.
	cpu := time.Duration(user+system) * tick
	if exact, err := scheduled(pid); err == nil {
		cpu = exact
	}
	return usage{cpu, pages * os.Getpagesize()}, errors.Join(err1, err2, err3)
}

// scheduled adds up /proc/PID/task/*/schedstat, whose first number is the time
// on a processor. A thread that has ended would be missing: none of the
// contenders ends threads under load.
func scheduled(pid int) (time.Duration, error) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if len(files) == 0 {
		return 0, os.ErrNotExist
	}
	var sum time.Duration
	for _, file := range files {
		data, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(data), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

// freeAddress is a port of the loopback that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// raiseFileLimit makes room for thousands of connections.
func raiseFileLimit() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // fewer connections then
	}
}

func closeQuietly(c io.Closer) { _ = c.Close() }
