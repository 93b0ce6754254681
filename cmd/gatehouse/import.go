package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"gatehouse/authn"
	"gatehouse/config"
)

func (a *app) userImportCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Import accounts with their bcrypt hashes",
		Long: "Imports accounts, so that everybody's password stays what it is. FILE, or\n" +
			"standard input for \"-\", holds one account a line: what mongoexport writes of a\n" +
			"collection with \"email\" and \"password\" (and perhaps \"name\" and \"roles\"), or an\n" +
			"htpasswd file whose names are addresses. Hashes are bcrypt: $2a$, $2b$ or $2y$. One\n" +
			"of a higher cost than users.bcrypt_cost slows down every login, until its owner has\n" +
			"signed in; there is a warning then.\n\n" +
			"Lines that cannot be taken are reported with their number, and the others are\n" +
			"imported. An address that has an account already is left as it is, so that a\n" +
			"second import changes nothing. Without roles in the line a user gets\n" +
			"users.default_roles.",
		Example: "  mongoexport -d shop -c users | gatehouse user import -\n  gatehouse user import /etc/nginx/htpasswd",
		Args:    wantArgs("FILE"),
	}
	o := a.outputOf(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		from, name := a.stdin, "standard input"
		if args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer f.Close()
			from, name = f, args[0]
		}
		acc, err := a.openAccounts(cmd.Context())
		if err != nil {
			return err
		}
		defer acc.Close()
		imp := importer{
			prepare: func(u authn.User) (authn.User, error) {
				return acc.service.PrepareImport(u.Email, u.Name, u.PasswordHash, u.Roles)
			},
			create:       acc.service.ImportUsers,
			defaultRoles: acc.cfg.Users.DefaultRoles,
			refused: func(line int, why error) {
				fmt.Fprintf(a.stderr, "%s:%d: %s\n", printable(name), line, printable(why.Error()))
			},
			seen: make(map[string]int),
		}
		failed := imp.read(cmd.Context(), from)
		if cost := acc.cfg.Users.BcryptCost; imp.highest > cost {
			fmt.Fprintf(a.stderr, "warning: a password of bcrypt cost %d was imported, users.bcrypt_cost is %d\n"+
				"    until its owner has signed in, every login takes %d times as long, so that no answer tells whose it is\n",
				imp.highest, cost, 1<<(imp.highest-cost))
		}
		// The summary stands even if the import broke off: it says how far it got.
		if err := o.print(imp.summary, func(w io.Writer) {
			fmt.Fprintf(w, "imported %d, unchanged %d, refused %d\n", imp.summary.Imported, imp.summary.Unchanged, imp.summary.Refused)
		}); err != nil {
			return err
		}
		switch {
		case failed != nil:
			return fmt.Errorf("import %s: stopped at line %d: %w", name, imp.line, failed)
		case imp.summary.Refused > 0:
			return errReported
		}
		return nil
	}
	return cmd
}

// An importSummary is the answer of user import.
type importSummary struct {
	Imported  int           `json:"imported"`
	Unchanged int           `json:"unchanged"`
	Refused   int           `json:"refused"`
	Lines     []refusedLine `json:"lines"` // the refused ones
}

type refusedLine struct {
	Line int    `json:"line"`
	Why  string `json:"why"`
}

// An importer makes accounts of lines.
type importer struct {
	prepare      func(authn.User) (authn.User, error)                // ErrInvalidRequest if it cannot be one
	create       func(context.Context, []authn.User) ([]bool, error) // false where there is one
	refused      func(line int, why error)
	defaultRoles []string

	seen    map[string]int // address to the line that it stood in
	line    int            // the last one read, or the first that could not be imported
	batch   []authn.User   // not in the database yet
	begin   int            // the line of the first of them
	highest int            // bcrypt cost of what was imported
	summary importSummary
}

// importAtOnce is how many accounts are made in one transaction, which the disk
// is waited for once. They are read before it begins: whoever types the lines,
// or a slow pipe, holds up nobody.
const importAtOnce = 500

