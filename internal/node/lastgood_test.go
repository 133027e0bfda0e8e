package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/cluster"
	"github.com/gosix/gosix/pkg/config"
	"github.com/gosix/gosix/pkg/store"
	"github.com/gosix/gosix/pkg/store/embedetcd"
	"github.com/gosix/gosix/pkg/store/etcdstore"
)

// pair is an etcd that is taken away, and a gateway in front of it that is stopped and
// started on the data of the one before.
type pair struct {
	*process
	t        *testing.T
	etcd     *embedetcd.Server
	dir      string // of the etcd
	listen   string
	data     string // of the gateway
	upstream string // host:port
	store    *etcdstore.Store
	ports    Ports
	change   func(*config.Config)
}

func newPair(t *testing.T) *pair {
	c := &pair{t: t, dir: filepath.Join(t.TempDir(), "etcd"), data: t.TempDir()}
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("up")) }))
	t.Cleanup(up.Close)
	c.upstream = up.Listener.Addr().String()
	t.Cleanup(func() { c.etcd.Close() })
	c.startEtcd()
	var err error
	if c.store, err = etcdstore.New(etcdstore.Config{Endpoints: []string{c.etcd.Endpoint()}, Timeout: patience, Log: zerolog.Nop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.store.Close() })
	return c
}

func (c *pair) startEtcd() {
	c.t.Helper()
	c.etcd = etcdAgain(c.t, c.dir, c.listen)
	c.listen = strings.TrimPrefix(c.etcd.Endpoint(), "http://")
}

// wipe takes etcd's data away.
func (c *pair) wipe() {
	c.t.Helper()
	c.etcd.Close()
	if err := os.RemoveAll(c.dir); err != nil {
		c.t.Fatal(err)
	}
	c.startEtcd()
}

func (c *pair) commit(ops ...store.Op) int64 {
	c.t.Helper()
	res, err := c.store.Commit(c.t.Context(), nil, ops)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.Revision
}

// route is the put of a route that matches /<id>.
func (c *pair) route(id int) store.Op {
	return store.Op{
		Key: "/apisix/routes/" + strconv.Itoa(id),
		Value: fmt.Appendf(nil, `{"id":"%d","uri":"/%d","upstream":{"type":"roundrobin","nodes":{"%s":1}},"labels":{"team":"of-some-name","stage":"prod"}}`,
			id, id, c.upstream),
	}
}

func (c *pair) fill(n int) {
	c.t.Helper()
	for from := 0; from < n; from += 100 {
		var ops []store.Op
		for id := from; id < min(from+100, n); id++ {
			ops = append(ops, c.route(id))
		}
		c.commit(ops...)
	}
}

// start starts a gateway, which is served from then on.
func (c *pair) start() {
	c.t.Helper()
	o := settings(c.t)
	o.Deployment.DataDir, o.Deployment.Role = c.data, "data_plane"
	o.Deployment.Etcd.Host = []string{"http://" + c.listen}
	if c.change != nil {
		c.change(o)
	}
	_ = os.Remove(filepath.Join(c.data, "ports.json")) // of the process before
	c.process = begin(c.t, config.ProgramGateway, o)
	c.ports = c.process.ports()
}

// told is what GET /v1/config says.
type told struct {
	Revision  int64   `json:"revision"`
	Observed  int64   `json:"observed"`
	Node      string  `json:"node"`
	Digest    string  `json:"digest"`
	Staleness float64 `json:"staleness_s"`
	Source    string  `json:"source"`
	Saved     string  `json:"saved"`
	Waiting   string  `json:"waiting"`
	Held      *struct {
		Cause     string `json:"cause"`
		Revision  int64  `json:"revision"`
		ClusterID string `json:"cluster_id"`
		InForce   int    `json:"objects_in_force"`
		Offered   int    `json:"objects_offered"`
		Since     string `json:"since"`
	} `json:"held"`
}

func (p *process) told(control string) (c told) {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), http.MethodGet, "http://"+control+"/v1/config", nil)
	if err != nil {
		p.t.Fatal(err)
	}
	status, text := p.do(req)
	if err := json.Unmarshal([]byte(text), &c); err != nil || status != http.StatusOK {
		p.t.Fatalf("%d %v: %s", status, err, text)
	}
	return c
}

func (c *pair) config() told { return c.told(c.ports.Control) }

// served is the status of a request for /<id>.
func (c *pair) served(id int) int {
	return c.process.get(fmt.Sprintf("http://%s/%d", c.ports.Gateway[0], id))
}

