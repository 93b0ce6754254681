package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse/authn"
)

var (
	_ authn.UserStore    = (*Store)(nil)
	_ authn.SessionStore = (*Store)(nil)
	_ authn.LossyLog     = (*Store)(nil)
)

// micros is how times are stored; the zero time is 0.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return min(t.Unix(), 1<<43)*1e6 + int64(t.Nanosecond()/1e3) // UnixMicro overflows in the year 294247
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

const userColumns = `id, email, name, roles, password_hash, disabled, generation, tokens_until, created, updated, sessions_until`

func scanUser(r row) (u authn.User, err error) {
	var roles string
	var until, created, updated, sessions int64
	err = r.Scan(&u.ID, &u.Email, &u.Name, &roles, &u.PasswordHash, &u.Disabled, &u.Generation, &until, &created, &updated, &sessions)
	if err != nil {
		return authn.User{}, err
	}
	if err := json.Unmarshal([]byte(roles), &u.Roles); err != nil {
		return authn.User{}, &callerError{fmt.Errorf("user %q: roles: %w", u.ID, err)}
	}
	u.TokensUntil, u.Created, u.Updated = fromMicros(until), fromMicros(created), fromMicros(updated)
	u.SessionsUntil = fromMicros(sessions)
	return u, nil
}

// userValues are in the order of userColumns.
func userValues(u authn.User) ([]any, error) {
	if u.Roles == nil {
		u.Roles = []string{}
	}
	roles, err := json.Marshal(u.Roles)
	return []any{u.ID, u.Email, u.Name, string(roles), u.PasswordHash, u.Disabled, u.Generation,
		micros(u.TokensUntil), micros(u.Created), micros(u.Updated), micros(u.SessionsUntil)}, err
}

const insertUser = `INSERT INTO users (` + userColumns + `)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`

// CreateUser adds u, or returns authn.ErrUserExists if the address or the ID
// is taken.
func (s *Store) CreateUser(ctx context.Context, u authn.User) error {
	values, err := userValues(u)
	if err != nil {
		return s.failed("create user", err)
	}
	n, err := s.exec(ctx, "create user", insertUser, values...)
	if err == nil && n == 0 {
		return authn.ErrUserExists
	}
	return err
}