// maxImportLine is the longest line that is read whole. Longer ones are
// refused, without taking memory.
const maxImportLine = 64 << 10

// read imports every line. Its error means that the file or the database could
// not be read; a line that is refused is no error.
func (imp *importer) read(ctx context.Context, from io.Reader) error {
	imp.summary.Lines = []refusedLine{}
	r := bufio.NewReaderSize(from, maxImportLine)
	for {
		line, err := r.ReadSlice('\n')
		tooLong := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(err, imp.flush(ctx))
		}
		if len(line) > 0 {
			imp.line++
			if err := imp.take(ctx, line, tooLong); err != nil {
				return err
			}
		}
		if err != nil {
			return imp.flush(ctx)
		}
	}
}

// flush imports what was read.
func (imp *importer) flush(ctx context.Context) error {
	if len(imp.batch) == 0 {
		return nil
	}
	created, err := imp.create(ctx, imp.batch)
	if err != nil {
		imp.line = imp.begin
		return err
	}
	for i, is := range created {
		if is {
			imp.summary.Imported++
			imp.highest = max(imp.highest, authn.HashCost(imp.batch[i].PasswordHash))
		} else {
			imp.summary.Unchanged++
		}
	}
	imp.batch = imp.batch[:0]
	return nil
}

// take reads one line and, now and then, imports those before it.
func (imp *importer) take(ctx context.Context, line []byte, tooLong bool) error {
	if tooLong {
		imp.refuse(fmt.Errorf("longer than %d bytes", maxImportLine))
		return nil
	}
	if imp.line == 1 {
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	u, err := parseImportLine(string(line))
	switch {
	case errors.Is(err, errNothing):
		return nil
	case err != nil:
		imp.refuse(err)
		return nil
	case imp.seen[u.Email] != 0:
		imp.refuse(fmt.Errorf("the same mailbox as line %d", imp.seen[u.Email]))
		return nil
	}
	imp.seen[u.Email] = imp.line
	if u.Roles == nil {
		u.Roles = imp.defaultRoles
	}
	u, err = imp.prepare(u)
	switch {
	case errors.Is(err, authn.ErrInvalidRequest):
		imp.refuse(plainCause(err))
		return nil
	case err != nil:
		return err
	}
	if len(imp.batch) == 0 {
		imp.begin = imp.line
	}
	if imp.batch = append(imp.batch, u); len(imp.batch) == importAtOnce {
		return imp.flush(ctx)
	}
	return nil
}

func (imp *importer) refuse(why error) {
	imp.summary.Refused++
	imp.summary.Lines = append(imp.summary.Lines, refusedLine{imp.line, why.Error()})
	imp.refused(imp.line, why)
}

// errNothing is a line that holds no account: blank, or a comment.
var errNothing = errors.New("nothing to import")

// parseImportLine reads one account. Its errors repeat nothing of the line:
// where a field is misplaced, what looks like an address may be the hash.
func parseImportLine(line string) (authn.User, error) {
	line = strings.TrimSpace(line)
	switch {
	case line == "" || line[0] == '#':
		return authn.User{}, errNothing
	case !utf8.ValidString(line):
		return authn.User{}, errors.New("not valid UTF-8")
	case line[0] == '{':
		return parseMongoLine(line)
	case line[0] == '[':
		return authn.User{}, errors.New("a JSON array: want one object a line, as mongoexport writes without --jsonArray")
	}
	address, hash, found := strings.Cut(line, ":")
	if !found {
		return authn.User{}, errors.New("want a JSON object, or an address, a colon and a bcrypt hash")
	}
	return importedUser(address, "", hash, nil)
}

// parseMongoLine reads one document. Members that are no concern of ours may
// be anything, extended JSON such as {"$oid":"…"} included.
func parseMongoLine(line string) (authn.User, error) {
	doc, err := jsonObject(line)
	if err != nil {
		return authn.User{}, err
	}
	var email, hash, name string
	var roles []string
	for _, field := range []struct {
		name     string
		into     any
		required bool
		want     string
	}{
		{"email", &email, true, "a string"},
		{"password", &hash, true, "a bcrypt hash in a string"},
		{"name", &name, false, "a string"},
		{"roles", &roles, false, "a list of strings"},
	} {
		raw, ok := doc[field.name]
		if !ok || string(raw) == "null" {
			if field.required {
				return authn.User{}, fmt.Errorf("%q is missing", field.name)
			}
			continue
		}
		// The decoder's own error may quote the value.
		if json.Unmarshal(raw, field.into) != nil {
			return authn.User{}, fmt.Errorf("%q: want %s", field.name, field.want)
		}
	}
	return importedUser(email, name, hash, roles)
}

// jsonObject reads one object with every member named once. encoding/json
// alone would take the last of two, and "EMAIL" for "email".
func jsonObject(line string) (map[string]json.RawMessage, error) {
	dec := json.NewDecoder(strings.NewReader(line))
	malformed := func() error {
		return fmt.Errorf("not a JSON object: malformed at byte %d", dec.InputOffset()+1)
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed()
	}
	doc := make(map[string]json.RawMessage)
	for dec.More() {
		key, err := dec.Token()
		name, isName := key.(string)
		if err != nil || !isName {
			return nil, malformed()
		}
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return nil, malformed()
		}
		if _, twice := doc[name]; twice {
			return nil, errors.New("a member of the JSON object stands there twice")
		}
		doc[name] = value
	}
	if _, err := dec.Token(); err != nil {
		return nil, malformed()
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON object in the line")
	}
	return doc, nil
}

