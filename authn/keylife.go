package authn

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"gatehouse/config"
)

// The life of a key in the gateway's own folder, as every gateway on that
// folder reckons it for itself:
//
//	made       it verifies, and is in the JWKS, from when its file is seen
//	settled    keySettles later it signs, and the key before it no longer does
//	succeeded  its successor has settled; it verifies the tokens that are out
//	retired    the last of them has expired; its file can be removed
//
// Nothing is agreed on over the network and nothing needs a reload: the times
// follow from the files alone.

const (
	// keySettles is how long a new key only verifies. It is longer than a
	// gateway can take to see the file (watchPoll in package config and the
	// reload after it, under 5 s together) and than coolDown, so that no
	// replica and no gateway that trusts this one meets a token of a key that
	// it does not know. The rest is for clocks that differ.
	keySettles = 10 * time.Second

	// keyServes is the shortest life that the tokens of a key are taken to
	// have. Longer ones are noted beside the key.
	keyServes = time.Hour

	// noteEnd is how the file beside a key is named that holds the longest life
	// of a token that it signed, where that is more than keyServes: without it,
	// a token of `gatehouse token issue --ttl 720h`, or one from before
	// access_ttl was shortened, would die with the key's retirement.
	noteEnd = ".ttl"
)

// settled reports whether all gateways know k at now.
func (k *key) settled(now time.Time) bool { return !now.Before(k.settles()) }

func (k *key) settles() time.Time {
	if k.since.IsZero() {
		return time.Time{} // of tokens.keys
	}
	return k.since.Add(keySettles)
}

// retired reports whether no token of k can be good any more.
func (k *key) retired(now time.Time) bool { return !k.until.IsZero() && !now.Before(k.until) }

// signerAt is the key that signs at now: the configured one or, until that has
// settled, the newest that has. The oldest need not settle: there is no other.
func (s *KeySet) signerAt(now time.Time) *key {
	if s.signer == nil || s.signer.settled(now) {
		return s.signer
	}
	var found *key
	for _, k := range s.keys { // the oldest first
		if k.settled(now) && (found == nil || k.algorithm == s.signer.algorithm || found.algorithm != s.signer.algorithm) {
			found = k
		}
	}
	if found == nil {
		return s.keys[0]
	}
	return found
}

// reckon sets the times of the folder's keys, which are sorted by age.
//
// A key is succeeded by a later one of its algorithm only. Gateways that are
// given another tokens.algorithm one after the other would otherwise refuse
// each other's tokens.
func (l *keyLoader) reckon() {
	for i, k := range l.set.keys {
		k.ttl = max(k.ttl, keyServes, configuredTTL(l.cfg))
		for _, next := range l.set.keys[i+1:] {
			if next.algorithm == k.algorithm {
				// The last token is signed by the slowest clock and refused by
				// the slowest clock.
				k.until = next.settles().Add(k.ttl + 2*l.cfg.Tokens.Leeway)
				break
			}
		}
	}
}

// configuredTTL is the life of what the gateway signs by itself.
func configuredTTL(cfg *config.Config) time.Duration {
	if a := cfg.Identity.Assertion; a.Enabled {
		return max(cfg.Tokens.AccessTTL, a.TTL)
	}
	return cfg.Tokens.AccessTTL
}

// note records access_ttl with the keys that sign or will, for the day on which
// it is shortened. A folder that cannot be written is no obstacle.
func (l *keyLoader) note(dir string) {
	for _, k := range l.set.keys {
		if ttl := configuredTTL(l.cfg); k.until.IsZero() && k.algorithm == l.cfg.Tokens.Algorithm && ttl > max(k.noted, keyServes) {
			if err := noteTTL(dir, k.id, ttl); err != nil {
				w := l.cfg.Problem("tokens.access_ttl", "access_ttl could not be noted with key %q: %v", k.id, err)
				w.Hint = "before it is shortened, let the tokens that are out expire"
				l.set.warnings = append(l.set.warnings, w)
			}
		}
	}
}

// serves sees to it that k verifies for ttl from now on. It must be called
// before a token of that life leaves.
func (k *key) serves(ttl time.Duration) error {
	if k.since.IsZero() || ttl <= k.ttl {
		return nil // or kept by hand, in tokens.keys
	}
	if err := noteTTL(filepath.Dir(k.file), k.id, ttl); err != nil {
		return fmt.Errorf("note life time with key %q: %w", k.id, err)
	}
	return nil
}

func notePath(dir, id string) string { return filepath.Join(dir, id+noteEnd) }

// noteTTL raises the note beside a key.
func noteTTL(dir, id string, ttl time.Duration) error {
	unlock, err := lockKeyDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	noted, err := readTTL(dir, id)
	if err != nil || noted >= ttl {
		return err
	}
	return writeWhole(notePath(dir, id), []byte(ttl.String()+"\n"))
}

// readTTL is what is noted beside a key; 0 for nothing.
func readTTL(dir, id string) (time.Duration, error) {
	path := notePath(dir, id)
	data, err := readSmall(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	ttl, err := time.ParseDuration(strings.TrimSpace(string(data)))
	if err != nil || ttl <= 0 {
		return 0, fmt.Errorf("%s: want a duration such as 720h", path)
	}
	return ttl, nil
}
