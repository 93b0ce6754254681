-- Times are microseconds since 1970, 0 for none; roles is a JSON list; hashes
-- are hexadecimal. seq must never be used twice, or a gateway that follows the
-- log would miss an entry: hence AUTOINCREMENT.

CREATE TABLE users (
	id            TEXT    NOT NULL PRIMARY KEY,
	email         TEXT    NOT NULL UNIQUE,
	name          TEXT    NOT NULL,
	roles         TEXT    NOT NULL,
	password_hash TEXT    NOT NULL,
	disabled      BOOLEAN NOT NULL,
	generation    BIGINT  NOT NULL,
	tokens_until  BIGINT  NOT NULL,
	sessions_until BIGINT NOT NULL, -- as tokens_until, of the tokens that belong to a session
	created       BIGINT  NOT NULL,
	updated       BIGINT  NOT NULL
);

CREATE TABLE sessions (
	id          TEXT   NOT NULL PRIMARY KEY,
	user_id     TEXT   NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	created     BIGINT NOT NULL,
	last_used   BIGINT NOT NULL,
	expires     BIGINT NOT NULL,
	address     TEXT   NOT NULL,
	user_agent  TEXT   NOT NULL,
	family_hash TEXT   NOT NULL,
	token_hash  TEXT   NOT NULL,
	spent_hash  TEXT   NOT NULL,
	spent_at    BIGINT NOT NULL,
	sealed      TEXT   NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expires ON sessions (expires);

CREATE TABLE revocations (
	seq        INTEGER PRIMARY KEY AUTOINCREMENT,
	kind       TEXT    NOT NULL,
	issuer     TEXT    NOT NULL,
	id         TEXT    NOT NULL,
	generation BIGINT  NOT NULL,
	expires    BIGINT  NOT NULL
);
CREATE INDEX revocations_expires ON revocations (expires);
