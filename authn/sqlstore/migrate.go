package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate brings the schema to the newest version. Everything happens in one
// transaction that has the write lock from its first statement, so that of
// several processes that start at once one does the work and the others find
// it done. (goose takes no lock on SQLite: two first starts at once race for
// its version table.)
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Glob(migrations, "migrations/*.sql") // sorted by name
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
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
	if _, err := tx.ExecContext(ctx, `UPDATE gatehouse_schema SET version = $1`, len(files)); err != nil {
		return err
	}
	return tx.Commit()
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
