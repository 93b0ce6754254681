package sqlstore

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"gatehouse/authn"
	"gatehouse/authn/authntest"
)

func TestHighestCost(t *testing.T) {
	testHighestCost(t, openTemp(t), `EXPLAIN QUERY PLAN `, func(r row) (line string, err error) {
		var id, parent, unused int
		err = r.Scan(&id, &parent, &unused, &line)
		return line, err
	})
}

func testPostgresHighestCost(t *testing.T, p *authntest.Postgres) {
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		s := openURL(t, with(newDatabase(t, p), "default_query_exec_mode="+mode))
		testHighestCost(t, s, `EXPLAIN `, func(r row) (line string, err error) {
			err = r.Scan(&line)
			return line, err
		})
	}
}

// However many accounts there are, the highest cost is the first entry of an
// index; a database that was made before there was one gets it.
func testHighestCost(t *testing.T, s *Store, explain string, line func(row) (string, error)) {
	for _, statement := range []string{`DROP INDEX users_cost`, `UPDATE gatehouse_schema SET version = 1`} {
		if _, err := s.write.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	const rest = "GatehouseGatehouseGateeuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu"
	users := make([]authn.User, 3000)
	for i := range users {
		users[i] = authn.User{ID: fmt.Sprint(i), Email: fmt.Sprint(i, "@example.com"), PasswordHash: fmt.Sprintf("$2a$%02d$%s", 4+i%9, rest[:53])}
	}
	users[1234].PasswordHash = "$2y$17$" + rest[:53]
	users[5].PasswordHash, users[6].PasswordHash, users[7].PasswordHash = "", "zz", "$2a$31$"+rest[:53]
	if _, err := s.CreateUsers(t.Context(), users); err != nil {
		t.Fatal(err)
	}
	if err := s.migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cost, err := s.HighestCost(t.Context()); cost != 17 || err != nil {
		t.Errorf("HighestCost = %d, %v, want 17", cost, err)
	}
	lines, err := rows(t.Context(), s.read, line, explain+selectHighestCost)
	plan := strings.Join(lines, "\n")
	if err != nil || !strings.Contains(plan, "users_cost") || strings.Contains(plan, "Sort") || strings.Contains(plan, "TEMP B-TREE") {
		t.Errorf("plan of the highest cost = %q, %v, want it read from the index users_cost", plan, err)
	}
}

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
