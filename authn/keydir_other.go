//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package authn

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lockKeyDir makes dir if it is missing and keeps other processes from making
// keys in it. There is no lock here that goes with its process, so one that is
// older than any key takes to make was left by a process that died.
func lockKeyDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make key folder: %w", err)
	}
	const stale = 30 * time.Second
	path := filepath.Join(dir, ".lock")
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
		if err == nil {
			f.Close()
			return func() { os.Remove(path) }, nil
		}
		if !os.IsExist(err) {
			return nil, fmt.Errorf("lock key folder: %w", err)
		}
		if info, err := os.Stat(path); err == nil && time.Since(info.ModTime()) > stale {
			os.Remove(path)
			continue
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// syncDir does nothing: a folder cannot be synced here, names last without.
func syncDir(string) error { return nil }
