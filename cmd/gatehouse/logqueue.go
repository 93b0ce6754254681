package main

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// A logQueue writes log lines beside the requests that they are about.
//
// # Why
//
// A pipe that nobody empties blocks whoever writes to it: a log collector that
// hangs would stop every request and every login with it. So lines wait here, up
// to a limit, and those beyond it are dropped and counted.
//
// They also wait a moment for each other: a write for each line was an eighth of
// the CPU of a forwarded request with its access log.
type logQueue struct {
	w io.Writer

	mu      sync.Mutex
	changed sync.Cond // waiting, writing or closed
	waiting []byte    // whole lines
	writing bool
	closed  bool
	dropped int64

	closing chan struct{}
	ended   chan struct{}
}

const (
	// maxLogQueue is how much of the log may wait, in bytes.
	maxLogQueue = 1 << 20
	// logDelay is how long a line may wait for others.
	logDelay = 5 * time.Millisecond
	// logFarewell is how long the last lines may take when the program ends.
	logFarewell = time.Second
)

func newLogQueue(w io.Writer) *logQueue {
	q := &logQueue{w: w, closing: make(chan struct{}), ended: make(chan struct{})}
	q.changed.L = &q.mu
	go q.run()
	return q
}

// Write takes one line. It never fails and never waits for the reader.
func (q *logQueue) Write(line []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || len(q.waiting)+len(line) > maxLogQueue {
		q.dropped++
		return len(line), nil
	}
	q.waiting = append(q.waiting, line...)
	if !q.writing {
		q.changed.Broadcast()
	}
	return len(line), nil
}

// lost is how many lines were dropped so far.
func (q *logQueue) lost() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

func (q *logQueue) run() {
	defer close(q.ended)
	q.mu.Lock()
	defer q.mu.Unlock()
	var lines []byte
	for {
		for len(q.waiting) == 0 && !q.closed {
			q.changed.Wait()
		}
		if len(q.waiting) == 0 {
			return
		}
		q.mu.Unlock()
		select {
		case <-time.After(logDelay):
		case <-q.closing:
		}
		q.mu.Lock()
		lines, q.waiting, q.writing = q.waiting, lines[:0], true
		q.mu.Unlock()
		n, err := q.w.Write(lines)
		q.mu.Lock()
		if err != nil { // there is nowhere to say that the log cannot be written
			q.dropped += int64(bytes.Count(lines[n:], []byte("\n")))
		}
		q.writing = false
	}
}

// close writes what waits, unless that takes too long, and takes no more.
func (q *logQueue) close() {
	q.mu.Lock()
	q.closed = true
	close(q.closing)
	q.changed.Broadcast()
	q.mu.Unlock()
	select {
	case <-q.ended:
	case <-time.After(logFarewell):
	}
}
