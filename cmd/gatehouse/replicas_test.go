package main

import (
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"gatehouse/authn/authntest"
)

// testReplicas starts the example's two gateways at once, on an empty database
// and without a signing key.
func testReplicas(t *testing.T, bin string) {
	server := authntest.StartPostgres(t, "fsync = off")
	ports := freePorts(t, 5)
	dir := copyExample(t, "replicas",
		"postgres://gatehouse:gatehouse@127.0.0.1/gatehouse", server.URL("postgres"), "127.0.0.1:3000", "127.0.0.1:"+ports[4])
	config := filepath.Join(dir, "gateway.yaml")
	app := buildApp(t, "streams")
	startIn(t, dir, nil, app, "-listen", "127.0.0.1:"+ports[4]).awaitAnswer(t, "http://127.0.0.1:"+ports[4])
	gateways := make([]*liveGateway, 2)
	for i := range gateways {
		public, admin := "127.0.0.1:"+ports[2*i], "127.0.0.1:"+ports[2*i+1]
		gateways[i] = &liveGateway{
			process: startIn(t, dir, nil, "env", "LISTEN="+public, "ADMIN="+admin, bin, "serve", "--config", config),
			bin:     bin, config: config, url: "http://" + public, admin: "http://" + admin, client: plainClient(),
		}
	}
	one, two := gateways[0], gateways[1]
	for _, gw := range gateways {
		gw.awaitAnswer(t, gw.admin+"/readyz")
	}
	one.cli(t, goodPassword+"\n", "user", "add", "ann@example.com")
	ann := two.login(t, "ann@example.com")
	visitor{one, ann.token}.want(t, 200, "GET", "/", "")
	ann.want(t, 200, "GET", "/", "")
	visitor{one, ann.token}.want(t, 204, "POST", "/logout", "{}", "Content-Type: application/json")
	began := time.Now()
	await(t, time.Second, "the other gateway to refuse the token", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), "GET", two.url+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+ann.token)
		return send(t, two.client, req).status == 401
	})
	t.Logf("the logout was in force at the other gateway after %v", time.Since(began))
}
