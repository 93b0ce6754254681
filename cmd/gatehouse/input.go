package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"gatehouse/authn"
	"gatehouse/config"
)

// wantArgs says which arguments a command takes, every one required. What is
// too much is not repeated in the message: it may be a password.
func wantArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		want := "want " + strings.Join(names, " and ") + " only"
		if len(names) == 0 {
			want = "want none"
		}
		switch {
		case len(args) < len(names):
			return usagef("missing %s", names[len(args)])
		case len(args) > len(names):
			return usagef("too many arguments: %s", want)
		}
		return nil
	}
}

// parseEmail reads an address from the command line.
func parseEmail(s string) (string, error) {
	email, err := authn.CanonicalEmail(s)
	if err != nil {
		return "", usageError{fmt.Errorf("%q: %w", s, plainCause(err))}
	}
	return email, nil
}

// plainCause is err without its code: whoever typed the command has no use for
// "invalid_request".
func plainCause(err error) error {
	var r *authn.Refusal
	if !errors.As(err, &r) {
		return err
	}
	if generic(r) && r.Cause() != "" {
		return errors.New(r.Cause())
	}
	return errors.New(r.Message)
}

// generic reports whether r says to a client no more than its code does.
func generic(r *authn.Refusal) bool {
	return slices.ContainsFunc(authn.Refusals(), func(known *authn.Refusal) bool {
		return known.Code == r.Code && known.Message == r.Message
	})
}

// parseRoles reads "a,b". Nothing at all is no roles.
func parseRoles(s string) ([]string, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var roles []string
	for role := range strings.SplitSeq(s, ",") {
		role = strings.TrimSpace(role)
		if role == "" {
			return nil, usagef("roles: one of them is empty, want names separated by commas")
		}
		if err := config.CheckRole(role); err != nil {
			return nil, usagef("role %.64q: %w", role, err)
		}
		if !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	return roles, nil
}

// terminal is the terminal that standard input is connected to, if it is.
func (a *app) terminal() (fd int, ok bool) {
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	return int(f.Fd()), true
}

// readLine reads the first line of standard input, without its end. It reads
// byte by byte up to there, so that what follows is left to others.
func (a *app) readLine(limit int) (string, error) {
	var line []byte
	var one [1]byte
	for {
		n, err := a.stdin.Read(one[:])
		if n == 1 && one[0] == '\n' || errors.Is(err, io.EOF) {
			return string(bytes.TrimSuffix(line, []byte("\r"))), nil
		}
		if err != nil {
			return "", fmt.Errorf("read standard input: %w", err)
		}
		line = append(line, one[:n]...)
		if len(line) > limit {
			return "", fmt.Errorf("standard input: the first line is longer than %d bytes", limit)
		}
	}
}

// maxPasswordLine is far above what bcrypt takes: the policy, not the reader,
// should say what is wrong with a long password.
const maxPasswordLine = 4096

// readPassword asks twice on a terminal, or takes the first line of standard
// input.
func (a *app) readPassword() (string, error) {
	fd, ok := a.terminal()
	if !ok {
		password, err := a.readLine(maxPasswordLine)
		if err == nil && password == "" {
			err = errors.New("no password: want it as the first line of standard input")
		}
		return password, err
	}
	password, err := a.askHidden(fd, "Password: ")
	if err != nil {
		return "", err
	}
	again, err := a.askHidden(fd, "Again: ")
	switch {
	case err != nil:
		return "", err
	case password == "":
		return "", errors.New("no password: nothing was typed")
	case password != again:
		return "", errors.New("the two passwords differ, nothing was changed")
	}
	return password, nil
}

// askHidden reads a line that the terminal does not show. An interrupt gives
// the terminal back as it was, or the shell would stay without an echo.
func (a *app) askHidden(fd int, prompt string) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("read from the terminal: %w", err)
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt)
	defer signal.Stop(interrupted)

	type answer struct {
		text []byte
		err  error
	}
	answers := make(chan answer, 1)
	fmt.Fprint(a.stderr, prompt)
	go func() { // ends with the process if the prompt is interrupted
		text, err := term.ReadPassword(fd)
		answers <- answer{text, err}
	}()
	select {
	case got := <-answers:
		fmt.Fprintln(a.stderr)
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return "", fmt.Errorf("read from the terminal: %w", got.err)
		}
		return string(got.text), nil
	case <-interrupted:
		fmt.Fprintln(a.stderr)
		return "", errors.Join(errors.New("interrupted, nothing was changed"), term.Restore(fd, before))
	}
}

// confirm asks before something that cannot be undone. Without a terminal
// there is nobody to ask, and --yes is wanted.
func (a *app) confirm(question string) error {
	if _, ok := a.terminal(); !ok {
		return usagef("%s: want --yes when standard input is not a terminal", question)
	}
	fmt.Fprintf(a.stderr, "%s? [y/N] ", question)
	answer, err := a.readLine(64)
	if err != nil {
		return err
	}
	if !slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer))) {
		return errors.New("not confirmed, nothing was changed")
	}
	return nil
}
