// Package redisstore keeps what several gateways share in Redis: the
// revocation log, and how often logins have failed.
//
// Three words: the set, {PREFIX}:revoked, is every revocation that is in force;
// the changes, {PREFIX}:changes, are a short stream of what was added to it;
// the epoch, {PREFIX}:epoch, says which set that is, by which server process it
// is kept, and from when on it can be believed. The braces keep all of them on
// one node of a Cluster.
//
// # Why
//
// Redis forgets: it is emptied, restarts from an old file, fails over to a
// replica that lags. So a reader's place in the changes is an entry that must
// still be there, word for word; then everything before it is there too. If it
// is not, the reader begins again and puts back what it holds. A gateway that
// starts just then holds nothing and cannot know what is missing: it waits
// until the others had time, which is what the epoch is for.
package redisstore

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Options say where Redis is.
type Options struct {
	URL        string   // redis://, rediss:// or unix://, with user, password and database
	Addresses  []string // HOST:PORT or rediss://HOST:PORT; instead of URL
	MasterName string   // Addresses are Sentinels, and this is what they watch
	Username   string   // instead of those in the URL
	Password   string
	// Of the Sentinels, which have users of their own.
	SentinelUsername, SentinelPassword string
	Prefix                             string // of the keys; "" is gatehouse
}

const (
	// callTimeout is how long one command may take, dialing included.
	callTimeout = time.Second
	dialTimeout = 500 * time.Millisecond
)

// quiet is for the whole process: go-redis writes to standard error what it
// also returns.
var quiet = sync.OnceFunc(logging.Disable)

// open makes a client. It reaches nobody yet.
func (o Options) open() (redis.UniversalClient, error) {
	quiet()
	u := redis.UniversalOptions{
		Addrs:      slices.Clone(o.Addresses), // go-redis appends the nodes that it finds
		MasterName: o.MasterName,
		// Several addresses are a Cluster, and so is one that stands alone in
		// the list.
		IsClusterMode: o.MasterName == "",
		Username:      o.Username,
		Password:      o.Password,

		SentinelUsername: o.SentinelUsername,
		SentinelPassword: o.SentinelPassword,

		// Without it a server that hangs holds a call for as long as
		// ReadTimeout says, whatever the context.
		ContextTimeoutEnabled: true,
		DialTimeout:           dialTimeout,
		ReadTimeout:           callTimeout,
		WriteTimeout:          callTimeout,
		PoolTimeout:           callTimeout,
		// Once more, for a connection that went stale in the pool. What fails
		// again is tried again by whoever asked.
		MaxRetries:      1,
		MinRetryBackoff: time.Millisecond,
		MaxRetryBackoff: 20 * time.Millisecond,
		DialerRetries:   1,
		PoolSize:        8,
		MaxRedirects:    3,
		// A node of a Cluster that did not answer once is asked again soon.
		FailingTimeoutSeconds: 1,

		// Nothing that the server could push, and no command at the start that
		// an ACL user may not have.
		Protocol:                 2,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	network, secure := "tcp", false
	if o.URL != "" {
		single, err := redis.ParseURL(o.URL)
		if err != nil {
			return nil, errors.New("redis URL: want redis://, rediss:// or unix://") // the cause may show the password
		}
		network, secure = single.Network, single.TLSConfig != nil
		u.Addrs, u.IsClusterMode, u.DB = []string{single.Addr}, false, single.DB
		if u.Username == "" {
			u.Username = single.Username
		}
		if u.Password == "" {
			u.Password = single.Password
		}
	}
	for i, a := range o.Addresses {
		if host, ok := strings.CutPrefix(a, "rediss://"); ok {
			secure = true
			u.Addrs[i] = strings.TrimSuffix(host, "/")
		} else {
			u.Addrs[i] = strings.TrimSuffix(strings.TrimPrefix(a, "redis://"), "/")
		}
	}
	if len(u.Addrs) == 0 {
		return nil, errors.New("redis: want a URL or addresses")
	}
	u.Dialer = dialer(network, secure)
	return redis.NewUniversalClient(&u), nil
}

// dialer connects within dialTimeout, the TLS handshake included.
func dialer(network string, secure bool) func(ctx context.Context, _, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		plain := &net.Dialer{KeepAlive: 5 * time.Second}
		var conn net.Conn
		var err error
		if secure {
			host, _, _ := net.SplitHostPort(address)
			conn, err = (&tls.Dialer{NetDialer: plain, Config: &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}}).
				DialContext(ctx, network, address)
		} else {
			conn, err = plain.DialContext(ctx, network, address)
		}
		if err != nil {
			return nil, err
		}
		return bounded(conn), nil
	}
}

// Warnings asks the server how it is set up, and tells what could lose
// revocations. The error means that it could not be asked.
func (l *Log) Warnings(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := l.client().Info(ctx, "memory").Result()
	var refused redis.Error
	if errors.As(err, &refused) && !strings.HasPrefix(refused.Error(), "LOADING") {
		return nil, nil // not for this user
	}
	if err != nil {
		return nil, err
	}
	var warnings []string
	for line := range strings.Lines(info) {
		policy, ok := strings.CutPrefix(strings.TrimSpace(line), "maxmemory_policy:")
		if ok && policy != "noeviction" && !strings.HasPrefix(policy, "volatile-") {
			warnings = append(warnings, "maxmemory-policy "+policy+" can evict the revocation list: set it to noeviction")
		}
	}
	return warnings, nil
}

func nonce() string { return rand.Text()[:10] }
