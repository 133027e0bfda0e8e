package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gosix/gosix/internal/porttest"
)

const (
	prefix   = "/apisix"
	adminKey = "faultlab-admin-key-of-no-value-1"
	keyring  = "faultlab-keyring" // 16 bytes
)

// Shape is what a scenario's cluster is made of.
type Shape struct {
	Etcds, Gateways, Admins int
	OldEtcd                 bool   // Debian's 3.4
	Namespace               bool   // the first gateway runs in a network of its own
	Toxic                   bool   // everybody reaches etcd through proxies that do harm
	Lossy                   bool   // the first gateway reaches etcd through a Thief
	NoLoad                  bool   // the scenario brings clients of its own
	AccessLog               bool   // of gateways
	TLS                     bool   // gateways listen with it, too
	Settings                string // further settings of gateways under apisix, as YAML lines
}

// World is a running cluster.
type World struct {
	*Run
	Shape    Shape
	Etcd     *Cluster
	NS       *Namespace
	Proxies  []*Proxy
	Thief    *Thief
	Upstream string // address of the server behind the gateways
	Gateways []*Node
	Admins   []*Node
	Load     *Load
	Watch    *Observer
	Begin    time.Time // of the load
}

// Node is a gateway or an admin.
type Node struct {
	Name    string
	Gateway string // addresses; empty where it has none
	TLS     string // of the gateway
	Admin   string
	Control string
	Status  string
	Metrics string

	run     *Run
	program string
	ns      string
	dir     string
	life    atomic.Int64
	Process *Process
}

// Life counts the starts of the process.
func (n *Node) Life() int { return int(n.life.Load()) }

// NewWorld starts a cluster, gives it its two routes, and begins to load and to watch it.
func (r *Run) NewWorld(ctx context.Context, s Shape) (*World, error) {
	w := &World{Run: r, Shape: s}
	host, extra := "127.0.0.1", ""
	var err error
	if s.Namespace {
		if w.NS, err = r.NewNamespace(ctx); err != nil {
			return nil, err
		}
		host, extra = w.NS.Outside, w.NS.StoreOutside
	}
	program := r.program("etcd")
	if s.OldEtcd {
		if program, err = r.oldEtcd(); err != nil {
			return nil, err
		}
	}
	if w.Etcd, err = r.NewCluster(ctx, s.Etcds, program, extra); err != nil {
		return nil, err
	}
	if s.Toxic {
		for _, m := range w.Etcd.Members {
			p, err := r.NewProxy(m.Client)
			if err != nil {
				return nil, err
			}
			w.Proxies = append(w.Proxies, p)
		}
	}
	if s.Lossy {
		if w.Thief, err = r.NewThief(w.Etcd.Members[0].Client); err != nil {
			return nil, err
		}
	}
	port, err := porttest.Free(host)
	if err != nil {
		return nil, err
	}
	w.Upstream = fmt.Sprintf("%s:%d", host, port)
	if _, err := r.Start("upstream", "", true, r.Self, upstreamCommand, "-listen", w.Upstream); err != nil {
		return nil, err
	}
	for i := range s.Admins {
		n, err := w.NewNode(fmt.Sprintf("admin-%d", i), "admin", "")
		if err != nil {
			return nil, err
		}
		w.Admins = append(w.Admins, n)
	}
	for i := range s.Gateways {
		ns := ""
		if s.Namespace && i == 0 {
			ns = w.NS.Name
		}
		n, err := w.NewNode(fmt.Sprintf("gateway-%d", i), "gateway", ns)
		if err != nil {
			return nil, err
		}
		w.Gateways = append(w.Gateways, n)
	}
	for _, n := range slices.Concat(w.Admins, w.Gateways) {
		if err := n.Listens(ctx, settling); err != nil {
			return nil, err
		}
	}
	for id, body := range map[string]string{
		"lab-plain": fmt.Sprintf(`{"uri":"/plain","upstream":{"type":"roundrobin","nodes":{%q:1}}}`, w.Upstream),
		"lab-chat": fmt.Sprintf(`{"uri":"/v1/chat/completions","plugins":{"ai-proxy":{"provider":"openai-compatible","auth":{"header":{"Authorization":"Bearer none"}},`+
			`"override":{"endpoint":"http://%s/v1/chat/completions?words=6&gap_ms=5"}}}}`, w.Upstream),
	} {
		if err := w.Put(ctx, "/routes/"+id, body); err != nil {
			return nil, err
		}
	}
	if _, err := w.Agree(ctx, settling); err != nil {
		return nil, err
	}
	w.Watch = newObserver(50*time.Millisecond, w.Gateways...)
	r.Later(func() { w.Watch.Stop() })
	if !s.NoLoad {
		w.Load = NewLoad(w.targets()...)
		w.Begin = time.Now()
		w.Load.Start(r.Rate, uint64(r.Unit.Seed))
		r.Later(func() { w.Load.Stop() })
	}
	return w, nil
}

