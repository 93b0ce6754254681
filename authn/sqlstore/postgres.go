package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

const (
	// poolSize is for one gateway; a server takes 100 connections by default.
	poolSize    = 10
	poolAtMost  = 1000
	poolIdle    = 5 * time.Minute
	poolLife    = 30 * time.Minute
	poolSizeKey = "pool_max_conns" // as pgxpool calls it

	connectTime      = 3 * time.Second
	postgresPatience = 3 * time.Second
)

// CheckURL reports what is wrong with a database's URL, as far as that can be
// said without asking the server: files that it names must be there. The error
// shows no password.
func CheckURL(url string) error {
	if !isPostgres(url) {
		return nil
	}
	_, _, err := parsePostgres(url)
	return err
}

func (s *Store) preparePostgres(url string) error {
	config, size, err := parsePostgres(url)
	if err != nil {
		return fmt.Errorf("users database: %w", err)
	}
	s.name = fmt.Sprintf("postgres://%s:%d/%s", config.Host, config.Port, config.Database)
	s.engine = engine{
		migrations: "migrations/postgres",
		exclusive:  `SELECT pg_advisory_xact_lock(hashtext('gatehouse'), 1)`,
		// A number from a sequence is taken before the row can be seen: of two
		// that append at once, the one with the higher number may be there
		// first, and who has read that one would never look for the other. So
		// the lock comes before the number, and is held until the row can be
		// seen. One statement and not a transaction of several, since a gateway
		// that dies or hangs between two would hold up every logout everywhere.
		turn:      `, (SELECT pg_advisory_xact_lock(hashtext('gatehouse'), 2)) AS turn`,
		forUpdate: ` FOR UPDATE`,
		patience:  postgresPatience,
		fault:     faultOfPostgres,
		explain:   explainPostgres,
	}
	s.write = sql.OpenDB(connector{url})
	s.write.SetMaxOpenConns(size)
	s.write.SetMaxIdleConns(size)
	s.write.SetConnMaxIdleTime(poolIdle)
	s.write.SetConnMaxLifetime(poolLife)
	s.read = s.write
	return nil
}

// connector makes connections. The URL is parsed for each, so that certificates
// and password files that it names may be renewed while the gateway runs.
type connector struct{ url string }

func (c connector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	config, _, err := parsePostgres(c.url)
	if err != nil {
		return nil, err
	}
	// Whoever asked may be in no hurry: database/sql itself opens connections
	// that others wait for.
	ctx, cancel := context.WithTimeout(ctx, max(config.ConnectTimeout, connectTime))
	defer cancel()
	return stdlib.GetConnector(*config, stdlib.OptionAfterConnect(settle)).Connect(ctx)
}

// settle gives a connection what the statements count on, whatever the server,
// the database or the role has for a default: an acknowledged revocation is on
// the disk; a rotation that met another sees its result; a gateway that dies in
// a transaction does not hold a user's row for long.
func settle(ctx context.Context, conn *pgx.Conn) error {
	var encoding string
	err := conn.QueryRow(ctx, `SELECT current_setting('server_encoding')
		FROM (SELECT set_config('default_transaction_isolation', 'read committed', false),
			set_config('idle_in_transaction_session_timeout', '10s', false),
			set_config('synchronous_commit', CASE current_setting('synchronous_commit')
				WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)) AS settings`).Scan(&encoding)
	if err == nil && encoding != "UTF8" {
		err = fmt.Errorf("the database has the encoding %s: want UTF8", encoding)
	}
	if err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	return nil
}

// parsePostgres reads a URL as pgx does, with defaults of our own: a time to
// connect, and a server that takes writes where there are several or one that
// was a standby. The size is that of the pool.
func parsePostgres(text string) (config *pgx.ConnConfig, size int, err error) {
	// Neither parser's error may be shown before the URL is known to be one:
	// of postgres://u:pa/ss@host they would quote "pa" as a bad port.
	u, err := url.Parse(text)
	if err != nil {
		return nil, 0, errors.New("want postgres://USER:PASSWORD@HOST/DATABASE, with %2F for a / in the password and so on (RFC 3986, section 2.1)")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, 0, errors.New("want parameters as NAME=VALUE with & between")
	}
	size = poolSize
	if query.Has(poolSizeKey) {
		size, err = strconv.Atoi(query.Get(poolSizeKey))
		if err != nil || size < 1 || size > poolAtMost {
			return nil, 0, fmt.Errorf("%s: want 1 to %d", poolSizeKey, poolAtMost)
		}
		query.Del(poolSizeKey)
	}
	for name, value := range map[string]string{
		"connect_timeout":      strconv.Itoa(int(connectTime / time.Second)),
		"target_session_attrs": "read-write",
		"application_name":     "gatehouse",
	} {
		if !query.Has(name) {
			query.Set(name, value)
		}
	}
	secrets := []string{query.Get("password"), query.Get("sslpassword")}
	if password, ok := u.User.Password(); ok {
		secrets = append(secrets, password)
	}
	u.RawQuery = query.Encode()
	if config, err = pgx.ParseConfig(u.String()); err != nil {
		return nil, 0, withoutURL(err, secrets)
	}
	return config, size, nil
}

// withoutURL is the error of a parser without the URL that it begins with.
func withoutURL(err error, secrets []string) error {
	text := err.Error()
	if i := strings.LastIndex(text, "`: "); i >= 0 {
		text = text[i+len("`: "):]
	}
	hides := func(secret string) bool { return secret != "" && strings.Contains(text, secret) }
	if slices.ContainsFunc(secrets, hides) {
		return errors.New("the URL has a parameter that PostgreSQL does not know or a value that it does not take")
	}
	return errors.New(text)
}

// faultOfPostgres goes by the classes of appendix A of PostgreSQL's manual. An
// error that no server sent is one of the connection.
func faultOfPostgres(err error) fault {
	var e *pgconn.PgError
	if !errors.As(err, &e) || len(e.Code) != 5 {
		return faultAway
	}
	switch e.Code {
	case "40001", "40P01": // serialization failure, deadlock
		return faultConflict
	case "23505": // unique violation
		return faultTaken
	case "42P01", "3F000": // undefined table, invalid schema
		return faultLost
	case "25006": // read-only transaction: the server became a standby
		return faultAway
	}
	switch e.Code[:2] {
	// Connection, authorization, no such database, rollback, resources, not in
	// the right state, operator, system.
	case "08", "28", "3D", "40", "53", "55", "57", "58":
		return faultAway
	}
	return faultBug
}

func explainPostgres(err error) error {
	why := ""
	var e *pgconn.PgError
	if errors.As(err, &e) {
		switch e.Code {
		case "28P01", "28000":
			why = "user or password is wrong, or pg_hba.conf does not let them in: "
		case "3D000":
			why = "make the database, with createdb: "
		case "42501":
			why = "the user must own the database, or have CREATE on its schema: "
		case "42P05", "26000": // statements of one connection are met on another
			why = "a pooler in transaction mode stands between: add default_query_exec_mode=exec to the URL: "
		case "53300":
			why = "the server has no connection left; lower " + poolSizeKey + " in the URL or raise the server's max_connections: "
		}
	}
	// pgx says for each address and each kind of encryption what came of it,
	// a line for each.
	return &oneLine{why + strings.Join(strings.Fields(err.Error()), " "), err}
}

// oneLine is an error whose text fits into a log line.
type oneLine struct {
	text string
	err  error
}

func (e *oneLine) Error() string { return e.text }
func (e *oneLine) Unwrap() error { return e.err }
