package config

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// watching runs a watcher over files. changed waits for one call; still makes
// sure that there was none after two further looks.
type watching struct {
	t             *testing.T
	calls, looked chan struct{}
}

func watch(t *testing.T, poll time.Duration, files ...string) *watching {
	t.Helper()
	w := &watching{t: t, calls: make(chan struct{}, 100), looked: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	began, ended := make(chan struct{}), make(chan error, 1)
	first := true
	real := &watcher{
		files: func() []string {
			if first {
				first = false
				defer close(began)
			}
			return files
		},
		changed: func() { w.calls <- struct{}{} },
		looked: func() {
			select {
			case w.looked <- struct{}{}:
			default:
			}
		},
		quiet: 5 * time.Millisecond, absent: 30 * time.Millisecond, poll: poll,
	}
	go func() { ended <- real.run(ctx) }()
	<-began
	if poll < time.Hour {
		w.look()
	}
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Log(err)
		}
	})
	return w
}

func (w *watching) look() {
	w.t.Helper()
	select {
	case <-w.looked:
	case <-time.After(20 * time.Second):
		w.t.Fatal("the watcher does not look any more")
	}
}

func (w *watching) changed() {
	w.t.Helper()
	select {
	case <-w.calls:
	case <-time.After(20 * time.Second):
		w.t.Fatal("the change was not seen")
	}
}

func (w *watching) still() {
	w.t.Helper()
	for range 5 {
		w.look()
	}
	select {
	case <-w.calls:
		w.t.Fatal("changed was called although the contents are the same")
	default:
	}
}

const oftenEnough = 10 * time.Millisecond

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWatchContents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	write(t, path, "a")
	w := watch(t, oftenEnough, path)
	write(t, path, "b")
	w.changed()
	write(t, path, "b") // the same again is no change
	must(t, os.Chtimes(path, time.Now(), time.Now()))
	w.still()

	other := path + ".new" // an editor's rename-over
	write(t, other, "c")
	must(t, os.Rename(other, path))
	w.changed()
	w.still()

	must(t, os.Remove(path))
	w.changed()
	write(t, path, "d")
	w.changed()
}

func TestWatchKubernetes(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"one", "two"} {
		must(t, os.Mkdir(filepath.Join(dir, ".."+version), 0o700))
		write(t, filepath.Join(dir, ".."+version, "gateway.yaml"), version)
	}
	data, path := filepath.Join(dir, "..data"), filepath.Join(dir, "gateway.yaml")
	must(t, os.Symlink("..one", data))
	must(t, os.Symlink("..data/gateway.yaml", path))
	w := watch(t, oftenEnough, path)
	must(t, os.Symlink("..two", data+".new"))
	must(t, os.Rename(data+".new", data))
	w.changed()
	write(t, filepath.Join(dir, "..two", "gateway.yaml"), "three")
	w.changed()
}

// Events alone are enough: with this interval nothing is ever polled.
func TestWatchEvents(t *testing.T) {
	dir := t.TempDir()
	path, secret := filepath.Join(dir, "gateway.yaml"), filepath.Join(dir, "secret")
	write(t, path, "a")
	write(t, secret, "s")
	w := watch(t, 24*time.Hour, path, secret)
	// The folder is watched a moment after files is asked first, so the
	// change is made until it is seen.
	for text := "b"; ; text += "b" {
		write(t, secret, text)
		select {
		case <-w.calls:
			return
		case <-time.After(50 * time.Millisecond):
		}
		if len(text) > 400 {
			t.Fatal("the change was not seen")
		}
	}
}

func TestWatchFoldersOf(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(dir, "releases/1"), 0o700))
	must(t, os.Symlink("releases/1", filepath.Join(dir, "current")))
	must(t, os.Symlink("loop", filepath.Join(dir, "loop")))
	found := map[string]bool{}
	foldersOf(filepath.Join(dir, "current/gateway.yaml"), found)
	for _, want := range []string{"", "current", "releases/1"} {
		if !found[filepath.Join(dir, want)] {
			t.Errorf("foldersOf(current/gateway.yaml) = %v, want %q in it", found, want)
		}
	}
	foldersOf(filepath.Join(dir, "loop"), found) // ends
}

// A file that could block its reader is never opened, and one that is not
// there is no reason to stop.
func TestWatchOddFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "absent")
	w := watch(t, oftenEnough, path, dir)
	w.still()
	write(t, path, "now")
	w.changed()
}

func TestWatchReturns(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Watch(ctx, func() []string { return nil }, func() {}); err != nil && !slices.Contains([]string{"too many open files"}, err.Error()) {
		t.Errorf("Watch = %v, want nil", err)
	}
}
