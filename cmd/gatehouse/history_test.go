package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse/authn/authntest"
)

var (
	historySeed  = flag.Uint64("history.seed", 0, "seed of TestHistory; 0 is a new one")
	historySteps = flag.Int("history.steps", 10400, "steps of TestHistory, for each of its two fleets")
)

// TestHistory has clients sign in and out, refresh, revoke and ask at three
// gateways that share a database, and a Redis behind a network that fails. Both
// Redis and the gateways fail as well. What the clients saw is held to a model:
//
//   - strict: all gateways together are one register for each token, live until
//     it is revoked: nothing is accepted in a call that began after the
//     revocation was acknowledged anywhere;
//   - fast: so is each gateway by itself, with what was revoked elsewhere known
//     max_staleness later at the latest;
//   - a gateway that refused a token never accepts it again, not after a loss
//     of all of Redis, nor when it was restarted itself;
//   - a token that nobody asked to revoke is never refused;
//   - a refresh token yields a successor once, the same one during
//     refresh_grace, and ends its session afterwards;
//   - no call hangs, and everything recovers without a restart.
func TestHistory(t *testing.T) {
	seed := *historySeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("again: go test ./cmd/gatehouse -run TestHistory -history.seed %d", seed)
	database := authntest.StartPostgres(t, "fsync = off")
	for _, consistency := range []string{"strict", "fast"} {
		t.Run(consistency, func(t *testing.T) {
			t.Parallel() // they wait more than they work
			startFleet(t, database.URL("postgres"), consistency).run(seed, *historySteps/2)
		})
	}
}

// A fleet is three gateways and what they need.
type fleet struct {
	t           *testing.T
	consistency string
	history     *history
	redis       *historyRedis
	proxies     []*authntest.FaultProxy
	gateways    []*servedGateway
	users       []*historyUser
	probe       *historyUser
	client      *http.Client
	revoking    sync.RWMutex // held by who revokes: what Redis loses was known to a gateway
	faults      []string     // that happened, with their times
}

func startFleet(t *testing.T, database, consistency string) *fleet {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello") }))
	t.Cleanup(upstream.Close)
	f := &fleet{t: t, consistency: consistency, redis: startHistoryRedis(t), client: &http.Client{
		Timeout:   2 * callHangs,
		Transport: &http.Transport{MaxIdleConnsPerHost: 16},
	}}
	t.Cleanup(f.client.CloseIdleConnections)
	f.history = &history{began: time.Now(), grace: 300 * time.Millisecond, staleness: 2 * time.Second,
		counts: map[string]int{}, slowest: map[string]time.Duration{}}
	data := filepath.Join(t.TempDir(), "data")
	for range 3 {
		proxy := authntest.StartFaultProxy(t, f.redis.addr())
		gw := prepareHere(t, fmt.Sprintf(`public_url: http://gw.example
data_dir: %s
shutdown_grace: 1s
log: {level: error, access: false}
users: {database: %q, bcrypt_cost: 4, password: {min_strength: 0}, throttle: {attempts: 1000}}
tokens: {refresh_grace: %s}
revocation: {store: redis, redis: {url: "redis://%s"}, consistency: %s, max_staleness: %s}
routes: [{path: /, upstream: %q}]
`, data, database, f.history.grace, proxy.Addr(), consistency, f.history.staleness, upstream.URL))
		f.proxies, f.gateways = append(f.proxies, proxy), append(f.gateways, gw)
		f.history.strict = append(f.history.strict, consistency == "strict")
		gw.serve() // all of them at once, on an empty database and without a key
		t.Cleanup(func() {
			if err := gw.stop(); err != nil {
				t.Errorf("serve: %v", err)
			}
			if t.Failed() {
				t.Logf("a gateway wrote:\n%.20000s", gw.stderr.String())
			}
		})
	}
	f.awaitReady()
	return f
}