// CreateUsers adds all of users whose address and ID are not taken, in one
// transaction, and tells which those were. It goes by the address, so that two
// batches that share some wait for each other but never each for the other.
func (s *Store) CreateUsers(ctx context.Context, users []authn.User) (created []bool, err error) {
	order := make([]int, len(users))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return strings.Compare(users[i].Email, users[j].Email) })
	err = s.transact(ctx, "create users", func(ctx context.Context, tx *sql.Tx) error {
		created = make([]bool, len(users))
		insert, err := tx.PrepareContext(ctx, insertUser)
		if err != nil {
			return err
		}
		defer insert.Close()
		for _, i := range order {
			values, err := userValues(users[i])
			if err != nil {
				return err
			}
			n, err := affected(insert.ExecContext(ctx, values...))
			if err != nil {
				return err
			}
			created[i] = n == 1
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return created, nil
}

const selectUser = `SELECT ` + userColumns + ` FROM users`

// UserByEmail returns the user of a canonical address.
func (s *Store) UserByEmail(ctx context.Context, email string) (authn.User, error) {
	return one(ctx, s, "read user", authn.ErrUserNotFound, scanUser, selectUser+` WHERE email = $1`, email)
}

// UserByID returns the user of an ID.
func (s *Store) UserByID(ctx context.Context, id string) (authn.User, error) {
	return one(ctx, s, "read user", authn.ErrUserNotFound, scanUser, selectUser+` WHERE id = $1`, id)
}

// UpdateUser applies change in one transaction. A user's ID stays.
func (s *Store) UpdateUser(ctx context.Context, id string, change func(*authn.User) error) error {
	return s.transact(ctx, "update user", func(ctx context.Context, tx *sql.Tx) error {
		u, err := scanUser(tx.QueryRowContext(ctx, selectUser+` WHERE id = $1`+s.engine.forUpdate, id))
		if errors.Is(err, sql.ErrNoRows) {
			return &callerError{authn.ErrUserNotFound}
		}
		if err != nil {
			return err
		}
		if err := change(&u); err != nil {
			return &callerError{err}
		}
		u.ID = id
		values, err := userValues(u)
		if err != nil {
			return err
		}
		n, err := affected(tx.ExecContext(ctx, `UPDATE users SET email = $2, name = $3, roles = $4, password_hash = $5,
			disabled = $6, generation = $7, tokens_until = $8, created = $9, updated = $10, sessions_until = $11
			WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM users WHERE email = $2 AND id <> $1)`, values...))
		if err != nil {
			return err
		}
		if n == 0 {
			return &callerError{authn.ErrUserExists}
		}
		return nil
	})
}

// DeleteUser forgets a user and the user's sessions.
func (s *Store) DeleteUser(ctx context.Context, id string) error {
	n, err := s.exec(ctx, "delete user", `DELETE FROM users WHERE id = $1`, id)
	if err == nil && n == 0 {
		return authn.ErrUserNotFound
	}
	return err
}

// selectHighestCost has the condition of the index users_cost word for word, or
// it would not be used. The condition is authn.HashCost's: what has no cost must
// not sort before what has.
const selectHighestCost = `SELECT substr(password_hash, 5, 2) FROM users
	WHERE length(password_hash) = 60
	AND substr(password_hash, 1, 4) IN ('$2a$', '$2b$', '$2y$')
	AND substr(password_hash, 5, 2) IN ('04', '05', '06', '07', '08', '09', '10', '11', '12', '13', '14', '15', '16', '17', '18')
	AND substr(password_hash, 7, 1) = '$'
	AND ltrim(substr(password_hash, 8), './ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789') = ''
	ORDER BY substr(password_hash, 5, 2) DESC LIMIT 1`

// HighestCost is the highest authn.HashCost of all users, 0 if there is none.
func (s *Store) HighestCost(ctx context.Context) (int, error) {
	found, err := list(ctx, s, "read the highest bcrypt cost", func(r row) (cost int, err error) {
		err = r.Scan(&cost)
		return cost, err
	}, selectHighestCost)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	return found[0], nil
}

// List returns all users by address.
func (s *Store) List(ctx context.Context) ([]authn.User, error) {
	return list(ctx, s, "list users", scanUser, selectUser+` ORDER BY email`)
}

// Empty reports whether nobody has an account.
func (s *Store) Empty(ctx context.Context) (bool, error) {
	found, err := list(ctx, s, "count users", scanUser, selectUser+` LIMIT 1`)
	return len(found) == 0, err
}

const sessionColumns = `id, user_id, created, last_used, expires, address, user_agent,
	family_hash, token_hash, spent_hash, spent_at, sealed`

func scanSession(r row) (s authn.Session, err error) {
	var created, used, expires, spent int64
	err = r.Scan(&s.ID, &s.UserID, &created, &used, &expires, &s.Address, &s.UserAgent,
		&s.Refresh.Family, &s.Refresh.Current, &s.Refresh.Spent, &spent, &s.Refresh.Sealed)
	if err != nil {
		return authn.Session{}, err
	}
	s.Created, s.LastUsed, s.Expires = fromMicros(created), fromMicros(used), fromMicros(expires)
	s.Refresh.SpentAt = fromMicros(spent)
	return s, nil
}

// CreateSession adds a session of a user that is there.
func (s *Store) CreateSession(ctx context.Context, n authn.Session) error {
	_, err := s.exec(ctx, "create session", `INSERT INTO sessions (`+sessionColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		n.ID, n.UserID, micros(n.Created), micros(n.LastUsed), micros(n.Expires), n.Address, n.UserAgent,
		n.Refresh.Family, n.Refresh.Current, n.Refresh.Spent, micros(n.Refresh.SpentAt), n.Refresh.Sealed)
	if err == nil {
		s.purge(ctx)
	}
	return err
}

// SessionByID returns a session, which may have expired.
func (s *Store) SessionByID(ctx context.Context, id string) (authn.Session, error) {
	return one(ctx, s, "read session", authn.ErrSessionNotFound, scanSession,
		`SELECT `+sessionColumns+` FROM sessions WHERE id = $1`, id)
}

// SessionsOf lists a user's sessions, the latest used first.
func (s *Store) SessionsOf(ctx context.Context, userID string) ([]authn.Session, error) {
	return list(ctx, s, "list sessions", scanSession,
		`SELECT `+sessionColumns+` FROM sessions WHERE user_id = $1 ORDER BY last_used DESC, id`, userID)
}

// RotateSession is one statement, so that of two that spend the same token one
// does.
func (s *Store) RotateSession(ctx context.Context, current string, n authn.Session) (bool, error) {
	rows, err := s.exec(ctx, "rotate session", `UPDATE sessions SET last_used = $3, expires = $4, address = $5,
		user_agent = $6, family_hash = $7, token_hash = $8, spent_hash = $9, spent_at = $10, sealed = $11
		WHERE id = $1 AND token_hash = $2`,
		n.ID, current, micros(n.LastUsed), micros(n.Expires), n.Address, n.UserAgent,
		n.Refresh.Family, n.Refresh.Current, n.Refresh.Spent, micros(n.Refresh.SpentAt), n.Refresh.Sealed)
	return rows == 1, err
}

// EndSession forgets a session.
func (s *Store) EndSession(ctx context.Context, id string) error {
	_, err := s.exec(ctx, "end session", `DELETE FROM sessions WHERE id = $1`, id)
	return err
}
