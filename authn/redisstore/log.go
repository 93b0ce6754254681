package redisstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"gatehouse/authn"
)

// Log is an authn.RevocationLog in Redis. It finds out what Redis has lost; it
// is the list above it that still has it.
type Log struct {
	options Options
	keys    []string // set, changes, epoch
	settle  time.Duration

	mu      sync.Mutex
	current redis.UniversalClient
	closed  bool
	// unwritten is when a server was first seen that could not write down when
	// that was.
	unwritten map[string]time.Time
}

const (
	pageSize      = authn.RevocationPage // of the changes
	scanSize      = 5000                 // of the set
	changesLength = 10000                // who is further behind reads the set again
	// blockFor is how long one XREAD waits. A blocked read does not notice that
	// the changes were deleted, so this bounds how long a loss goes unseen.
	blockFor = 400 * time.Millisecond
	// settleTime is how long a set that is new, or on a server that is, may
	// still lack what other gateways are putting back.
	settleTime = 2 * time.Second
)

var (
	//go:embed look.lua
	lookText string
	//go:embed append.lua
	appendText string

	lookScript   = redis.NewScript(lookText)
	appendScript = redis.NewScript(appendText)
)

// errMalformed is an answer that is not one to what was asked. The connection
// may be out of step, and all of them are given up.
var errMalformed = errors.New("redis: the answer is not one to what was asked")

// New makes a Log. It reaches nobody yet: Redis may come later.
func New(o Options) (*Log, error) {
	client, err := o.open()
	if err != nil {
		return nil, err
	}
	if o.Prefix == "" {
		o.Prefix = "gatehouse"
	}
	var keys []string
	for _, name := range []string{"revoked", "changes", "epoch"} {
		keys = append(keys, "{"+o.Prefix+"}:"+name)
	}
	return &Log{options: o, keys: keys, settle: settleTime, current: client, unwritten: map[string]time.Time{}}, nil
}

// Close ends all connections.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return l.current.Close()
}

func (l *Log) client() redis.UniversalClient {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// reconnect gives up all connections of a client that was answered nonsense.
func (l *Log) reconnect(old redis.UniversalClient) {
	fresh, err := l.options.open()
	if err != nil {
		return // it could be opened before
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.current != old {
		fresh.Close()
		return
	}
	l.current = fresh
	old.Close()
}

// Append returns once Redis has recorded r. Whether that survives a crash is up
// to Redis; while a gateway runs that knew of r, it is put back.
func (l *Log) Append(ctx context.Context, r authn.Revocation) error {
	return l.add(ctx, []authn.Revocation{r}, 0)
}

// PutBack records what Redis has lost.
func (l *Log) PutBack(ctx context.Context, list []authn.Revocation) error {
	more := time.Duration(0)
	if len(list) >= pageSize {
		more = l.settle // gateways that start now wait for the rest
	}
	for part := range slices.Chunk(list, pageSize) {
		if err := l.add(ctx, part, more); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) add(ctx context.Context, list []authn.Revocation, more time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	echo := nonce()
	args := []any{echo, changesLength, more.Milliseconds()}
	for _, r := range list {
		args = append(args, member(r), score(r), nonce())
	}
	client := l.client()
	got, err := appendScript.Run(ctx, client, l.keys, args...).Result()
	if err == nil && got != echo {
		l.reconnect(client)
		err = errMalformed
	}
	if err != nil {
		return fmt.Errorf("redis: record revocation: %w", err)
	}
	return nil
}

// Read returns what follows cursor. It returns after wait and two calls at the
// latest, whatever becomes of the server.
func (l *Log) Read(ctx context.Context, cursor string, wait time.Duration) ([]authn.Revocation, string, error) {
	if cursor == "" {
		return l.load(ctx, place{loading: true})
	}
	p, err := parsePlace(cursor)
	if err != nil {
		return nil, "", err
	}
	if p.loading {
		return l.load(ctx, p)
	}
	deadline := time.Now().Add(wait)
	for {
		entries, next, err := l.follow(ctx, p)
		rest := time.Until(deadline)
		if len(entries) > 0 || err != nil && !errors.Is(err, authn.ErrLogUnsettled) || rest <= 0 {
			return entries, next.String(), err
		}
		p = next
		if err := l.wake(ctx, p, min(rest, blockFor)); err != nil {
			return nil, "", err
		}
		// Waiting in several steps only looks for losses in between; one that is
		// not settled tells so at once.
		if err != nil {
			deadline = time.Now()
		}
	}
}

// follow is one look at what came after p.
func (l *Log) follow(ctx context.Context, p place) ([]authn.Revocation, place, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	echo := nonce()
	client := l.client()
	seen, err := l.look(lookScript.Run(ctx, client, l.keys, l.lookArgs(echo, p)...), client, echo)
	switch {
	case err != nil:
		return nil, p, fmt.Errorf("redis: read revocations: %w", err)
	case seen.gap || seen.epoch != p.epoch:
		return nil, p, authn.ErrLogGap
	}
	p.id, p.nonce = seen.id(p.id, p.nonce)
	if seen.unsettled > 0 {
		err = authn.ErrLogUnsettled
	}
	return seen.entries, p, err
}

// wake returns when something was appended behind p, or after wait. What that
// is, is not believed: the server may be another than the last one.
func (l *Log) wake(ctx context.Context, p place, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait+callTimeout)
	defer cancel()
	err := l.client().XRead(ctx, &redis.XReadArgs{
		Streams: []string{l.keys[1], p.id}, Count: 1, Block: max(wait, time.Millisecond),
	}).Err()
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("redis: wait for revocations: %w", err)
	}
	return nil
}

// load reads one page of the set. The first page and the place from which
// reading goes on afterwards are of the same instant.
func (l *Log) load(ctx context.Context, p place) ([]authn.Revocation, string, error) {
	for {
		var entries []authn.Revocation
		var err error
		if entries, p, err = l.page(ctx, p); err != nil {
			return nil, "", err
		}
		if len(entries) > 0 {
			return entries, p.String(), nil
		}
		if !p.loading {
			entries, next, err := l.follow(ctx, p)
			return entries, next.String(), err
		}
	}
}

func (l *Log) page(ctx context.Context, p place) ([]authn.Revocation, place, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*callTimeout)
	defer cancel()
	echo := nonce()
	client := l.client()
	// One step, so that it is known which server both are of.
	pipe := client.TxPipeline()
	looked := pipe.Eval(ctx, lookText, l.keys, l.lookArgs(echo, place{})...)
	// From the latest expiry down: what expires and goes meanwhile is at the
	// end, and what is added or lives longer only moves others to where they
	// are still to come. (ZSCAN takes three times as long over the scores.)
	scanned := pipe.ZRevRangeWithScores(ctx, l.keys[0], p.scan, p.scan+scanSize-1)
	if _, err := pipe.Exec(ctx); err != nil {
		// EXECABORT says only that one of the commands was refused.
		for _, refused := range []error{looked.Err(), scanned.Err()} {
			if refused != nil && !strings.HasPrefix(refused.Error(), "EXECABORT") {
				err = refused
				break
			}
		}
		return nil, p, fmt.Errorf("redis: load revocations: %w", err)
	}
	seen, err := l.look(looked, client, echo)
	if err != nil {
		return nil, p, fmt.Errorf("redis: load revocations: %w", err)
	}
	if p.id == "" {
		p.id, p.nonce, p.epoch, p.run = seen.last, seen.lastNonce, seen.epoch, seen.run
	} else if p.run != seen.run || p.epoch != seen.epoch {
		return nil, p, authn.ErrLogGap
	}
	list, err := scanned.Result()
	if err != nil {
		return nil, p, fmt.Errorf("redis: load revocations: %w", err)
	}
	entries := make([]authn.Revocation, 0, len(list))
	now := time.Now()
	for _, z := range list {
		name, _ := z.Member.(string)
		r, ok, err := parseMember(name, z.Score)
		if err != nil {
			return nil, p, err
		}
		if ok && r.Expires.Add(authn.RevocationMargin).After(now) {
			entries = append(entries, r)
		}
	}
	p.scan, p.loading = p.scan+scanSize, len(list) == scanSize
	return entries, p, nil
}

