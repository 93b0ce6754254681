package authn

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ask looks up the sessions of those whose token has expired. It is one
// goroutine, so that a slow database gets one question at a time.
func (w *Watch) ask(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.asks:
		}
		w.mu.Lock()
		asked := w.asked
		w.asked = nil
		w.mu.Unlock()
		// Tabs of one browser share a session.
		type account struct{ session, user string }
		of := make(map[account][]*Watched)
		for _, s := range asked {
			k := account{s.Identity.Session, s.Identity.ID}
			of[k] = append(of[k], s)
		}
		for _, streams := range of {
			until, err := w.look(ctx, streams[0].Identity)
			if ctx.Err() != nil {
				return
			}
			for _, s := range streams {
				w.answered(s, until, err)
			}
		}
	}
}

func (w *Watch) look(ctx context.Context, id *Identity) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	return w.alive(ctx, id)
}

// answered goes on watching s, or ends it if its session is over.
func (w *Watch) answered(s *Watched, until time.Time, err error) {
	w.mu.Lock()
	next, again := s.nextQuestion(w.now(), until, err)
	if again = again && s.on; again {
		w.arm(s, next)
	}
	w.mu.Unlock()
	if !again {
		w.end(s, EndExpired, endExpired(fmt.Sprintf("token expired, and its session: %v", err)))
	}
}

// nextQuestion takes an answer about the session of s and tells when to ask
// again, if at all. The caller holds Watch.mu.
func (s *Watched) nextQuestion(now, until time.Time, err error) (time.Time, bool) {
	soonest := now.Add(watchPause) // not at once, whatever the answer was
	switch {
	case err == nil:
		s.unsure, s.gone = time.Time{}, false
		if until.Before(soonest) {
			until = soonest
		}
		return until, true
	case errors.Is(err, ErrSessionNotFound):
		// A logout elsewhere may have reached the sessions and be on its way to
		// the list still: then it is the reason.
		wait := s.OnRevoke && !s.gone
		s.gone = true
		return soonest, wait
	}
	if s.unsure.IsZero() {
		s.unsure = now
	}
	return soonest, now.Sub(s.unsure) < unsureFor
}
