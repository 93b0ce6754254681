//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package authn

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// lockKeyDir makes dir if it is missing and keeps other processes from making
// keys in it. The kernel drops the lock of a process that dies.
func lockKeyDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make key folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock key folder: %w", err)
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock key folder %s: %w", dir, err)
	}
	return func() { f.Close() }, nil
}

// syncDir makes the names in dir last through a power cut.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