func (w *World) targets() (all []Target) {
	for _, g := range w.Gateways {
		all = append(all, Target{g.Name, g.Gateway})
	}
	return all
}

// NewNode writes a node's settings and starts it; it does not wait.
func (w *World) NewNode(name, program, ns string) (*Node, error) {
	n := &Node{Name: name, run: w.Run, program: w.program(program), ns: ns, dir: filepath.Join(w.Dir, name)}
	host := "127.0.0.1"
	if ns != "" {
		host = w.NS.Inside
	}
	ports := make([]int, 6)
	for i := range ports {
		var err error
		// In a namespace nothing is taken.
		if ports[i], err = porttest.Free("127.0.0.1"); err != nil {
			return nil, err
		}
	}
	addr := func(i int) string { return fmt.Sprintf("%s:%d", host, ports[i]) }
	role := "control_plane"
	if program == "gateway" {
		role = "data_plane"
		n.Gateway, n.Control, n.Status, n.Metrics = addr(0), addr(1), addr(2), addr(3)
	} else {
		n.Admin = addr(4)
	}
	var etcd []string
	for i, m := range w.Etcd.Members {
		e := m.Endpoint()
		switch {
		case w.Shape.Toxic:
			e = "http://" + w.Proxies[i].Listen
		case w.Shape.Lossy && name == "gateway-0":
			e = "http://" + w.Thief.Listen
		case ns != "":
			e = "http://" + w.Etcd.seenFrom(m)
		}
		etcd = append(etcd, strconv.Quote(e))
	}
	extra := "  ssl: {enable: false}\n"
	if program == "gateway" && w.Shape.TLS {
		n.TLS = addr(5)
		extra = fmt.Sprintf("  ssl: {listen: [{ip: %s, port: %d}]}\n", host, ports[5])
	}
	if engine := os.Getenv("GOSIX_ENGINE"); engine != "" {
		extra += "  http_engine: " + engine + "\n"
	}
	if program == "gateway" {
		for line := range strings.Lines(w.Shape.Settings) {
			extra += "  " + strings.TrimRight(line, "\n") + "\n"
		}
	}
	conf := fmt.Sprintf(`apisix:
  node_listen: [{ip: %[1]s, port: %[2]d, enable_http2: true}]
  control: {ip: %[1]s, port: %[3]d}
  status: {ip: %[1]s, port: %[4]d}
  data_encryption: {keyring: [%[10]s]}
%[11]snginx_config: {http: {enable_access_log: %[12]v, access_log: access.log}}
plugin_attr: {prometheus: {export_addr: {ip: %[1]s, port: %[5]d}}}
deployment:
  role: %[7]s
  data_dir: data
  admin:
    admin_listen: {ip: 127.0.0.1, port: %[6]d}
    admin_key: [{name: admin, key: %[8]s, role: admin}]
  etcd: {host: [%[9]s], prefix: %[13]s}
`, host, ports[0], ports[1], ports[2], ports[3], ports[4], role, adminKey, strings.Join(etcd, ", "), keyring, extra, w.Shape.AccessLog, prefix)
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(n.dir, "conf.yaml"), []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return n, n.Start()
}

// restart ends the process in a hurry, changes its settings, and starts it again.
func (n *Node) restart(ctx context.Context, change func(conf string) string) error {
	n.Process.Signal(syscall.SIGINT)
	<-n.Process.exited
	file := filepath.Join(n.dir, "conf.yaml")
	conf, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, []byte(change(string(conf))), 0o600); err != nil {
		return err
	}
	if err := n.Start(); err != nil {
		return err
	}
	return n.Listens(ctx, settling)
}

// Start starts the process, again if it ran before. It does not wait.
func (n *Node) Start() error {
	_ = os.Remove(filepath.Join(n.dir, "data/ports.json"))
	p, err := n.run.startIn(n.dir, n.Name, n.ns, true, n.program, "-c", "conf.yaml")
	if err != nil {
		return err
	}
	n.Process = p
	n.life.Add(1)
	return nil
}

