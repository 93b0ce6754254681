package main

// What the exhaustion runs stand on: a gateway as a process of its own, honest
// clients, and what the system says of the process.

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A bed is a gateway with an app behind it and somebody who uses both.
type bed struct {
	*liveGateway
	address string // of the public listener
	token   string // of the honest user
	app     *httptest.Server
	seconds time.Duration   // how long an attack lasts
	many    int             // connections of an attack
	nice    int             // how much it gives way to everybody else, 19 at most
	enough  context.Context // after which no attempt of it begins
}

// appBytes is more than sockets take in when nobody reads.
const appBytes = 32 << 20

// attacked is the app: a small answer, a large one, and websockets.
func attacked(w http.ResponseWriter, r *http.Request) {
	switch {
	case strings.HasPrefix(r.URL.Path, "/large"):
		w.Header().Set("Content-Length", strconv.Itoa(appBytes))
		chunk := make([]byte, 64<<10)
		for n := 0; n < appBytes; n += len(chunk) {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	case r.Header.Get("Upgrade") != "":
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(conn, rw)
	default:
		_, _ = io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "hello, %s", r.Header.Get("X-Forwarded-Email"))
	}
}

// bedTTL is short, so that what an attack revokes is soon forgotten.
const bedTTL = time.Second

// bedHeadTimeout is limits.header_timeout where the gateway is to lose patience.
const bedHeadTimeout = 1500 * time.Millisecond

// startBed starts a gateway for an attack. stderr is nil for a log that is read.
// cost is that of hashing a password.
func startBed(t *testing.T, bin string, a attack, cost int, stderr *os.File) *bed {
	t.Helper()
	b := &bed{app: httptest.NewUnstartedServer(http.HandlerFunc(attacked))}
	// The gateway would keep some connections to it for longer than a test lasts.
	// A new one may wait long for its first request, where the machine is busy.
	b.app.Config.IdleTimeout, b.app.Config.ReadHeaderTimeout = time.Second, 20*time.Second
	b.app.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		// The system would copy megabytes for each client that reads nothing.
		_ = conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
		return ctx
	}
	b.app.Start()
	t.Cleanup(b.app.Close)
	dir := t.TempDir()
	ports, err := unusedPorts(2)
	if err != nil {
		t.Fatal(err)
	}
	b.address = "127.0.0.1:" + ports[0]
	scheme, certificates := "http", ""
	if a.tls {
		writePair(t, dir)
		scheme, certificates = "https", "tls: {cert_file: cert.pem, key_file: key.pem}\n"
	}
	// Patience that ends soon would end with honest clients, too, where the attack
	// takes all processors.
	limits := "{header_timeout: 60s, idle_timeout: 60s}"
	switch {
	case a.patience:
		limits = fmt.Sprintf("{header_timeout: %s, idle_timeout: 2s}", bedHeadTimeout)
	case a.scarce:
		limits = "{}"
	}
	file := filepath.Join(dir, "gateway.yaml")
	writeFile(t, file, fmt.Sprintf(`listen: %s
public_url: %s://%s
admin: {listen: "127.0.0.1:%s", pprof: true}
%slimits: %s
users: {bcrypt_cost: %d, password: {min_strength: 0}}
tokens: {access_ttl: %s, leeway: 0s}
routes: [{path: /, upstream: %q}]
`, b.address, scheme, b.address, ports[1], certificates, limits, cost, bedTTL, b.app.URL))
	b.liveGateway = &liveGateway{bin: bin, config: file, url: scheme + "://" + b.address, admin: "http://127.0.0.1:" + ports[1], client: b.newClient(false)}
	cmd := exec.CommandContext(t.Context(), bin, "serve", "--config", file)
	if a.scarce {
		limited := fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, scarceFiles)
		cmd = exec.CommandContext(t.Context(), "sh", append([]string{"-c", limited}, cmd.Args...)...)
	}
	if stderr != nil {
		cmd.Stderr = stderr
	}
	b.process = start(t, cmd)
	b.awaitAnswer(t, b.admin+"/readyz")
	body := `{"email":"ann@example.com","password":"` + goodPassword + `"}`
	b.visitor().want(t, 201, "POST", "/register", body, "Content-Type: application/json")
	b.token = strings.TrimSpace(b.cli(t, "", "token", "issue", "ann@example.com", "--ttl", "1h"))
	return b
}

