package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gatehouse/authn"
	"gatehouse/config"
)

// aHash is of "correct horse"; what it is of does not matter here.
const aHash = "$2b$04$abcdefghijklmnopqrstuuLK5H0QTgH4DZVH3iG8YbFyCTrw9bZ2q"

func TestParseImportLine(t *testing.T) {
	with := func(prefix, cost string) string { return prefix + cost + aHash[6:] }
	take := func(line string, want authn.User) {
		t.Helper()
		got, err := parseImportLine(line)
		if err != nil {
			t.Errorf("parseImportLine(%q): %v", line, err)
			return
		}
		if got.Email != want.Email || got.Name != want.Name || got.PasswordHash != want.PasswordHash || !slices.Equal(got.Roles, want.Roles) {
			t.Errorf("parseImportLine(%q) = %+v, want %+v", line, got, want)
		}
	}
	refuse := func(line, want string) {
		t.Helper()
		got, err := parseImportLine(line)
		if err == nil {
			t.Errorf("parseImportLine(%q) = %+v, want an error with %q", line, got, want)
			return
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("parseImportLine(%q): %q, want %q in it", line, err, want)
		}
	}
	ann := authn.User{Email: "ann@example.com", PasswordHash: aHash}

	take(`{"email":"ann@example.com","password":"`+aHash+`"}`, ann)
	take(`{"_id":{"$oid":"64b1"},"email":" Ann@Example.COM ","password":"`+aHash+`","__v":0,"createdAt":{"$date":"2024-01-01T00:00:00Z"},"n":{"$numberLong":"5"}}`, ann)
	take(`{"email":"ann@example.com","password":"`+aHash+`","name":null,"roles":null}`, ann)
	take(`{"email":"ann@example.com","password":"`+aHash+`","name":"Ann","roles":["a","b"]}`,
		authn.User{Email: "ann@example.com", PasswordHash: aHash, Name: "Ann", Roles: []string{"a", "b"}})
	take("ann@example.com:"+aHash, ann)
	take("ann@example.com:"+aHash+"\r\n", ann)
	for _, prefix := range []string{"$2a$", "$2b$", "$2y$"} {
		take("ann@example.com:"+with(prefix, "12"), authn.User{Email: "ann@example.com", PasswordHash: with(prefix, "12")})
	}

	for _, line := range []string{"", " \t\r\n", "# made by htpasswd"} {
		if _, err := parseImportLine(line); !errors.Is(err, errNothing) {
			t.Errorf("parseImportLine(%q): %v, want errNothing", line, err)
		}
	}

	refuse(`{"email":"ann@example.com"}`, `"password" is missing`)
	refuse(`{"password":"`+aHash+`"}`, `"email" is missing`)
	refuse(`{"Email":"ann@example.com","password":"`+aHash+`"}`, `"email" is missing`)
	refuse(`{"email":null,"password":"`+aHash+`"}`, `"email" is missing`)
	refuse(`{"email":["ann@example.com"],"password":"`+aHash+`"}`, `"email": want a string`)
	refuse(`{"email":"ann@example.com","password":{"$binary":"x"}}`, `"password": want a bcrypt hash`)
	refuse(`{"email":"ann@example.com","password":"`+aHash+`","roles":"admin"}`, `"roles": want a list`)
	refuse(`{"email":"ann@example.com","password":"`+aHash+`","roles":["a,b"]}`, `"roles": entry 1`)
	refuse(`{"email":"ann@example.com","password":"`+aHash+`","roles":["a",""]}`, `"roles": entry 2`)
	refuse(`{"email":"ann@example.com","email":"bob@example.com","password":"`+aHash+`"}`, "twice")
	refuse(`{"email":"ann@example.com","password":"`+aHash+`"} {}`, "more than one")
	refuse(`{"email":"ann@example.com","password":"`+aHash+`"`, "malformed")
	refuse(`{"email":"ann@example.com",}`, "malformed")
	refuse(`[{"email":"ann@example.com"}]`, "--jsonArray")
	refuse("ann@example.com", "want a JSON object, or")
	refuse("ann:"+aHash, "e-mail address")
	refuse(aHash+":ann@example.com", "e-mail address")
	refuse("ann@example.com:", "empty")
	refuse("ann@example.com:plain text", "no bcrypt hash")
	refuse("ann@example.com:$apr1$salt$hash", "MD5")
	refuse("ann@example.com:$6$salt$hash", "SHA")
	refuse("ann@example.com:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=", "SHA")
	refuse("ann@example.com:"+aHash[:59], "cut off")
	refuse("ann@example.com:"+aHash+"x", "cut off")
	refuse("ann@example.com:"+with("$2x$", "10"), "$2x$")
	refuse("ann@example.com:"+with("$2$", "10"), "unknown kind")
	refuse("ann@example.com:"+with("$2b$", "03"), "cost is 03")
	refuse("ann@example.com:"+with("$2b$", "31"), "cost is 31")
	refuse("ann@example.com\xff:"+aHash, "UTF-8")
}

// imported is an importer into a map.
func imported(accounts map[string]authn.User) *importer {
	return &importer{
		prepare: func(u authn.User) (authn.User, error) { return u, nil },
		create: func(_ context.Context, users []authn.User) ([]bool, error) {
			created := make([]bool, len(users))
			for i, u := range users {
				_, taken := accounts[u.Email]
				if created[i] = !taken; !taken {
					accounts[u.Email] = u
				}
			}
			return created, nil
		},
		defaultRoles: []string{"member"},
		refused:      func(int, error) {},
		seen:         map[string]int{},
	}
}

