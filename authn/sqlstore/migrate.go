package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
)

//go:embed migrations
var migrations embed.FS

// migrate brings the schema to the newest version. Everything happens in one
// transaction that has a lock from its first statement, so that of several
// processes that start at once one does the work and the others find it done.
// (goose takes no lock on SQLite: two first starts at once race for its version
// table.) Where there is nothing to do it takes no lock and needs no right to
// make tables.
func (s *Store) migrate(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, migrationTime)
	defer cancel()
	files, err := fs.Glob(migrations, s.engine.migrations+"/*.sql") // sorted by name
	if err != nil {
		return err
	}
	var version int
	err = s.write.QueryRowContext(ctx, `SELECT version FROM gatehouse_schema`).Scan(&version)
	if err == nil && version == len(files) {
		return nil
	}
	err = s.persist(ctx, []fault{faultConflict, faultTaken}, func() error {
		tx, err := s.write.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := s.bringUp(ctx, tx, files); err != nil {
			return err
		}
		return tx.Commit()
	})
	if err != nil {
		return s.engine.explain(err)
	}
	return nil
}

func (s *Store) bringUp(ctx context.Context, tx *sql.Tx, files []string) error {
	if s.engine.exclusive != "" {
		if _, err := tx.ExecContext(ctx, s.engine.exclusive); err != nil {
			return err
		}
	}
	version, err := schemaVersion(ctx, tx)
	if err != nil {
		return err
	}
	if version > len(files) {
		return fmt.Errorf("schema is version %d, this gatehouse knows versions up to %d: use the newer gatehouse", version, len(files))
	}
	if version == len(files) {
		return nil
	}
	for i, name := range files[version:] {
		statements, err := migrations.ReadFile(name)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, string(statements)); err != nil {
			return fmt.Errorf("schema version %d: %w", version+i+1, err)
		}
	}
	_, err = tx.ExecContext(ctx, `UPDATE gatehouse_schema SET version = $1`, len(files))
	return err
}

func schemaVersion(ctx context.Context, tx *sql.Tx) (version int, err error) {
	if _, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS gatehouse_schema (version BIGINT NOT NULL)`); err != nil {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, `SELECT version FROM gatehouse_schema`).Scan(&version)
	if errors.Is(err, sql.ErrNoRows) {
		_, err = tx.ExecContext(ctx, `INSERT INTO gatehouse_schema (version) VALUES (0)`)
	}
	return version, err
}