func (l *Log) lookArgs(echo string, p place) []any {
	return []any{echo, p.id, p.nonce, pageSize, l.settle.Milliseconds(), nonce()}
}

// A sight is what look.lua returned.
type sight struct {
	run, epoch      string
	last, lastNonce string // of the changes
	gap             bool
	unsettled       time.Duration
	entries         []authn.Revocation
	atID, atNonce   string
}

func (s sight) id(id, nonce string) (string, string) {
	if s.atID == "" {
		return id, nonce
	}
	return s.atID, s.atNonce
}

// look reads the reply of look.lua.
func (l *Log) look(cmd *redis.Cmd, client redis.UniversalClient, echo string) (sight, error) {
	const head = 7
	f, err := cmd.StringSlice()
	if err != nil {
		// A refusal of the server, or a connection that broke. Anything else is
		// an answer of another kind.
		var refused redis.Error
		if _, answered := cmd.Val().([]any); cmd.Err() == nil && (answered || !errors.As(err, &refused)) {
			l.reconnect(client)
			err = errors.Join(errMalformed, err)
		}
		return sight{}, err
	}
	if len(f) < head || (len(f)-head)%4 != 0 || f[0] != echo {
		l.reconnect(client)
		return sight{}, errMalformed
	}
	wait, err := strconv.ParseInt(f[4], 10, 64)
	if err != nil {
		return sight{}, errMalformed
	}
	s := sight{run: f[2], epoch: f[3], last: f[5], lastNonce: f[6], unsettled: time.Duration(wait) * time.Millisecond}
	switch f[1] {
	case "ok":
	case "gap":
		s.gap = true
	case "unwritten":
		s.unsettled = l.sinceSeen(s.run)
	default:
		return sight{}, errMalformed
	}
	rest := f[head:]
	for ; len(rest) > 0; rest = rest[4:] {
		s.atID, s.atNonce = rest[0], rest[3]
		if rest[1] == "" {
			continue // the beginning of an epoch
		}
		expires, err := strconv.ParseFloat(rest[2], 64)
		if err != nil {
			return sight{}, fmt.Errorf("revocation %q with score %q: want a time", rest[1], rest[2])
		}
		r, ok, err := parseMember(rest[1], expires)
		if err != nil {
			return sight{}, err
		}
		if ok {
			s.entries = append(s.entries, r)
		}
	}
	return s, nil
}

// sinceSeen is how long to wait for a server that takes no writes.
func (l *Log) sinceSeen(run string) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	first, ok := l.unwritten[run]
	if !ok {
		first = time.Now()
		clear(l.unwritten)
		l.unwritten[run] = first
	}
	return max(0, l.settle-time.Since(first))
}
