// Package sqlstore keeps users, sessions and revocations in an SQL database,
// SQLite or PostgreSQL.
//
// Three words: a [Store] is the database; an engine is what the two kinds of
// database do differently; the revocation log is a table whose seq, in the
// order in which entries become visible, is the cursor.
//
// # Why
//
// Statements are what SQLite and PostgreSQL both accept: $1 placeholders, ON
// CONFLICT DO NOTHING instead of reading driver errors, times as integers, no
// type that only one of them has. Only the opening differs, the numbered
// migrations, and how either says that another came in between.
//
// Nothing waits for ever: each call has a deadline of its own, and one that the
// database did not meet is authn.ErrBusy.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"gatehouse/authn"
)

// Store is an authn.UserStore, authn.SessionStore and authn.RevocationLog. Any
// number of processes may have the same database open.
type Store struct {
	// Now is time.Now but in tests. It decides what has expired.
	Now func() time.Time

	engine engine
	name   string // of the database, without a password
	// SQLite has one writer at a time. Our own queue in line for the one
	// connection; other processes are waited for by busy_timeout. With
	// PostgreSQL both are one pool.
	write *sql.DB
	read  *sql.DB

	mu     sync.Mutex
	closed error         // why no call can succeed now; nil once the schema is there
	opened chan struct{} // closed when closed was nil for the first time
	due    time.Time     // when expired rows are dropped next
	grown  chan struct{} // closed by the next Append of this process

	lost       chan struct{} // asks keepOpen to bring up the schema again
	stop       context.CancelFunc
	background sync.WaitGroup
}

// An engine is what SQLite and PostgreSQL do differently.
type engine struct {
	migrations string        // the folder of its migrations
	exclusive  string        // the statement that lets one process at a time migrate
	turn       string        // ends the INSERT of a revocation: one at a time, in the order of seq
	forUpdate  string        // ends a SELECT of what the transaction will change
	patience   time.Duration // how long one call may take

	fit   func() error      // nil: always; else why the database must not be used
	fault func(error) fault // what sort of error of the driver it is
	// explain adds what to do to the errors that operators meet. It shows no
	// password.
	explain func(error) error
}

// A fault is what an error of the database means for a caller.
type fault int

const (
	faultBug      fault = iota // a statement or the data is wrong: it will not get better
	faultAway                  // the database cannot do it now
	faultLost                  // the tables are gone: an empty database took this one's place
	faultConflict              // another came in between: the same again will do
	faultTaken                 // a unique value is taken
)

// Open opens the database at url and creates what is missing in it. SQLite is
// "sqlite:PATH": the file gets mode 0600, missing folders 0700. PostgreSQL is
// "postgres://USER:PASSWORD@HOST/DATABASE", with parameters as libpq and pgx
// have them. The caller closes the Store.
func Open(ctx context.Context, url string) (*Store, error) {
	s, err := prepare(url)
	if err != nil {
		return nil, err
	}
	if err := s.migrate(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open users database %q: %w", s.name, err), s.Close())
	}
	s.setClosed(nil)
	return s, nil
}

// OpenLater is Open for a gateway, which goes on without a database server and
// comes good by itself: it waits for the server no longer than wait, and tries
// again behind the scenes until Close. Before that has succeeded, every call
// fails with the reason. A file is there or it is not: for SQLite it is Open.
func OpenLater(ctx context.Context, url string, wait time.Duration) (*Store, error) {
	if !isPostgres(url) {
		return Open(ctx, url)
	}
	s, err := prepare(url)
	if err != nil {
		return nil, err
	}
	// The gateway's own context ends while requests are still served.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.background.Go(func() { s.keepOpen(background) })
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-s.opened:
	case <-timer.C:
	case <-ctx.Done():
	}
	return s, nil
}

func isPostgres(url string) bool {
	scheme, _, _ := strings.Cut(url, ":")
	return scheme == "postgres" || scheme == "postgresql"
}

// prepare makes the Store of url, whose schema is not looked at yet.
func prepare(url string) (*Store, error) {
	s := &Store{
		Now:    time.Now,
		closed: errors.New("no connection was made yet"),
		opened: make(chan struct{}),
		grown:  make(chan struct{}),
		lost:   make(chan struct{}, 1),
		stop:   func() {},
	}
	if isPostgres(url) {
		return s, s.preparePostgres(url)
	}
	return s, s.prepareSQLite(url)
}

const (
	retryFirst  = 50 * time.Millisecond
	retryAtMost = time.Second
	// migrationTime is how long the schema may take, which waits for others
	// that do the same.
	migrationTime = time.Minute
)

// keepOpen brings up the schema as soon as the server can be reached, and again
// if the tables are gone, until ctx ends.
func (s *Store) keepOpen(ctx context.Context) {
	for pause := retryFirst; ctx.Err() == nil; {
		err := s.migrate(ctx)
		s.setClosed(err)
		if err == nil {
			pause = retryFirst
			select {
			case <-s.lost:
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, retryAtMost)
	}
}

func (s *Store) setClosed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = err
	if err != nil {
		return
	}
	select {
	case <-s.opened:
	default:
		close(s.opened)
	}
}

// begin bounds a call in time and says why it cannot succeed, if that is known.
func (s *Store) begin(ctx context.Context) (context.Context, context.CancelFunc, error) {
	s.mu.Lock()
	err := s.closed
	s.mu.Unlock()
	if err == nil && s.engine.fit != nil {
		err = s.engine.fit()
	}
	if err != nil {
		return nil, nil, &closedError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, s.engine.patience)
	return ctx, cancel, nil
}

// closedError is why a call was not even tried.
type closedError struct{ cause error }

func (e *closedError) Error() string { return e.cause.Error() }
func (e *closedError) Unwrap() error { return e.cause }

// explained is err in an operator's words.
func (s *Store) explained(err error) error {
	var known *closedError
	if err == nil || errors.As(err, &known) {
		return err
	}
	if s.engine.fault(err) == faultLost {
		select {
		case s.lost <- struct{}{}:
		default:
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time: %w", s.engine.explain(err))
	}
	return s.engine.explain(err)
}

// failed names the step that failed. What is no fault of the call, so that
// trying again helps, is ErrBusy.
func (s *Store) failed(step string, err error) error {
	if err == nil {
		return nil
	}
	var own *callerError
	if errors.As(err, &own) {
		return fmt.Errorf("%s: %w", step, own.error)
	}
	var known *closedError
	f := s.engine.fault(err)
	away := errors.As(err, &known) || f != faultBug && f != faultTaken || errors.Is(err, context.DeadlineExceeded)
	err = fmt.Errorf("%s: %w", step, s.explained(err))
	if away && !errors.Is(err, context.Canceled) { // cancelled: the client has left
		return authn.ErrBusy.Because(err).After(time.Second)
	}
	return err
}

// Ping reports whether the database answers, for readiness.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel, err := s.begin(ctx)
	if err == nil {
		defer cancel()
		var version int
		err = s.read.QueryRowContext(ctx, `SELECT version FROM gatehouse_schema`).Scan(&version)
	}
	if err != nil {
		return fmt.Errorf("users database %q: %w", s.name, s.explained(err))
	}
	return nil
}

// Close closes the database. It waits for statements under way.
func (s *Store) Close() error {
	s.stop()
	s.background.Wait()
	if s.read == s.write {
		return s.write.Close()
	}
	return errors.Join(s.read.Close(), s.write.Close())
}
