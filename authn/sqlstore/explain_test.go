package sqlstore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// Errors that operators meet say what to do.
func TestExplainPostgres(t *testing.T) {
	for code, want := range map[string]string{
		"28P01": "user or password is wrong",
		"42501": "CREATE on its schema",
		"42P05": "default_query_exec_mode=exec",
		"26000": "default_query_exec_mode=exec",
		"53300": "lower pool_max_conns",
	} {
		err := explainPostgres(fmt.Errorf("a step: %w", &pgconn.PgError{Code: code, Message: "as the server\nsays it"}))
		if text := err.Error(); !strings.Contains(text, want) || !strings.Contains(text, "as the server says it") {
			t.Errorf("%s: %q, want %q and what the server says, in one line", code, text, want)
		}
	}
}