// newClient is an honest client, on HTTP/2 where there is TLS.
func (b *bed) newClient(hurried bool) *http.Client {
	return &http.Client{
		Timeout:       60 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: hurried, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true},
	}
}

// A use is what honest clients saw.
type use struct {
	mu     sync.Mutex
	first  []time.Duration // what those requests took that began within onset
	took   []time.Duration // and the others
	failed map[string]int
	logins tally
	busy   []time.Duration // how long it took to be told so at the login
}

// onset is the time in which an attack makes its connections: ten thousand take two
// seconds of its processor. What honest clients see of that stands by itself in the
// table: in the whole it would weigh more the shorter the attack is.
const onset = 2 * time.Second

// honest uses the gateway until ctx ends, as three clients: one makes a
// connection for each request. Where signsIn, a fourth signs in now and then.
func (b *bed) honest(t *testing.T, ctx context.Context, signsIn bool) *use {
	u := &use{failed: map[string]int{}, logins: tally{Counts: map[string]int{}}}
	var clients sync.WaitGroup
	came := time.Now()
	for i := range 3 {
		clients.Go(func() {
			client := b.newClient(i == 0)
			defer client.CloseIdleConnections()
			for ; ctx.Err() == nil; time.Sleep(5 * time.Millisecond) {
				begin := time.Now()
				err := b.once(client)
				took := time.Since(begin)
				u.mu.Lock()
				if begin.Sub(came) < onset {
					u.first = append(u.first, took)
				} else {
					u.took = append(u.took, took)
				}
				if err != nil {
					u.failed[err.Error()]++
				}
				u.mu.Unlock()
			}
		})
	}
	if signsIn {
		clients.Go(func() { b.visit(t, ctx, u) })
	}
	clients.Wait()
	return u
}

// once is one honest request. It ends when it is answered, whatever the attack
// does meanwhile.
func (b *bed) once(client *http.Client) error {
	req, err := http.NewRequest("GET", b.url+"/hello", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+b.token)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != 200 || string(body) != "hello, ann@example.com") {
		err = fmt.Errorf("%s: %.100q", res.Status, body)
	}
	return err
}

// uses are those of several rounds.
type uses []*use

// quantile is the median of the rounds' quantiles, at the onset and after it; q is 0
// to 1.
func (all uses) quantile(q float64) (onset, later time.Duration) {
	var first, took []time.Duration
	for _, u := range all {
		first, took = append(first, quantile(u.first, q)), append(took, quantile(u.took, q))
	}
	return quantile(first, .5), quantile(took, .5)
}

func (all uses) requests() (n int) {
	for _, u := range all {
		n += len(u.first) + len(u.took)
	}
	return n
}

func (all uses) blameFor(t *testing.T, when string) {
	for _, u := range all {
		for what, n := range u.failed {
			t.Errorf("honest clients, %s: %s × %d", when, what, n)
		}
	}
}

// logins says what came of them.
func (all uses) logins() string {
	counts, busy := tally{Counts: map[string]int{}}, []time.Duration{}
	for _, u := range all {
		counts.addAll(u.logins.Counts)
		busy = append(busy, u.busy...)
	}
	if len(counts.Counts) == 0 {
		return ""
	}
	said := "; honest logins: " + counts.String()
	if len(busy) > 0 {
		said += fmt.Sprintf(" after p50 %s, p99 %s ms", ms(quantile(busy, .5)), ms(quantile(busy, .99)))
	}
	return said
}

