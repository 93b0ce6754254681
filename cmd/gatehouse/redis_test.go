package main

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Two gateways share a Redis, which is lost and comes back empty.
func testTwoReplicas(t *testing.T, bin string) {
	server, cli := need(t, "redis-server"), need(t, "redis-cli")
	port := freePorts(t, 1)[0]
	startRedis := func() *process {
		return startIn(t, t.TempDir(), nil, server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
	}
	redis := startRedis()
	replica := func(data string) string {
		dir := copyExample(t, "two-replicas", "redis://localhost:6379", "redis://127.0.0.1:"+port)
		if data != "" {
			file := filepath.Join(dir, "gateway.yaml")
			writeFile(t, file, strings.Replace(readFile(t, file), "data_dir: data ", "data_dir: "+data+" ", 1))
		}
		return dir
	}
	first := replica("")
	a := startGateway(t, bin, first)
	second := replica(filepath.Join(first, "data"))
	b := startGateway(t, bin, second)

	// A logout at one ends it at the other.
	at := func(gw *liveGateway, v visitor) visitor { return visitor{gw, v.token} }
	ann, still := a.register(t, "ann@example.com"), a.login(t, "ann@example.com")
	at(b, ann).want(t, 200, "GET", "/", "")
	ann.want(t, 204, "POST", "/logout", "")
	status := func(v visitor) int { return v.status(t, "/") }
	await(t, time.Second, "the token to be dead at the other", func() bool { return status(at(b, ann)) == 401 })

	// So does what a command revokes, at both.
	bob := b.register(t, "bob@example.com")
	at(a, bob).want(t, 200, "GET", "/", "")
	a.cli(t, "", "user", "disable", "bob@example.com")
	await(t, time.Second, "bob to be out", func() bool { return status(bob) == 401 && status(at(a, bob)) == 401 })
	eve := b.login(t, "ann@example.com")
	b.cli(t, "", "token", "revoke", eve.token)
	await(t, time.Second, "one token to be dead", func() bool { return status(eve) == 401 && status(at(a, eve)) == 401 })

	// Redis dies, and forgets everything.
	_ = exec.CommandContext(t.Context(), cli, "-p", port, "shutdown", "nosave").Run()
	<-redis.done
	await(t, 3*time.Second, "both to say that they are not ready", func() bool {
		return a.unready() && b.unready()
	})
	at(b, still).want(t, 200, "GET", "/", "")
	at(b, ann).want(t, 401, "GET", "/", "").wantError(t, "invalid_token")
	still.want(t, 503, "POST", "/logout", "").wantError(t, "revocation_unavailable")

	// One starts meanwhile.
	ports := freePorts(t, 2)
	third := replica(filepath.Join(first, "data"))
	config := filepath.Join(third, "gateway.yaml")
	setPorts(t, config, ports[0], ports[1])
	c := &liveGateway{process: startIn(t, third, nil, bin, "serve", "--config", config), bin: bin, config: config,
		url: "http://127.0.0.1:" + ports[0], admin: "http://127.0.0.1:" + ports[1], client: plainClient()}
	c.awaitAnswer(t, c.url+"/public")
	if !c.unready() {
		t.Error("ready without the revocations")
	}
	got := at(c, ann).want(t, 503, "GET", "/", "")
	got.wantError(t, "revocation_unavailable")
	if got.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}

	told := func() int { return strings.Count(a.output.String(), `msg="does not answer" what=revocation`) }
	await(t, 3*time.Second, "the log to tell", func() bool { return told() > 0 })
	startRedis()
	await(t, 10*time.Second, "all to be ready", func() bool { return !a.unready() && !b.unready() && !c.unready() })
	for _, gw := range []*liveGateway{a, b, c} {
		at(gw, ann).want(t, 401, "GET", "/", "")
		at(gw, bob).want(t, 401, "GET", "/", "")
		at(gw, still).want(t, 200, "GET", "/", "")
	}
	still.want(t, 204, "POST", "/logout", "")
	await(t, time.Second, "the logout to hold at the new one", func() bool { return status(at(c, still)) == 401 })
	metrics := ""
	for _, gw := range []*liveGateway{a, b} {
		text, err := get(gw.admin + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		metrics += text
	}
	for _, want := range []string{`gatehouse_revocation_refills_total [1-9]`, `gatehouse_revocation_losses_total [1-9]`,
		`gatehouse_revocation_reconnects_total [1-9]`, `gatehouse_revocation_staleness_seconds \d`} {
		if !regexp.MustCompile(want).MatchString(metrics) {
			t.Errorf("no metric %s", want)
		}
	}
	if n := told(); n != 1 {
		t.Errorf("%d lines about the loss of Redis, want 1", n)
	}
}

func (gw *liveGateway) unready() bool {
	_, err := get(gw.admin + "/readyz")
	return err != nil
}

func (v visitor) status(t *testing.T, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", v.gw.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+v.token)
	return send(t, v.gw.client, req).status
}
