// Command gatehouse is the gateway and everything an operator does with it:
// one file per command, and serve.go, which ties the other packages together.
//
// Nothing here knows a rule about requests; those are in proxy. Arguments,
// environment, signals and exit codes are here and nowhere else.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"gatehouse/config"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.LookupEnv))
}

// Exit codes, as the interface page promises them.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// An app is one run of the program: what it talks to and what its global flags
// said.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	lookup         func(string) (string, bool) // the environment
	configPath     string

	running bool // the command's own code has begun: errors are no longer about usage
}

// A usageError is a mistake in how the command was called: exit code 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// errReported ends a command with exit code 1 that has already said why.
var errReported = errors.New("failed")

// run is the whole program. It returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) (string, bool)) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, lookup: getenv}
	root := a.rootCmd()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)

	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errReported):
		return exitFailed
	case !a.running || errors.As(err, &usage):
		fmt.Fprintf(stderr, "gatehouse: %v\nRun %q for help.\n", err, cmd.CommandPath()+" --help")
		return exitUsage
	}
	// FILE:LINE:COLUMN stands first on its line, where editors look for it.
	for _, p := range problemsIn(err) {
		fmt.Fprintln(stderr, p)
	}
	if len(problemsIn(err)) == 0 {
		fmt.Fprintf(stderr, "gatehouse: %v\n", err)
	}
	return exitFailed
}

// problemsIn is what err says about places in the configuration, if it does.
func problemsIn(err error) []config.Problem {
	var several config.Problems
	if errors.As(err, &several) {
		return several
	}
	var one config.Problem
	if errors.As(err, &one) {
		return []config.Problem{one}
	}
	return nil
}

// rootCmd is the table of commands. Without one, gatehouse serves.
func (a *app) rootCmd() *cobra.Command {
	serve := a.serveCmd()
	root := &cobra.Command{
		Use:           "gatehouse",
		Short:         "An authentication gateway in front of your apps",
		Long:          "Gatehouse signs users in, decides who may use which route, and tells your\napps who is calling. Without a command it serves, as \"gatehouse serve\" does.",
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          serve.RunE,
	}
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
			return fmt.Errorf("unknown command %q, did you mean %q?", args[0], like[0])
		}
		return fmt.Errorf("unknown command %q", args[0])
	}
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)

	path := "gateway.yaml"
	if env, ok := a.lookup("GATEHOUSE_CONFIG"); ok && env != "" {
		path = env
	}
	root.PersistentFlags().StringVarP(&a.configPath, "config", "c", path, "the configuration `FILE`, also $GATEHOUSE_CONFIG")

	root.AddCommand(
		serve,
		a.checkCmd(),
		a.explainCmd(),
		a.schemaCmd(),
		a.userCmd(),
		a.sessionCmd(),
		a.tokenCmd(),
		a.keyCmd(),
		a.doctorCmd(),
		a.healthcheckCmd(),
		a.versionCmd(),
	)
	a.prepare(root)
	return root
}

// prepare gives every command the same manners: no stray arguments unless the
// command takes some, and a group such as "user" asks for one of its commands.
func (a *app) prepare(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		a.prepare(sub)
	}
	if cmd.Args == nil && !cmd.HasSubCommands() {
		cmd.Args = cobra.NoArgs
	}
	if !cmd.Runnable() {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			var names []string
			for _, sub := range cmd.Commands() {
				names = append(names, sub.Name())
			}
			want := "want one of " + strings.Join(names, ", ")
			if len(args) > 0 {
				return usagef("unknown command %q of %q: %s", args[0], cmd.Name(), want)
			}
			return usagef("%s: %s", cmd.Name(), want)
		}
	}
	body := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.running = true
		return body(cmd, args)
	}
}

// load reads the configuration that --config names.
func (a *app) load() (*config.Config, error) {
	return config.Load(a.configPath, a.lookup)
}

// printJSON writes v for programs to read.
func (a *app) printJSON(v any) error {
	var doc bytes.Buffer
	enc := json.NewEncoder(&doc)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := a.stdout.Write(printableJSON(doc.Bytes()))
	return err
}