// Listens waits until the node serves.
func (n *Node) Listens(ctx context.Context, limit time.Duration) error {
	file := filepath.Join(n.dir, "data/ports.json")
	_, err := within(ctx, limit, n.Name+" listens", func() bool {
		_, err := os.Stat(file)
		return err == nil || n.Process.Ended()
	})
	if err != nil || n.Process.Ended() {
		return fmt.Errorf("%s does not run: %w%s", n.Name, errors.Join(err, n.Process.endError()), n.Process.Log.Tail())
	}
	return nil
}

// State asks the node what is in force.
func (n *Node) State(ctx context.Context) (s State, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err = getJSON(ctx, "http://"+n.Control+"/v1/config", &s)
	return s, err
}

// Answer is what the Admin API said.
type Answer struct {
	Status   int // 0: nothing
	Body     string
	Revision int64
	Applied  string // how many nodes have a write that was waited for: "3/3"
	Took     time.Duration
	Err      error
}

// Refused tells whether nobody listened.
func (a Answer) Refused() bool { return errors.Is(a.Err, syscall.ECONNREFUSED) }

// Unknown tells whether a write may or may not have happened: nobody said.
func (a Answer) Unknown() bool {
	return a.Err != nil && !a.Refused() || a.Status == http.StatusGatewayTimeout || a.Status == http.StatusServiceUnavailable && strings.Contains(a.Body, "did not say whether")
}

// Call makes a call of the Admin API, once.
func (n *Node) Call(ctx context.Context, method, path, body string) (a Answer) {
	begin := time.Now()
	defer func() { a.Took = time.Since(begin) }()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.Admin+"/apisix/admin"+path, reader)
	if err != nil {
		return Answer{Err: err}
	}
	req.GetBody = nil
	req.Header.Set("X-API-KEY", adminKey)
	res, err := admins.Do(req)
	if err != nil {
		return Answer{Err: err}
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	a = Answer{Status: res.StatusCode, Body: string(text), Err: err}
	a.Revision, _ = strconv.ParseInt(res.Header.Get("X-Gosix-Revision"), 10, 64)
	a.Applied = res.Header.Get("X-Gosix-Applied")
	return a
}

// admins are called over connections that are used once: a call on one whose server was
// killed would say nothing about the call.
var admins = &http.Client{Timeout: settling, Transport: &http.Transport{DisableKeepAlives: true}}

// settling limits waits for what must come. Where it is judged how soon something comes, a line
// of the report has the limit: one that is late is no reason not to go on.
const settling = time.Minute

// Write writes through the first admin. That etcd has had no time for it, on a machine that is
// busy, is no answer yet.
func (w *World) Write(ctx context.Context, path, body string) (a Answer) {
	_, _ = within(ctx, settling, "", func() bool {
		a = w.Admins[0].Call(ctx, http.MethodPut, path, body)
		return a.Status != http.StatusServiceUnavailable && a.Status != http.StatusGatewayTimeout
	})
	return a
}

// Put is Write, and wants it to succeed.
func (w *World) Put(ctx context.Context, path, body string) error {
	a := w.Write(ctx, path, body)
	if a.Err != nil || a.Status >= 300 {
		return fmt.Errorf("PUT %s: %d %s: %w", path, a.Status, a.Body, a.Err)
	}
	return nil
}

