package main

import (
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gatehouse/authn/authntest"
)

// TestMain makes the test binary programs that scripts can call: the gateway
// itself, clients and an app that stands behind the gateway.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"gatehouse": main,
		"http":      httpMain,
		"app":       appMain,
		"stream":    streamMain,
		"attack":    attackMain,
	})
}

// TestScripts runs testdata/script: what a user types and what it answers.
// Beside testscript's own commands a script has
//
//	freeport NAME…        sets each NAME to a port that is free on the loopback
//	capture NAME REGEXP   sets NAME to the first group of REGEXP in the last output
//	signal HUP|TERM|INT   signals the gateway that was started last in the background
//	cert FILE HOST        writes FILE.crt and FILE.key, a new pair for HOST
//	http [flags] METHOD URL ['Name: value'…] [body]
//	                      prints status, header and body; see runHTTP
//	app ADDRESS           an app whose answers can be held back; see appMain
//	stream URL ['Name: value'…]
//	                      prints how a stream ends; see streamMain
func TestScripts(t *testing.T) {
	testscript.Run(t, scripts("script", nil))
}

// TestPostgresScripts runs testdata/postgres: the same with a PostgreSQL server,
// at $DATABASE, or at $WRONG with the wrong password, and
//
//	server start|stop|pause|resume
func TestPostgresScripts(t *testing.T) {
	p := authntest.StartPostgres(t, "fsync = off")
	params := scripts("postgres", map[string]string{
		"DATABASE": p.URL("postgres"),
		"WRONG":    "postgres://gatehouse:mistyped@127.0.0.1:" + p.Port() + "/postgres?sslmode=disable",
		"DBPORT":   p.Port(),
	})
	params.Cmds["server"] = func(ts *testscript.TestScript, neg bool, args []string) {
		act := map[string]func(){"start": p.Start, "stop": p.Stop, "pause": p.Pause, "resume": p.Resume}
		if len(args) != 1 || act[args[0]] == nil {
			ts.Fatalf("usage: server start|stop|pause|resume")
		}
		act[args[0]]()
	}
	testscript.Run(t, params)
}

func scripts(dir string, variables map[string]string) testscript.Params {
	return testscript.Params{
		Dir: filepath.Join("testdata", dir),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeport": freeport,
			"capture":  capture,
			"signal":   signalGateway,
			"cert":     writeCert,
		},
		Setup: func(env *testscript.Env) error {
			// With -race every program would sleep a second before it exits.
			env.Setenv("GORACE", "atexit_sleep_ms=0")
			for name, value := range variables {
				env.Setenv(name, value)
			}
			return nil
		},
		RequireUniqueNames: true,
	}
}

func freeport(ts *testscript.TestScript, neg bool, args []string) {
	ports, err := unusedPorts(len(args))
	ts.Check(err)
	for i, name := range args {
		ts.Setenv(name, ports[i])
	}
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: capture NAME REGEXP")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	m := re.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(m) < 2 {
		ts.Fatalf("%q with a group is not in the output", args[1])
	}
	ts.Setenv(args[0], m[1])
}

func signalGateway(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]syscall.Signal{"HUP": syscall.SIGHUP, "TERM": syscall.SIGTERM, "INT": syscall.SIGINT}
	if len(args) != 1 || signals[args[0]] == 0 {
		ts.Fatalf("usage: signal HUP|TERM|INT")
	}
	running := ts.BackgroundCmds()
	for i := len(running) - 1; i >= 0; i-- {
		if strings.HasPrefix(filepath.Base(running[i].Path), "gatehouse") {
			ts.Check(running[i].Process.Signal(signals[args[0]]))
			return
		}
	}
	ts.Fatalf("no gatehouse runs in the background")
}

func writeCert(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: cert FILE HOST")
	}
	ts.Check(newPair(time.Now(), args[1]).write(ts.MkAbs(args[0])))
}