// accept is a call of POST /v1/config/accept.
func (c *pair) accept(body string, headers ...string) (int, string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "http://"+c.ports.Control+"/v1/config/accept", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return c.do(req)
}

func TestAGatewayServesWithoutEtcdWhatItHadInForce(t *testing.T) {
	const routes = 10_000
	c := newPair(t)
	c.fill(routes)
	c.start()
	want := c.config()
	if want.Source != "store" || c.served(routes-1) != http.StatusOK {
		t.Fatalf("with etcd: %+v, %d", want, c.served(routes-1))
	}
	c.stop()
	c.etcd.Close()

	began := time.Now()
	c.start()
	first := c.served(0)
	took := time.Since(began)
	got := c.config()
	if first != http.StatusOK || c.served(routes-1) != http.StatusOK || c.served(routes) != http.StatusNotFound {
		t.Errorf("it does not serve what it had: %d, %d", first, c.served(routes-1))
	}
	if got.Source != "disk" || got.Digest != want.Digest || got.Revision != want.Revision || got.Saved == "" {
		t.Errorf("got %+v, want the revision and digest of %+v", got, want)
	}
	t.Logf("%d routes were served %v after the start, of which it waited %gs for etcd", routes, took, c.c.Deployment.LastGood.Wait)
	c.eventually("the staleness grows", func() bool { return c.config().Staleness > got.Staleness })
	c.eventually("the log says that etcd is away", func() bool { return strings.Contains(c.log.String(), "is away") })
	if n := strings.Count(c.log.String(), "is away"); n != 1 {
		t.Errorf("%d lines say that etcd is away, want 1", n)
	}

	c.startEtcd()
	c.eventually("it is served from the store again", func() bool { now := c.config(); return now.Source == "store" && now.Staleness == 0 })
	if now := c.config(); now.Digest != want.Digest || now.Held != nil {
		t.Errorf("got %+v, want the digest of %+v", now, want)
	}
	c.commit(c.route(routes))
	c.eventually("a new route arrives", func() bool { return c.served(routes) == http.StatusOK })
}

// record is what the registry has of the node; the zero value while it has nothing.
func (c *pair) record() (n cluster.Node) {
	c.t.Helper()
	item, _, err := c.store.Get(c.t.Context(), cluster.Directory("/apisix")+c.config().Node)
	if err == nil {
		err = json.Unmarshal(item.Value, &n)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		c.t.Fatal(err)
	}
	return n
}

// Records of nodes move the revision of the store, and the node is not behind for it.
func TestWhatIsObservedComesIntoForce(t *testing.T) {
	c := newPair(t)
	c.fill(3)
	c.start()
	c.eventually("the node is registered", func() bool { return c.record().Digest != "" })
	if got := c.record(); !slices.Equal(got.Addresses, c.ports.Gateway) || !slices.Equal(got.TLS, c.ports.GatewayTLS) || len(got.TLS) != 1 {
		t.Errorf("it is registered at %v and, with TLS, %v; it listens at %v and %v", got.Addresses, got.TLS, c.ports.Gateway, c.ports.GatewayTLS)
	}
	at := c.commit(c.route(4))
	c.eventually("a change is in force", func() bool { return c.config().Revision == at })
	for i := range 3 {
		c.commit(store.Op{Key: "/apisix-nodes/other", Value: []byte(strconv.Itoa(i))})
	}
	newest := c.commit(store.Op{Key: "/elsewhere", Value: []byte("x")})
	c.eventually("the node knows that the store moved on", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.ports.Metrics+"/apisix/prometheus/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, text := c.do(req)
		_, rest, _ := strings.Cut(text, `apisix_etcd_modify_indexes{key="x_etcd_index"} `)
		n, _, _ := strings.Cut(rest, "\n")
		seen, err := strconv.ParseFloat(n, 64)
		return err == nil && int64(seen) >= newest
	})
	if now := c.config(); now.Revision != at || now.Observed != at {
		t.Errorf("got revision %d and %d observed, want %d", now.Revision, now.Observed, at)
	}
}

