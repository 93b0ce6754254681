package redisstore

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"gatehouse/authn"
)

// Throttle counts failed logins in the Redis of a Log. It is an
// authn.SharedThrottle.
type Throttle struct{ log *Log }

// Throttle counts in the same Redis.
func (l *Log) Throttle() *Throttle { return &Throttle{l} }

// underWay is how long an attempt counts that nobody ends, because its gateway
// died. Hashing takes a fraction of it, waiting for a processor included.
const underWay = 15 * time.Second

var (
	//go:embed throttle.lua
	throttleText   string
	throttleScript = redis.NewScript(throttleText)
)

// Take admits an attempt if each count has room for it.
func (t *Throttle) Take(ctx context.Context, counts []authn.ThrottleCount) (bool, time.Duration, error) {
	args := []any{"take", underWay.Milliseconds()}
	for _, c := range counts {
		args = append(args, c.Limit)
	}
	return t.run(ctx, counts, args)
}

// Settle ends an attempt that was admitted.
func (t *Throttle) Settle(ctx context.Context, counts []authn.ThrottleCount, window time.Duration, outcome authn.AttemptOutcome) error {
	_, _, err := t.run(ctx, counts, []any{string(outcome), window.Milliseconds()})
	return err
}

func (t *Throttle) run(ctx context.Context, counts []authn.ThrottleCount, args []any) (bool, time.Duration, error) {
	var keys []string
	for _, c := range counts {
		key := "{" + t.log.options.Prefix + "}:throttle:" + c.Key
		keys = append(keys, key, key+":pending")
	}
	echo := nonce()
	client := t.log.client()
	got, err := throttleScript.Run(ctx, client, keys, append([]any{echo}, args...)...).StringSlice()
	if err != nil {
		return false, 0, fmt.Errorf("redis: count attempts: %w", err)
	}
	if len(got) != 3 || got[0] != echo {
		t.log.reconnect(client)
		return false, 0, errMalformed
	}
	wait, err := strconv.ParseInt(got[2], 10, 64)
	if err != nil {
		return false, 0, errMalformed
	}
	return got[1] == "1", time.Duration(wait) * time.Millisecond, nil
}
