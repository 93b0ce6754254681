package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExitCodes holds the three codes apart, which scripts cannot: 0 done, 1
// the operation failed, 2 wrong usage.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := file("gateway.yaml", "users: {registration: closed, bcrypt_cost: 4}\nroutes: [{path: /, upstream: \"echo:\"}]\n")
	bad := file("bad.yaml", "routes: [{path: /, upstream: \"echo:\", acess: public}]\n")
	failing := file("failing.yaml", "routes: [{path: /, upstream: \"echo:\"}]\ntests: [{request: GET /, expect: {status: 200}}]\n")
	refused := file("refused", "ann:plain\n")
	const password = "correct horse battery"

	for _, c := range []struct {
		code  int
		args  string
		stdin string
	}{
		{exitDone, "check --config " + good, ""},
		{exitFailed, "check --config " + bad, ""},
		{exitFailed, "check --config " + failing, ""},
		{exitFailed, "check --json --config " + failing, ""},
		{exitFailed, "check --config " + filepath.Join(dir, "none.yaml"), ""},
		{exitUsage, "check " + good, ""},
		{exitUsage, "check --verbose", ""},

		{exitDone, "explain GET / --config " + good, ""}, // a refusal is an answer too
		{exitFailed, "explain GET / --config " + bad, ""},
		{exitUsage, "explain GET", ""},
		{exitUsage, "explain GET nowhere --config " + good, ""},
		{exitUsage, "explain GET / --user nobody --config " + good, ""},

		{exitDone, "doctor --config " + good, ""},
		{exitFailed, "doctor --config " + bad, ""},
		{exitUsage, "doctor " + good, ""},
		{exitUsage, "doctor --timeout 0s --config " + good, ""},

		{exitDone, "schema", ""},
		{exitUsage, "schema all", ""},

		{exitDone, "user add ann@example.com --config " + good, password},
		{exitFailed, "user add ann@example.com --config " + good, password},
		{exitFailed, "user add bob@example.com --config " + good, "short"},
		{exitFailed, "user add bob@example.com --config " + good, ""},
		{exitUsage, "user add nobody --config " + good, password},
		{exitUsage, "user add --config " + good, password},
		{exitUsage, "user", ""},
		{exitUsage, "user frobnicate", ""},
		{exitDone, "user show ann@example.com --config " + good, ""},
		{exitFailed, "user show who@example.com --config " + good, ""},
		{exitUsage, "user show nobody --config " + good, ""},
		{exitUsage, "user delete ann@example.com --config " + good, ""},
		{exitUsage, "user set-roles ann@example.com ,a --config " + good, ""},
		{exitFailed, "user import " + refused + " --config " + good, ""},
		{exitFailed, "user import " + filepath.Join(dir, "none") + " --config " + good, ""},
		{exitUsage, "user import --config " + good, ""},

		{exitDone, "session list ann@example.com --config " + good, ""},
		{exitFailed, "session revoke none --config " + good, ""},
		{exitUsage, "session revoke --all --config " + good, ""},
		{exitUsage, "session list --config " + good, ""},

		{exitDone, "token issue ann@example.com --config " + good, ""},
		{exitFailed, "token issue who@example.com --config " + good, ""},
		{exitUsage, "token issue ann@example.com --ttl x --config " + good, ""},
		{exitUsage, "token issue ann@example.com --ttl 1ms --config " + good, ""},
		{exitFailed, "token inspect nonsense --config " + good, ""},
		{exitFailed, "token inspect --config " + good, ""},
		{exitUsage, "token inspect a b --config " + good, ""},
		{exitFailed, "token revoke nonsense --config " + good, ""},

		{exitDone, "key list --config " + good, ""},
		{exitFailed, "key generate --config " + good, ""}, // issuing a token has made one
		{exitDone, "key rotate --config " + good, ""},
		{exitUsage, "key list all --config " + good, ""},
		{exitFailed, "key generate --out " + good, ""},
	} {
		var stdout, stderr bytes.Buffer
		none := func(string) (string, bool) { return "", false }
		code := run(t.Context(), strings.Fields(c.args), strings.NewReader(c.stdin), &stdout, &stderr, none)
		told := fmt.Sprintf("gatehouse %s\nstdout: %s\nstderr: %s", c.args, stdout.String(), stderr.String())
		if code != c.code {
			t.Errorf("exit code %d, want %d: %s", code, c.code, told)
		}
		if code == exitUsage && (stdout.Len() > 0 || !strings.Contains(stderr.String(), "--help")) {
			t.Errorf("wrong usage should point at --help: %s", told)
		}
		if code == exitFailed && stdout.Len() == 0 && stderr.Len() == 0 {
			t.Errorf("no word about the failure: %s", told)
		}
	}
}