func TestAWipedEtcdDoesNotEmptyAGateway(t *testing.T) {
	c := newPair(t)
	c.fill(10)
	c.start()
	want := c.config()
	if status, text := c.accept(""); status != http.StatusConflict || !strings.Contains(text, "nothing is held") {
		t.Errorf("accept before anything is held: %d %s", status, text)
	}
	c.wipe()
	c.eventually("it is held", func() bool { return c.config().Held != nil })
	got := c.config()
	if got.Digest != want.Digest || got.Revision != want.Revision || got.Held.InForce != 10 || got.Held.Offered != 0 || got.Held.Cause != "other cluster" {
		t.Errorf("got %+v held: %+v, want what was in force: %+v", got, got.Held, want)
	}
	c.eventually("the staleness grows", func() bool { return c.config().Staleness > got.Staleness })
	for id := range 10 {
		if c.served(id) != http.StatusOK {
			t.Errorf("route %d is not served any more", id)
		}
	}

	// It is held still after a restart, whether or not etcd is there.
	c.stop()
	c.start()
	c.eventually("it is held after a restart", func() bool { return c.config().Held != nil })
	if c.config().Digest != want.Digest || c.served(3) != http.StatusOK {
		t.Errorf("after a restart: %+v", c.config())
	}

	at := c.commit(c.route(77))
	c.eventually("the store is followed", func() bool { return c.config().Held.Revision == at })

	// Who writes now is not told that the gateway has it: its revision is of another history.
	registry := cluster.NewRegistry(c.store, "/apisix")
	go registry.Run(t.Context())
	write := func() cluster.Standing {
		ask, err := registry.Ask(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		at = c.commit(c.route(78), ask)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return registry.Wait(ctx, at)
	}
	var standing cluster.Standing
	c.eventually("the gateway is registered, and says that it holds something", func() bool {
		standing = write()
		return len(standing.Nodes) == 1 && standing.Nodes[0].Held
	})
	if standing.Done() || standing.Applied != 0 {
		t.Errorf("a write while it is held: %+v, want one node that does not have it", standing)
	}
	c.eventually("the store is followed", func() bool { return c.config().Held.Revision == at && c.config().Observed >= at })
	for body, status := range map[string]int{
		`{"revision":` + strconv.FormatInt(at+99, 10) + `}`: http.StatusConflict,
		`{"revision":"1"}`:               http.StatusBadRequest,
		`{"revision":1,"revision":2}`:    http.StatusBadRequest,
		`{"revison":1}`:                  http.StatusBadRequest,
		`[]`:                             http.StatusBadRequest,
		`{`:                              http.StatusBadRequest,
		strings.Repeat(" ", 5000) + "{}": http.StatusBadRequest,
	} {
		if got, text := c.accept(body); got != status {
			t.Errorf("accept of %.60s: %d %s, want %d", body, got, text, status)
		}
	}
	if status, _ := c.accept("", "Origin", "http://evil.test"); status != http.StatusForbidden {
		t.Errorf("a page of another site may accept: %d", status)
	}
	if c.served(3) != http.StatusOK {
		t.Error("it was accepted nevertheless")
	}
	status, text := c.accept(`{"revision":` + strconv.FormatInt(at, 10) + `}`)
	if status != http.StatusOK || !strings.Contains(text, `"objects_offered":2`) || !strings.Contains(text, fmt.Sprintf(`"revision":%d`, at)) {
		t.Errorf("accept: %d %s", status, text)
	}
	c.eventually("what was accepted is in force", func() bool { return c.served(77) == http.StatusOK && c.served(3) == http.StatusNotFound })
	if now := c.config(); now.Held != nil || now.Source != "store" || now.Observed != now.Revision {
		t.Errorf("got %+v", now)
	}
	if n := strings.Count(c.log.String(), "has lost most"); n != 1 {
		t.Errorf("%d lines of the alarm, want 1", n)
	}
}

func TestARestoredEtcdIsFollowedAtOnce(t *testing.T) {
	c := newPair(t)
	c.fill(10)
	c.etcd.Close()
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(c.dir)); err != nil {
		t.Fatal(err)
	}
	c.startEtcd()
	c.start()
	want := c.config()
	c.commit(c.route(10))
	c.commit(store.Op{Key: "/apisix/routes/0", Delete: true})
	c.eventually("the changes are in force", func() bool { return c.served(10) == http.StatusOK && c.served(0) == http.StatusNotFound })
	c.etcd.Close()
	c.dir = backup
	c.startEtcd()
	c.eventually("the backup is in force", func() bool { return c.config().Digest == want.Digest })
	if now := c.config(); now.Held != nil || c.served(0) != http.StatusOK || c.served(10) != http.StatusNotFound {
		t.Errorf("got %+v", now)
	}
}