// visit signs in as an honest user now and then, until ctx ends.
func (b *bed) visit(t *testing.T, ctx context.Context, u *use) {
	client := b.newClient(false)
	defer client.CloseIdleConnections()
	for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		begin := time.Now()
		res, err := client.Do(b.request("POST", "/login", `{"email":"ann@example.com","password":"`+goodPassword+`"}`))
		if err != nil {
			t.Errorf("honest login: %v", err)
			continue
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		u.logins.add(res.Status)
		switch res.StatusCode {
		case 200:
		case 503:
			u.busy = append(u.busy, time.Since(begin))
		default:
			t.Errorf("honest login: %s", res.Status)
		}
	}
}

// quantile of times, 0 of none; q is 0 to 1.
func quantile(took []time.Duration, q float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[int(q*float64(len(took)-1))]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }

// A burden is what the gateway holds at a moment.
type burden struct {
	rss, live         int // bytes; live is what a collection has left
	files, goroutines int
}

func (b burden) String() string {
	return fmt.Sprintf("%d MiB resident, %.1f MiB live, %d files, %d goroutines", b.rss>>20, float64(b.live)/(1<<20), b.files, b.goroutines)
}

// most is the larger of each.
func (b burden) most(o burden) burden {
	return burden{max(b.rss, o.rss), max(b.live, o.live), max(b.files, o.files), max(b.goroutines, o.goroutines)}
}

// weigh asks the system and the gateway. collect has garbage collected before.
func (b *bed) weigh(t *testing.T, collect bool) (w burden) {
	t.Helper()
	if collect {
		for range 2 { // pools keep what they hold over one
			if _, err := get(b.admin + "/debug/pprof/heap?gc=1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	metrics, err := get(b.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	w.goroutines, w.live = metricIn(t, metrics, "go_goroutines"), metricIn(t, metrics, "go_memstats_heap_alloc_bytes")
	proc := fmt.Sprintf("/proc/%d/", b.pid)
	files, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Skip("the system does not tell about processes: ", err)
	}
	w.files = len(files)
	_, value, _ := strings.Cut(readFile(t, proc+"status"), "VmRSS:")
	if _, err := fmt.Sscan(value, &w.rss); err != nil {
		t.Fatal(err)
	}
	w.rss <<= 10
	return w
}

// metricIn is one without labels.
func metricIn(t *testing.T, metrics, name string) int {
	t.Helper()
	_, value, _ := strings.Cut(metrics, "\n"+name+" ")
	value, _, _ = strings.Cut(value, "\n")
	n, err := strconv.ParseFloat(value, 64)
	if err != nil {
		t.Fatalf("metric %s: %v", name, err)
	}
	return int(n)
}

// peak is the most of each that was held until ctx ended.
func (b *bed) peak(t *testing.T, ctx context.Context) (most burden) {
	for ; ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		most = most.most(b.weigh(t, false))
	}
	return most
}

// A tally counts what became of an attack's attempts.
type tally struct {
	mu     sync.Mutex
	Counts map[string]int
}

func (c *tally) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Counts[what]++
}

func (c *tally) addAll(counts map[string]int) {
	for what, n := range counts {
		c.Counts[what] += n
	}
}

// hasOne reports whether one of these has come of an attempt.
func (c *tally) hasOne(of []string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(of, func(what string) bool { return c.Counts[what] > 0 })
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, what := range slices.Sorted(maps.Keys(c.Counts)) {
		all = append(all, fmt.Sprintf("%s × %d", what, c.Counts[what]))
	}
	return strings.Join(all, ", ")
}

// stranger connects from another address than honest clients.
func (b *bed) stranger() (net.Conn, error) { return b.from(0, 66) }

// from connects from 127.0.x.y.
func (b *bed) from(x, y byte) (net.Conn, error) {
	d := net.Dialer{Timeout: 30 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, x, y)}}
	return d.Dial("tcp", b.address)
}
