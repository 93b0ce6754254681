package config

import (
	"context"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	watchQuiet = 100 * time.Millisecond // after the last event, so that a half-written file is not read
	watchPoll  = 3 * time.Second        // for file systems that tell nothing
	// watchAbsent is how long a file may be away: editors and deployments
	// delete it and write it again.
	watchAbsent = time.Second
)

// Watch calls changed whenever the contents of the files differ from those of
// the call before, first from those that Watch found when it began. It returns
// when ctx ends, after the last call of changed has returned.
//
// Contents count and not events: Kubernetes replaces a symbolic link two levels
// above the file, editors rename another file over it. files is asked again
// before each look, so that it can follow a reload. The error is only known at
// the end and says that the system told nothing of changes, so that the files
// were looked at every few seconds instead.
func Watch(ctx context.Context, files func() []string, changed func()) error {
	w := &watcher{files: files, changed: changed, quiet: watchQuiet, absent: watchAbsent, poll: watchPoll}
	return w.run(ctx)
}

type watcher struct {
	files               func() []string
	changed             func()
	quiet, absent, poll time.Duration
	looked              func() // for tests: after each look
}

func (w *watcher) run(ctx context.Context) error {
	var events chan fsnotify.Event
	var errs chan error
	notify, err := fsnotify.NewWatcher()
	if err == nil {
		defer notify.Close()
		events, errs = notify.Events, notify.Errors
	}
	known := w.look(notify)
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	settle := time.NewTimer(0)
	<-settle.C
	defer settle.Stop()
	var pending *look // the difference that is waited for to settle
	for {
		select {
		case <-ctx.Done():
			return err
		case <-events:
			settle.Reset(w.quiet)
			continue
		case <-errs: // events were lost
			settle.Reset(w.quiet)
			continue
		case <-poll.C:
		case <-settle.C:
		}
		switch now := w.look(notify); {
		case now.sum == known.sum:
			pending = nil
		case pending == nil || pending.sum != now.sum:
			pending = &now
			wait := w.quiet
			if now.absent {
				wait = w.absent
			}
			settle.Reset(wait)
		default:
			known, pending = now, nil
			w.changed()
		}
		if w.looked != nil {
			w.looked()
		}
	}
}

// look is what the files held at one moment.
type look struct {
	sum    [sha256.Size]byte
	absent bool // a file could not be read
}

func (w *watcher) look(notify *fsnotify.Watcher) look {
	h := sha256.New()
	var l look
	folders := map[string]bool{}
	for _, path := range w.files() {
		sum, ok := digest(path)
		l.absent = l.absent || !ok
		io.WriteString(h, path+"\x00")
		h.Write(sum)
		foldersOf(path, folders)
	}
	h.Sum(l.sum[:0])
	if notify == nil {
		return l
	}
	for _, old := range notify.WatchList() {
		if !folders[old] {
			notify.Remove(old) // fails only if the folder is gone, and the watch with it
		}
	}
	for folder := range folders {
		notify.Add(folder) // again each time: the folder may be a new one of the same name
	}
	return l
}

// digest is a hash of a regular file; others could block.
func digest(path string) ([]byte, bool) {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil, false
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, false
	}
	return h.Sum(nil), true
}

// foldersOf adds every folder in which a change can make path another file:
// its own, and that of each symbolic link on the way.
func foldersOf(path string, folders map[string]bool) {
	path, err := filepath.Abs(path)
	if err != nil {
		return
	}
	for range 40 { // as many links as Linux follows
		folders[filepath.Dir(path)] = true
		link, target := firstLink(path)
		if link == "" {
			return
		}
		folders[filepath.Dir(link)] = true
		path = filepath.Join(target, strings.TrimPrefix(path, link))
	}
}

// firstLink is the first symbolic link in path and where it leads.
func firstLink(path string) (link, target string) {
	for i := 1; i <= len(path); i++ {
		if i < len(path) && !os.IsPathSeparator(path[i]) {
			continue
		}
		target, err := os.Readlink(path[:i])
		if err != nil {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path[:i]), target)
		}
		return path[:i], target
	}
	return "", ""
}
