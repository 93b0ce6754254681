package main

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// A reader that stops reading holds up nobody. What fits is kept for it, the
// rest is counted.
func TestLogQueue(t *testing.T) {
	r, w := io.Pipe()
	q := newLogQueue(w)
	line := strings.Repeat("x", 1023) + "\n"
	const lines = 3 * maxLogQueue / 1024
	for range lines {
		if n, err := q.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	dropped := q.lost()
	kept := lines - dropped
	if dropped < lines/3 || dropped > 2*lines/3+1 {
		t.Errorf("%d of %d lines dropped, want all but what fits", dropped, lines)
	}
	read := make(chan string)
	go func() {
		all, _ := io.ReadAll(r)
		read <- string(all)
	}()
	await(t, 10*time.Second, "room in the queue", func() bool {
		dropped = q.lost()
		_, _ = q.Write([]byte("late\n"))
		return q.lost() == dropped
	})
	q.close()
	w.Close()
	got := <-read
	if n := int64(strings.Count(got, line)); n != kept || !strings.HasSuffix(got, "late\n") {
		t.Errorf("%d lines were written, want %d and the late one", n, kept)
	}
	if _, err := q.Write([]byte(line)); err != nil {
		t.Error(err)
	}
	if q.lost() != dropped+1 {
		t.Error("a line after the end was not counted")
	}
}

// An end is an end, whoever does not read.
func TestLogQueueEnds(t *testing.T) {
	r, w := io.Pipe()
	defer r.Close()
	q := newLogQueue(w)
	_, _ = q.Write([]byte("line\n"))
	q.close()
}

// countedWrites is how many Writes there were.
type countedWrites struct {
	lockedBuffer
	writes int
}

func (w *countedWrites) Write(p []byte) (int, error) {
	w.writes++ // one goroutine writes
	return w.lockedBuffer.Write(p)
}

// Lines that come together are written together, in order and each once.
func TestLogQueueGathers(t *testing.T) {
	var out countedWrites
	q := newLogQueue(&out)
	var want strings.Builder
	for i := range 1000 {
		line := strings.Repeat("x", i%7) + "\n"
		want.WriteString(line)
		if _, err := io.WriteString(q, line); err != nil {
			t.Fatal(err)
		}
	}
	q.close()
	if out.writes > 500 || out.String() != want.String() {
		t.Errorf("%d writes of %d bytes, want few of %d", out.writes, len(out.String()), want.Len())
	}
}

// A log collector that ends does not end the gateway.
func TestLogReaderGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	b := startBed(t, buildAsShipped(t), attack{}, 4, w)
	w.Close()
	if err := b.once(b.client); err != nil {
		t.Error(err)
	}
	await(t, 10*time.Second, "lines that are counted", func() bool {
		res, err := b.client.Get(b.admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		return err == nil && !strings.Contains(string(text), "gatehouse_log_lines_dropped_total 0\n")
	})
}