// Agree waits until every gateway shows what etcd holds, counted independently, and returns how
// long that took.
func (w *World) Agree(ctx context.Context, limit time.Duration) (time.Duration, error) {
	begin := time.Now()
	content, err := w.Etcd.Content(ctx)
	if err != nil {
		return 0, err
	}
	for {
		differ, behind := "", false
		for _, g := range w.Gateways {
			s, err := g.State(ctx)
			if err != nil || s.Digest != content.Digest {
				behind = behind || s.Revision > content.Revision
				differ = fmt.Sprintf("%s: revision %d, digest %s, want %s (%d items): %v", g.Name, s.Revision, short(s.Digest), short(content.Digest), len(content.Items), err)
			}
		}
		took := time.Since(begin)
		if differ == "" {
			return took, nil
		}
		if took > limit {
			return took, fmt.Errorf("nodes and etcd differ after %s: %s", seconds(took), differ)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
		if behind { // somebody wrote meanwhile
			if content, err = w.Etcd.Content(ctx); err != nil {
				return took, err
			}
		}
	}
}

// AgreeLine is Agree as a line of the report; the time counts from begin.
func (w *World) AgreeLine(ctx context.Context, what string, begin time.Time, limit time.Duration) {
	_, err := w.Agree(ctx, settling)
	if err != nil {
		w.Check(what, err.Error(), "≤ "+seconds(limit), false)
		return
	}
	w.AtMost(what, time.Since(begin), limit)
}

// Finish stops load and observer and judges what every scenario is judged by.
func (w *World) Finish(ctx context.Context) {
	w.FinishWith(ctx, w.Load)
}

// FinishWith is Finish for another load than the world's.
func (w *World) FinishWith(ctx context.Context, load *Load) {
	if load != nil {
		records := load.Stop()
		f := figures(records, time.Time{}, time.Now().Add(time.Hour))
		w.None("failed requests", f.Failed, f.Requests)
		if err := accounted(records, load.Sent()); err != nil {
			w.Check("every request is recorded", err.Error(), "", false)
		}
		if held := load.held.Load(); held > 0 {
			w.Note("requests that the driver sent late", strconv.FormatInt(held, 10))
		}
		if late := load.late.Load(); late > 0 {
			w.Note("requests that met the end of a silent connection", strconv.FormatInt(late, 10))
		}
	}
	samples := w.Watch.Stop()
	w.None("same revision, other digest", checkDigests(samples), len(samples))
	w.None("revision went back", checkMonotone(samples), len(samples))
	var panics []string
	for _, n := range slices.Concat(w.Gateways, w.Admins) {
		for _, line := range n.Process.Log.Since(time.Time{}, "panic") {
			panics = append(panics, n.Name+": "+line.Text)
		}
		if n.Process.Ended() {
			panics = append(panics, n.Name+" ended")
		}
	}
	w.None("nodes that panicked or ended", panics, len(w.Gateways)+len(w.Admins))
}

// Probe finds whether a route is in force on a node, by a request.
func (w *World) Probe(n *Node, path, want string) bool {
	var r Record
	send(small, &r, "http://"+n.Gateway+path, want)
	return r.Status == http.StatusOK && r.Ended
}

// LiveEverywhere waits until a path is served by every gateway.
func (w *World) LiveEverywhere(ctx context.Context, path string, limit time.Duration) (time.Duration, error) {
	begin := time.Now()
	for _, g := range w.Gateways {
		if _, err := within(ctx, limit, g.Name+" serves "+path, func() bool { return w.Probe(g, path, "probe") }); err != nil {
			return time.Since(begin), err
		}
	}
	return time.Since(begin), nil
}

// route is a route to the lab's upstream.
func (w *World) route(uri, desc string) string {
	return fmt.Sprintf(`{"uri":%q,"desc":%q,"upstream":{"type":"roundrobin","nodes":{%q:1}}}`, uri, desc, w.Upstream)
}

// fill stores so many routes /g0, /g1 and so on, past the Admin API.
func (w *World) fill(ctx context.Context, routes int, desc string) error {
	for from := 0; from < routes; from += 100 {
		var ops []clientv3.Op
		for i := from; i < min(from+100, routes); i++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/routes/g%d", prefix, i), w.route(fmt.Sprintf("/g%d", i), desc)))
		}
		if _, err := w.Etcd.KV.Txn(ctx).Then(ops...).Commit(); err != nil {
			return err
		}
	}
	return nil
}

// attached is the member of etcd that a gateway watches, by its own word; nil if it does not say.
func (w *World) attached(n *Node) *Member {
	lines := n.Process.Log.Since(time.Time{}, "configuration store is connected")
	if len(lines) == 0 {
		return nil
	}
	var line struct {
		Endpoint string `json:"endpoint"`
	}
	if json.Unmarshal([]byte(lines[len(lines)-1].Text), &line) != nil {
		return nil
	}
	for _, m := range w.Etcd.Members {
		if strings.HasSuffix(line.Endpoint, m.Client[strings.LastIndexByte(m.Client, ':'):]) {
			return m
		}
	}
	return nil
}

// has tells whether the settings of this checkout know a word: a feature that is not built has
// no setting.
func (l *Lab) has(setting string) bool {
	raw, err := os.ReadFile(filepath.Join(l.Root, "conf/config.yaml"))
	return err == nil && strings.Contains(string(raw), setting+":")
}

// SIGTERM, SIGSTOP and SIGCONT under the names that scenarios use.
const (
	hang   = syscall.SIGSTOP
	resume = syscall.SIGCONT
)