// run has clients take so many steps while one thing after the other fails, and
// then checks what they saw.
func (f *fleet) run(seed uint64, steps int) {
	f.probe = f.signUp("probe")
	for i := range 1 + steps/100 {
		f.users = append(f.users, f.signUp(fmt.Sprint("u", i)))
	}
	var clients sync.WaitGroup
	finished := make(chan struct{})
	const at = 12
	for i := range at {
		c := f.newClient(seed, i)
		clients.Go(func() {
			for range steps / at {
				c.step()
				time.Sleep(time.Duration(c.random.IntN(60)) * time.Millisecond) // as clients come and go: faults need time
			}
		})
	}
	go func() { clients.Wait(); close(finished) }()
	random := rand.New(rand.NewPCG(seed, 1<<32))
	for running := true; running; {
		f.fail(random)
		select {
		case <-finished:
			running = false
		case <-time.After(time.Duration(random.IntN(500)) * time.Millisecond):
		}
	}
	f.heal()
	f.awaitReady()
	f.finish(f.newClient(seed, at))
	f.history.check(f.t)
	f.t.Logf("%v; slowest %v; %d sessions, %d faults in %s", f.history.counts, f.history.slowest, len(f.history.sessions), len(f.faults), time.Since(f.history.began).Round(time.Second))
	if f.t.Failed() || testing.Verbose() {
		f.t.Logf("faults:\n  %s", strings.Join(f.faults, "\n  "))
	}
	for what, least := range map[string]int{"use 200": 100, "use 401": 50, "use 503": 10, "login 200": 10, "refresh 200": 20, "refresh 401": 5,
		"logout 204": 10, "logout 503": 1, "everywhere 204": 1, "password 204": 1, "command 204": 1, "disable 204": 1, "revoke 200": 3} {
		if n := f.history.counts[what]; steps >= 5000 && n < least {
			f.t.Errorf("%s: %d times, too little to prove anything", what, n)
		}
	}
}

func (f *fleet) newClient(seed uint64, i int) *historyClient {
	return &historyClient{history: f.history, t: f.t, fleet: f, http: f.client, random: rand.New(rand.NewPCG(seed, uint64(i)))}
}

func (f *fleet) signUp(name string) *historyUser {
	f.t.Helper()
	u := &historyUser{email: name + "@" + f.consistency + ".example", password: []string{"password"}}
	status, answer, _ := f.newClient(0, 0).call("register", 0, "POST", "/register", "", map[string]string{"email": u.email, "password": u.password[0]})
	if status != 201 {
		f.t.Fatalf("register: %d %s", status, answer)
	}
	return u
}

// finish asks every gateway about every token, now that all is well: each must
// answer, and the answers are a part of the history.
func (f *fleet) finish(c *historyClient) {
	for _, s := range f.history.sessions {
		for _, token := range s.tokens {
			for g := range f.gateways {
				await(f.t, 20*time.Second, fmt.Sprintf("a verdict of gateway %d with all well", g), func() bool {
					status := c.useAt(token, g)
					return status == 200 || status == 401
				})
			}
		}
	}
}

// fail has one thing fail for a while, and then all be well again.
func (f *fleet) fail(random *rand.Rand) {
	began := time.Since(f.history.began)
	g, name := random.IntN(len(f.gateways)), ""
	long := time.Duration(200+random.IntN(1500)) * time.Millisecond
	p := f.proxies[g]
	network := func(what string, faults authntest.Faults) {
		name = fmt.Sprintf("gateway %d: %s", g, what)
		p.Set(faults)
		time.Sleep(long)
	}
	switch random.IntN(12) {
	case 0:
		long += f.history.staleness
		network("network down", authntest.Faults{Dropped: true})
	case 1:
		network("connections reset", authntest.Faults{Reset: true})
	case 2:
		network("slow", authntest.Faults{Delay: time.Duration(random.IntN(600)) * time.Millisecond})
	case 3:
		network("rubbish", authntest.Faults{Rubbish: "-ERR out of order\r\n"})
	case 4:
		network("out of step", authntest.Faults{Shifted: true})
	case 5:
		name = "Redis crashes and has all on its disk"
		f.redis.kill()
		time.Sleep(long / 4)
		f.redis.start()
	case 6:
		name = "Redis hangs"
		f.redis.signal(syscall.SIGSTOP)
		time.Sleep(long)
	case 7:
		name = "Redis takes no writes"
		f.redis.command("CONFIG SET maxmemory 1")
		time.Sleep(long)
	case 8:
		name = fmt.Sprintf("gateway %d restarts", g)
		f.restart(g)
	case 9:
		name = "Redis forgets everything"
		f.lose(func() { f.redis.command("FLUSHALL") })
	case 10:
		name = fmt.Sprintf("Redis comes back empty, gateway %d restarts", g)
		f.lose(func() {
			f.redis.kill()
			f.redis.empty()
			f.restart(g)
			f.redis.start()
		})
	case 11:
		name = "a new signing key"
		f.newClient(0, 0).command(g, "key", "rotate")
	}
	f.heal()
	f.faults = append(f.faults, fmt.Sprintf("%s to %s: %s", began.Round(time.Millisecond), time.Since(f.history.began).Round(time.Millisecond), name))
}

