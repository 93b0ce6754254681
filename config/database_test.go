package config

import (
	"path/filepath"
	"strings"
	"testing"
)

func parseDatabase(t *testing.T, url string) *Config {
	t.Helper()
	lookup := func(string) (string, bool) { return url, true }
	c, err := Parse(filepath.Join("/etc/gatehouse", "gateway.yaml"), []byte("users: {database: \"${URL}\", registration: closed}\nroutes: [{path: /, upstream: \"echo:\"}]\n"), lookup)
	if err != nil {
		t.Fatalf("Parse with %q: %v", url, err)
	}
	return c
}

// Files that a database's URL names begin at the configuration's folder, as all
// others do.
func TestPostgresFiles(t *testing.T) {
	for url, want := range map[string]string{
		"postgres://u:p%40ss@db/x?sslmode=verify-full&sslrootcert=ca.pem": "postgres://u:p%40ss@db/x?sslmode=verify-full&sslrootcert=%2Fetc%2Fgatehouse%2Fca.pem",
		"postgres://u@db/x?sslrootcert=/ca.pem&sslmode=verify-full":       "postgres://u@db/x?sslrootcert=/ca.pem&sslmode=verify-full",
		"postgres://u@db/x?sslrootcert=system&sslmode=verify-full":        "postgres://u@db/x?sslrootcert=system&sslmode=verify-full",
		"postgres://a:5432,b:5433/x":                                      "postgres://a:5432,b:5433/x",
		"postgresql:///x?host=/run/postgresql":                            "postgresql:///x?host=/run/postgresql",
		"postgres:///?service=gatehouse":                                  "postgres:///?service=gatehouse",
	} {
		if got := parseDatabase(t, url).Users.Database; got != want {
			t.Errorf("Database of %q = %q, want %q", url, got, want)
		}
	}
}

func TestPostgresUnencrypted(t *testing.T) {
	for url, want := range map[string]bool{
		"postgres://u:hunter2@db.example.com/x":                     true,
		"postgres://u:hunter2@db:5432/x?sslmode=prefer":             true,
		"postgres://u:hunter2@localhost,db/x":                       true,
		"postgres://u:hunter2@[2001:db8::1]:5432/x":                 true,
		"postgres:///x?host=db":                                     true,
		"postgres://u:hunter2@db/x?sslmode=require":                 false,
		"postgres://u:hunter2@db/x?sslmode=verify-full":             false,
		"postgres://u:hunter2@localhost/x":                          false,
		"postgres://u:hunter2@127.0.0.1:5432,localhost:5433/x":      false,
		"postgres://u:hunter2@[::1]/x":                              false,
		"postgres:///x?host=/run/postgresql":                        false,
		"postgres://u:hunter2@localhost:5432/x?sslmode=verify-full": false,
	} {
		warnings := parseDatabase(t, url).Warnings
		if got := len(warnings) > 0; got != want {
			t.Errorf("%q warns: %v, want %v", url, warnings, want)
		}
		for _, w := range warnings {
			if strings.Contains(w.Error(), "hunter2") || !strings.Contains(w.Text, "unencrypted") {
				t.Errorf("%q warns %q", url, w.Error())
			}
		}
	}
}