func TestImportTwice(t *testing.T) {
	file := "\ufeff# staff\n" +
		"ann@example.com:" + aHash + "\n" +
		"\n" +
		`{"email":"bob@example.com","password":"` + aHash + `","roles":[]}` + "\r\n" +
		"ANN@example.com:" + aHash + "\n" +
		strings.Repeat("x", 3*maxImportLine) + "\n" +
		"eve@example.com:" + aHash // no newline at the end
	accounts := map[string]authn.User{}

	first := imported(accounts)
	if err := first.read(t.Context(), strings.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	lines := []refusedLine{{5, "the same mailbox as line 2"}, {6, fmt.Sprintf("longer than %d bytes", maxImportLine)}}
	if s := first.summary; s.Imported != 3 || s.Unchanged != 0 || s.Refused != 2 || !slices.Equal(s.Lines, lines) {
		t.Errorf("first import: %+v, want 3 imported and lines %v refused", s, lines)
	}
	if got := accounts["ann@example.com"].Roles; !slices.Equal(got, []string{"member"}) {
		t.Errorf("roles of a line without any: %v, want the default ones", got)
	}
	if got := accounts["bob@example.com"].Roles; len(got) != 0 {
		t.Errorf("roles of a line with an empty list: %v, want none", got)
	}

	second := imported(accounts)
	if err := second.read(t.Context(), strings.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	if s := second.summary; s.Imported != 0 || s.Unchanged != 3 || s.Refused != 2 {
		t.Errorf("second import: %+v, want nothing imported", s)
	}
}

func TestImportBreaksOff(t *testing.T) {
	broken := errors.New("disk is full")
	imp := imported(map[string]authn.User{})
	imp.create = func(context.Context, []authn.User) ([]bool, error) { return nil, broken }
	err := imp.read(t.Context(), strings.NewReader("# one\nann@example.com:"+aHash+"\nbob@example.com:"+aHash+"\n"))
	if !errors.Is(err, broken) || imp.line != 2 || imp.summary.Imported != 0 {
		t.Errorf("read = %v at line %d with %+v, want it to stop at line 2", err, imp.line, imp.summary)
	}
}

// More lines than one transaction takes are all imported, and a break tells how
// far it got.
func TestImportMany(t *testing.T) {
	var file strings.Builder
	for i := range 2*importAtOnce + 10 {
		fmt.Fprintf(&file, "u%d@example.com:%s\n", i, aHash)
	}
	accounts := map[string]authn.User{}
	imp := imported(accounts)
	if err := imp.read(t.Context(), strings.NewReader(file.String())); err != nil || len(accounts) != 2*importAtOnce+10 || imp.summary.Imported != len(accounts) {
		t.Errorf("read = %v with %d accounts, want %d", err, len(accounts), 2*importAtOnce+10)
	}
	imp = imported(map[string]authn.User{})
	create, calls, broken := imp.create, 0, errors.New("disk is full")
	imp.create = func(ctx context.Context, users []authn.User) ([]bool, error) {
		if calls++; calls == 2 {
			return nil, broken
		}
		return create(ctx, users)
	}
	if err := imp.read(t.Context(), strings.NewReader(file.String())); !errors.Is(err, broken) || imp.line != importAtOnce+1 || imp.summary.Imported != importAtOnce {
		t.Errorf("read = %v at line %d with %+v, want it to stop at line %d", err, imp.line, imp.summary, importAtOnce+1)
	}
}

// FuzzImport: whatever the file holds, the import ends, what it takes is fit to
// be an account, and what it refuses is not repeated.
func FuzzImport(f *testing.F) {
	f.Add("ann@example.com:" + aHash)
	f.Add(aHash + ":ann@example.com\n" + aHash)
	f.Add(`{"email":"` + aHash + `","password":"` + aHash + `"}`)
	f.Add(`{"email":"` + aHash + `@example.com","password":"` + aHash + `x"}`)
	f.Add(`{"` + aHash + `":1,"` + aHash + `":1}`)
	f.Add(`{"email":"ann@example.com","password":["` + aHash + `"]}`)
	f.Add(`{"email":"ann@example.com","password":"` + aHash + `","roles":["` + aHash + `,"]}`)
	f.Add("\ufeff{}\n[]\nnull\n\"\"\n{\"a\":")
	secret := regexp.MustCompile(`\$2[a-z]?\$[0-9]{2}\$[./A-Za-z0-9]+`)
	f.Fuzz(func(t *testing.T, file string) {
		accounts := map[string]authn.User{}
		imp := imported(accounts)
		if err := imp.read(t.Context(), strings.NewReader(file)); err != nil {
			t.Fatal(err)
		}
		if s := imp.summary; s.Imported != len(accounts) || s.Refused != len(s.Lines) || s.Unchanged != 0 {
			t.Errorf("summary %+v does not add up with %d accounts", s, len(accounts))
		}
		for email, u := range accounts {
			canonical, err := authn.CanonicalEmail(email)
			if err != nil || canonical != email || checkBcrypt(u.PasswordHash) != nil {
				t.Errorf("imported %+v", u)
			}
			for _, role := range u.Roles {
				if config.CheckRole(role) != nil {
					t.Errorf("imported role %q", role)
				}
			}
		}
		for _, line := range imp.summary.Lines {
			if secret.MatchString(line.Why) {
				t.Errorf("line %d: %q shows a hash", line.Line, line.Why)
			}
		}
	})
}