// lose has Redis lose what it holds. Every gateway knows it all by then, as the
// README wants, and those that still do put it back before anything else fails.
func (f *fleet) lose(how func()) {
	f.heal()
	f.revoking.Lock()
	f.awaitReady()
	f.awaitShared()
	how()
	f.revoking.Unlock()
	f.awaitReady()
}

// awaitShared returns once all gateways know of a revocation that is newer than
// all others.
func (f *fleet) awaitShared() {
	f.t.Helper()
	c := f.newClient(0, 0)
	var grant historyGrant
	await(f.t, 20*time.Second, "a login with all well", func() bool {
		status, answer, _ := c.call("login", 0, "POST", "/login", "", map[string]string{"email": f.probe.email, "password": f.probe.password[0]})
		return status == 200 && json.Unmarshal(answer, &grant) == nil
	})
	await(f.t, 20*time.Second, "a logout with all well", func() bool {
		status, _, _ := c.call("logout", 0, "POST", "/logout", grant.AccessToken, map[string]any{})
		return status == 204 || status == 401
	})
	for g := range f.gateways {
		await(f.t, 20*time.Second, fmt.Sprintf("gateway %d to know the last revocation", g), func() bool {
			status, _, _ := c.call("use", g, "GET", "/", grant.AccessToken, nil)
			return status == 401
		})
	}
}

func (f *fleet) heal() {
	for _, p := range f.proxies {
		p.Set(authntest.Faults{})
	}
	f.redis.signal(syscall.SIGCONT)
	f.redis.command("CONFIG SET maxmemory 0")
}

func (f *fleet) restart(g int) {
	if err := f.gateways[g].stop(); err != nil {
		f.t.Errorf("serve: %v", err)
	}
	f.gateways[g].serve()
}

func (f *fleet) awaitReady() {
	f.t.Helper()
	for i, gw := range f.gateways {
		await(f.t, 30*time.Second, fmt.Sprintf("gateway %d to be ready", i), func() bool {
			_, err := get(gw.admin + "/readyz")
			return err == nil
		})
	}
}

// A historyRedis is a server that has each write on its disk before it answers.
type historyRedis struct {
	t         *testing.T
	dir, port string
	cmd       *exec.Cmd
}

func startHistoryRedis(t *testing.T) *historyRedis {
	need(t, "redis-server")
	r := &historyRedis{t: t, dir: t.TempDir(), port: freePorts(t, 1)[0]}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *historyRedis) addr() string { return "127.0.0.1:" + r.port }

func (r *historyRedis) start() {
	r.t.Helper()
	r.cmd = exec.Command("redis-server", "--port", r.port, "--bind", "127.0.0.1", "--dir", r.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--logfile", filepath.Join(r.dir, "log"))
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	await(r.t, 20*time.Second, "redis-server to answer", func() bool { return strings.HasPrefix(r.command("PING"), "+PONG") })
}

// kill is kill -9.
func (r *historyRedis) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

func (r *historyRedis) empty() {
	if err := os.RemoveAll(filepath.Join(r.dir, "appendonlydir")); err != nil {
		r.t.Error(err)
	}
}

func (r *historyRedis) signal(s syscall.Signal) { _ = r.cmd.Process.Signal(s) }

// command is one line, and the beginning of its answer.
func (r *historyRedis) command(line string) string {
	c, err := net.DialTimeout("tcp", r.addr(), 5*time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	fmt.Fprint(c, line+"\r\n")
	answer := make([]byte, 64)
	n, _ := c.Read(answer)
	return string(answer[:n])
}