// importedUser checks what a line said.
func importedUser(address, name, hash string, roles []string) (authn.User, error) {
	email, err := authn.CanonicalEmail(address)
	if err != nil {
		return authn.User{}, errors.New("the name is not an e-mail address such as ann@example.com")
	}
	if err := checkBcrypt(hash); err != nil {
		return authn.User{}, err
	}
	for i, role := range roles {
		if err := config.CheckRole(role); err != nil {
			return authn.User{}, fmt.Errorf("\"roles\": entry %d: %w", i+1, err)
		}
	}
	return authn.User{Email: email, Name: name, PasswordHash: hash, Roles: roles}, nil
}

// bcryptHash is $2a$12$, 22 characters of salt, 31 of hash.
var bcryptHash = regexp.MustCompile(`^\$2([a-z]?)\$([0-9]{2})\$[./A-Za-z0-9]{53}$`)

// checkBcrypt accepts a hash that a password can be compared with. It never
// repeats it.
func checkBcrypt(hash string) error {
	if authn.HashCost(hash) > 0 {
		return nil
	}
	const want = "want $2a$, $2b$ or $2y$, as htpasswd -B writes"
	parts := bcryptHash.FindStringSubmatch(hash)
	if parts == nil {
		switch {
		case hash == "":
			return errors.New("the password is empty: want a bcrypt hash")
		case strings.HasPrefix(hash, "$2"):
			return errors.New("the password is a bcrypt hash that was cut off or changed: want 60 characters")
		case strings.HasPrefix(hash, "$apr1$"), strings.HasPrefix(hash, "$1$"):
			return errors.New("the password is an MD5 hash: " + want)
		case strings.HasPrefix(hash, "$5$"), strings.HasPrefix(hash, "$6$"), strings.HasPrefix(hash, "{SHA}"):
			return errors.New("the password is a SHA hash: " + want)
		}
		return errors.New("the password is no bcrypt hash: " + want)
	}
	switch parts[1] {
	case "a", "b", "y":
	case "x":
		return errors.New("the password is a $2x$ hash, of a bcrypt with a known flaw: " + want)
	default:
		return errors.New("the password is an unknown kind of bcrypt hash: " + want)
	}
	return fmt.Errorf("the password's bcrypt cost is %s: want 04 to %02d", parts[2], config.MaxBcryptCost)
}
