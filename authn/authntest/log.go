package authntest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"gatehouse/authn"
)

// TestRevocationLog is what every authn.RevocationLog must pass. open makes an
// empty one. Entries are of the real time, since a log may drop expired ones.
func TestRevocationLog(t *testing.T, open func(t *testing.T) authn.RevocationLog) {
	ctx := context.Background()
	expires := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	entry := func(i int) authn.Revocation {
		return authn.Revocation{Kind: authn.RevokeToken, ID: fmt.Sprint("t", i), Expires: expires}
	}
	t.Run("what is appended is read, in order and once", func(t *testing.T) {
		log := open(t)
		want := []authn.Revocation{
			entry(0),
			{Kind: authn.RevokeUser, Issuer: "https://login.example.com/ü", ID: "a b'; --%", Generation: 1 << 40, Expires: expires},
			{Kind: authn.RevokeSession, ID: "s1", Expires: expires.Add(10 * 365 * 24 * time.Hour)},
		}
		var got []authn.Revocation
		cursor := ""
		for i, r := range want {
			must(t, log.Append(ctx, r))
			if i == 0 {
				got, cursor = drain(t, log, cursor)
			}
		}
		rest, cursor := drain(t, log, cursor)
		got = append(got, rest...)
		if len(got) != len(want) {
			t.Fatalf("read %d entries, want %d: %+v", len(got), len(want), got)
		}
		for i := range want {
			if !got[i].Expires.Equal(want[i].Expires) {
				t.Errorf("entry %d expires %v, want %v", i, got[i].Expires, want[i].Expires)
			}
			got[i].Expires = want[i].Expires
			if got[i] != want[i] {
				t.Errorf("entry %d = %+v, want %+v", i, got[i], want[i])
			}
		}
		if again, _ := drain(t, log, cursor); len(again) != 0 {
			t.Errorf("read again: %+v, want nothing", again)
		}
	})
	t.Run("waiting is woken by an entry", func(t *testing.T) {
		log := open(t)
		_, cursor, err := log.Read(ctx, "", 0)
		must(t, err)
		read := make(chan []authn.Revocation, 1)
		go func() {
			entries, _, err := log.Read(ctx, cursor, time.Minute)
			if err != nil {
				t.Errorf("Read = %v", err)
			}
			read <- entries
		}()
		must(t, log.Append(ctx, entry(1)))
		select {
		case entries := <-read:
			if len(entries) != 1 || entries[0].ID != "t1" {
				t.Errorf("Read = %+v, want t1", entries)
			}
		case <-time.After(10 * time.Second):
			t.Error("Read did not return")
		}
	})
	t.Run("waiting ends", func(t *testing.T) {
		log := open(t)
		entries, cursor, err := log.Read(ctx, "", time.Millisecond)
		if err != nil || len(entries) != 0 {
			t.Errorf("Read of an empty log = %v, %v, want nothing", entries, err)
		}
		ended, cancel := context.WithCancel(ctx)
		cancel()
		if _, _, err := log.Read(ended, cursor, time.Minute); !errors.Is(err, context.Canceled) {
			t.Errorf("Read with an ended context = %v, want context.Canceled", err)
		}
	})
	t.Run("a wrong cursor is an error", func(t *testing.T) {
		log := open(t)
		if _, _, err := log.Read(ctx, "no cursor", 0); err == nil {
			t.Error("Read took the cursor \"no cursor\"")
		}
	})
	t.Run("none is missed while others append", func(t *testing.T) {
		log := open(t)
		const n = 200
		var appending sync.WaitGroup
		defer appending.Wait()
		appending.Go(func() {
			parallel(n, func(i int) bool {
				if err := log.Append(ctx, entry(i)); err != nil {
					t.Errorf("Append = %v", err)
				}
				return true
			})
		})
		seen := make(map[string]bool)
		cursor := ""
		deadline := time.Now().Add(30 * time.Second)
		for len(seen) < n && time.Now().Before(deadline) {
			entries, next, err := log.Read(ctx, cursor, time.Second)
			must(t, err)
			for _, r := range entries {
				if seen[r.ID] {
					t.Errorf("%s was read twice", r.ID)
				}
				seen[r.ID] = true
			}
			cursor = next
		}
		if len(seen) != n {
			t.Errorf("read %d of %d entries", len(seen), n)
		}
	})
}

// drain reads until there is no more.
func drain(t *testing.T, log authn.RevocationLog, cursor string) (all []authn.Revocation, next string) {
	t.Helper()
	for {
		entries, next, err := log.Read(context.Background(), cursor, 0)
		must(t, err)
		cursor = next
		if len(entries) == 0 {
			return all, cursor
		}
		all = append(all, entries...)
	}
}
