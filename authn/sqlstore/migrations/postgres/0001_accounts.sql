-- As for SQLite, which says what the columns mean. Texts compare by their bytes:
-- the order of a language changes with the system's libraries, and an index that
-- was built with another order finds an address twice or not at all.

CREATE TABLE users (
	id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	email         TEXT COLLATE "C" NOT NULL UNIQUE,
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
	id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
	user_id     TEXT COLLATE "C" NOT NULL REFERENCES users (id) ON DELETE CASCADE,
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
	seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	kind       TEXT   NOT NULL,
	issuer     TEXT   NOT NULL,
	id         TEXT   NOT NULL,
	generation BIGINT NOT NULL,
	expires    BIGINT NOT NULL
);
CREATE INDEX revocations_expires ON revocations (expires);