func TestAMarkerKeyAcceptsAnEmptiedEtcd(t *testing.T) {
	c := newPair(t)
	c.commit(store.Op{Key: "/apisix/routes/", Value: []byte("init_dir")})
	c.fill(5)
	c.start()
	c.commit(store.Op{Key: "/apisix/", Delete: true, Prefix: true})
	c.eventually("it is held", func() bool { return c.config().Held != nil })
	held := c.config().Held
	if held.Cause != "emptied" || c.served(0) != http.StatusOK {
		t.Errorf("got %+v, route 0: %d", held, c.served(0))
	}
	c.commit(store.Op{Key: "/apisix-nodes/accept", Value: fmt.Appendf(nil, "%d\n", held.Revision)})
	c.eventually("it is accepted", func() bool { return c.served(0) == http.StatusNotFound })
	if now := c.config(); now.Held != nil || now.Digest != strings.Repeat("0", 64) {
		t.Errorf("got %+v, want the digest of nothing", now)
	}
}

func TestAGatewayWithoutEtcdAndSnapshotSaysWhyItWaits(t *testing.T) {
	o := settings(t)
	o.Deployment.Role, o.Deployment.Etcd.Host = "data_plane", []string{nobody}
	o.Deployment.LastGood.Wait, o.Apisix.Control.Port = 0, vacant(t)
	p := begin(t, config.ProgramGateway, o)
	p.eventually("it says why", func() bool {
		res, err := http.Get("http://" + o.Apisix.Control.String() + "/v1/config")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return strings.Contains(p.told(o.Apisix.Control.String()).Waiting, "has no snapshot")
	})
	p.eventually("the log says so", func() bool { return strings.Contains(p.log.String(), "there is nothing to start from") })
}

func TestSnapshotsAreSealedWithTheKeyringOrAKeyOfTheirOwn(t *testing.T) {
	c := newPair(t)
	c.fill(3)
	own := filepath.Join(c.data, "snapshot.key")
	restart := func(with ...config.Secret) string {
		t.Helper()
		c.change = func(o *config.Config) { o.Apisix.DataEncryption.Keyring = with }
		c.start()
		from := c.config().Source
		c.stop()
		return from
	}
	restart()
	if info, err := os.Stat(own); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the generated key: %v, %v, want mode 0600", err, info)
	}
	files, _ := filepath.Glob(filepath.Join(c.data, "snapshots", "*"))
	if len(files) != 1 {
		t.Fatalf("got files %v, want one", files)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil || strings.Contains(string(raw), "apisix") {
		t.Errorf("the file is not sealed: %v", err)
	}
	c.etcd.Close()
	// Another run seals nothing anew, as nothing changes; every key that it may have been
	// sealed with opens it.
	for _, ring := range [][]config.Secret{nil, {"sixteen-bytes-01"}} {
		if from := restart(ring...); from != "disk" {
			t.Errorf("with a keyring of %d keys: it is served from %q", len(ring), from)
		}
	}
}

func TestTheAdminAPIWithoutEtcd(t *testing.T) {
	c := newPair(t)
	o := settings(t)
	o.Deployment.Etcd.Host, o.Deployment.Etcd.Timeout = []string{"http://" + c.listen}, 5
	o.Deployment.Admin.Keys = []config.AdminKey{{Name: "a", Key: reloadKey, Role: "admin"}}
	p := begin(t, config.ProgramGosix, o)
	ports := p.ports()
	put := func() (int, string) { return p.admin("PUT", ports.Admin, "/routes/1", string(c.route(1).Value)) }
	if status, text := put(); status != http.StatusCreated {
		t.Fatalf("with etcd: %d %s", status, text)
	}
	p.eventually("the route is served", func() bool { return p.get("http://"+ports.Gateway[0]+"/1") == http.StatusOK })
	c.etcd.Close()
	p.eventually("writes are known not to happen", func() bool {
		// The first ones may have been on their way.
		began := time.Now()
		status, text := put()
		t.Logf("%d after %v", status, time.Since(began))
		return status == http.StatusServiceUnavailable && strings.Contains(text, `"error":"config_store_unavailable","retryable":true`)
	})
	if status, text := p.admin("GET", ports.Admin, "/routes/1", ""); status != http.StatusOK || !strings.Contains(text, `"stale":true`) {
		t.Errorf("a read: %d %s", status, text)
	}
	if p.get("http://"+ports.Gateway[0]+"/1") != http.StatusOK {
		t.Error("the route is not served any more")
	}
	c.startEtcd()
	p.eventually("it is written again", func() bool { status, _ := put(); return status == http.StatusOK })
	if status, text := p.admin("GET", ports.Admin, "/routes/1", ""); status != http.StatusOK || strings.Contains(text, "stale") {
		t.Errorf("a read with etcd back: %d %s", status, text)
	}
	if n := strings.Count(p.log.String(), "configuration store failed"); n != 1 {
		t.Errorf("%d lines about calls that failed, want 1", n)
	}
}
