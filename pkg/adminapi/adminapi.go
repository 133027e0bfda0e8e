// Package adminapi is the Admin API: it judges what operators write, stores it and
// reads it back, in the words of the reference (spec/01). One handler serves every kind
// of resource; what tells kinds apart is data of package resource. Requests of the data
// plane, and how nodes come to know of a change, it does not know.
package adminapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/pkg/cluster"
	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/seal"
	"github.com/gosix/gosix/pkg/store"
)

// Base is the path below which the API lives.
const Base = "/apisix/admin"

// Roles of keys.
const (
	RoleAdmin  = "admin"
	RoleViewer = "viewer" // may only read
)

// Key is one of the keys that open the API.
type Key struct {
	Name, Value, Role string
}

// Options are the settings of the API.
type Options struct {
	Store    store.Store
	Cluster  *cluster.Registry // of the nodes that can be waited for; nil: there is none
	Registry *plugin.Registry
	// Reload puts the plugins in force that the settings name now, everywhere in this
	// process, which gives way to an API with another Registry, and returns the revision at
	// which the other nodes are told. After an error all is as it was. nil: the plugins cannot
	// be changed.
	Reload func() (revision int64, err error)
	// Cache returns what reads are answered from while the store is away, nil if there is
	// nothing yet. A nil function: they are refused.
	Cache  func() Cache
	Ring   *seal.Ring // nil: secrets are stored plain
	Prefix string     // of store keys: "/apisix"
	// Limit is the time of a write, in which its answer is there: for all that it asks of the
	// store, but not for what it waits for. 0: each call of the store has the store's own.
	Limit time.Duration

	Keys        []Key
	KeyRequired bool
	KeyIn       []string       // "header", "query", "cookie"; nil: header alone
	Allow       []netip.Prefix // peers that may connect; empty: all
	CORS        bool
	Stream      bool   // stream routes may be written
	BodyLimit   int64  // bytes; 0: 1.5 MiB
	Depth       int    // of JSON; 0: 64
	Server      string // value of the Server header
	Log         zerolog.Logger
	Clock       plugin.Clock // nil: the system's
}

// API serves the Admin API. It is safe for concurrent use.
type API struct {
	o          Options
	keys       []hashedKey
	handler    http.Handler
	complaints complaints
}

type hashedKey struct {
	sum  [sha256.Size]byte
	role string
}

const (
	defaultBodyLimit = 1536 << 10
	defaultDepth     = 64
	version          = "v3"
)

// New returns the API over a store.
func New(o Options) *API {
	if o.BodyLimit == 0 {
		o.BodyLimit = defaultBodyLimit
	}
	if o.Depth == 0 {
		o.Depth = defaultDepth
	}
	if o.Clock == nil {
		o.Clock = plugin.SystemClock{}
	}
	if o.Reload == nil {
		o.Reload = func() (int64, error) { return 0, errors.New("the plugins of this process are fixed") }
	}
	if o.KeyIn == nil {
		o.KeyIn = []string{"header"}
	}
	a := &API{o: o}
	for _, k := range o.Keys {
		a.keys = append(a.keys, hashedKey{sha256.Sum256([]byte(k.Value)), k.Role})
	}
	gin.SetMode(gin.ReleaseMode)
	e := gin.New()
	e.RedirectTrailingSlash, e.RedirectFixedPath = false, false
	e.Use(a.guard, a.head, a.authenticate)
	e.Any(Base, a.dispatch)
	e.Any(Base+"/*rest", a.dispatch)
	e.NoRoute(a.bare(http.StatusNotFound))
	a.handler = e
	return a
}

// ServeHTTP serves one request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The reference splits the decoded path and merges slashes, which gin would not.
	for strings.Contains(r.URL.Path, "//") {
		r.URL.Path = strings.ReplaceAll(r.URL.Path, "//", "/")
	}
	r.URL.RawPath = ""
	a.handler.ServeHTTP(w, r)
}

// Init writes the directory markers that are missing (spec/02 §1). Nodes and this API
// do without them; clients of the reference that read etcd do not.
func (a *API) Init(ctx context.Context) error {
	dirs := []string{"plugins"}
	for _, k := range resource.Kinds() {
		if k.Marker {
			dirs = append(dirs, k.Name)
		}
	}
	for _, dir := range dirs {
		key := a.o.Prefix + "/" + dir + "/"
		_, err := a.o.Store.Commit(ctx, []store.Cond{{Key: key}}, []store.Op{{Key: key, Value: []byte("init_dir")}})
		if err != nil && !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return nil
}

// guard turns a panic into a 500 of that request alone.
func (a *API) guard(c *gin.Context) {
	defer func() {
		if v := recover(); v != nil {
			a.o.Log.Error().Any("panic", v).Bytes("stack", debug.Stack()).Str("path", c.Request.URL.Path).Msg("admin request panicked")
			if !c.Writer.Written() {
				a.page(c, http.StatusInternalServerError)
			}
		}
	}()
	c.Next()
}

// head sets what every answer carries, and answers what needs no key.
func (a *API) head(c *gin.Context) {
	h := c.Writer.Header()
	h.Set("Server", a.o.Server)
	if !a.allowed(c.Request.RemoteAddr) {
		a.page(c, http.StatusForbidden)
		return
	}
	inside := c.Request.URL.Path == Base || strings.HasPrefix(c.Request.URL.Path, Base+"/")
	if a.o.CORS {
		h.Set("Access-Control-Allow-Origin", "*")
		h.Set("Access-Control-Allow-Credentials", "true")
		if c.Request.Method == http.MethodOptions && inside {
			h.Set("Access-Control-Allow-Methods", "POST, GET, PUT, OPTIONS, DELETE, PATCH")
			h.Set("Access-Control-Max-Age", "3600")
			h.Set("Access-Control-Allow-Headers", "*")
			h.Set("Content-Length", "0")
			c.Data(http.StatusOK, "text/plain; charset=utf-8", nil)
			c.Abort()
			return
		}
		h.Set("Access-Control-Expose-Headers", "*")
		h.Set("Access-Control-Max-Age", "3600")
	}
	switch c.Request.Method {
	case http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete:
	case http.MethodHead:
		if strings.TrimSuffix(c.Request.URL.Path, "/") == Base {
			c.Status(http.StatusOK)
			c.Writer.WriteHeaderNow()
			c.Abort()
			return
		}
		a.page(c, http.StatusNotFound)
	default:
		a.page(c, http.StatusNotFound)
	}
}

func (a *API) allowed(remote string) bool {
	if len(a.o.Allow) == 0 {
		return true
	}
	peer, err := netip.ParseAddrPort(remote)
	if err != nil {
		return false
	}
	addr := peer.Addr().Unmap().WithZone("") // a prefix contains no address with a zone
	for _, p := range a.o.Allow {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// authenticate stands before every path, so that none can be forgotten.
func (a *API) authenticate(c *gin.Context) {
	if !a.o.KeyRequired {
		return
	}
	key, given := a.presented(c)
	switch role := a.roleOf(key); {
	case !given:
		a.refuse(c, "missing apikey")
	case role == "":
		a.refuse(c, "wrong apikey")
	case role == RoleViewer && c.Request.Method != http.MethodGet:
		a.refuse(c, "invalid method for role viewer")
	}
}

func (a *API) presented(c *gin.Context) (string, bool) {
	for _, place := range a.o.KeyIn {
		switch place {
		case "query":
			if v, ok := c.GetQuery("api_key"); ok {
				return v, true
			}
		case "header":
			if v := c.Request.Header.Values("X-API-KEY"); len(v) > 0 {
				return v[0], true
			}
		case "cookie":
			if v, err := c.Request.Cookie("x_api_key"); err == nil {
				return v.Value, true
			}
		}
	}
	return "", false
}

// roleOf compares with every key, so that the time taken tells nothing.
func (a *API) roleOf(key string) (role string) {
	sum := sha256.Sum256([]byte(key))
	for i := range a.keys {
		if subtle.ConstantTimeCompare(sum[:], a.keys[i].sum[:]) == 1 {
			role = a.keys[i].role
		}
	}
	return role
}

func (a *API) refuse(c *gin.Context, why string) {
	a.json(c, http.StatusUnauthorized, []byte(`{"error_msg":"failed to check token","description":`+quoted(why)+`}`))
	c.Abort()
}

// request is one call, taken apart.
type request struct {
	*gin.Context
	steps []string // of the path below Base
	body  []byte   // nil: none
	doc   *jsonedit.Doc
	ttl   time.Duration
	wait  time.Duration // for all nodes to apply what is written; 0: not at all
	// client is the context of the call itself. That of Request has the limit of a write.
	client context.Context
	// alone: documents are judged as they stand. What else is stored neither has to be
	// there nor stands in their way.
	alone bool
}

// step is one step of the path, "" behind its end.
func (q *request) step(i int) string {
	if i < len(q.steps) {
		return q.steps[i]
	}
	return ""
}

// dispatch finds out what a path means (spec/01 §2).
func (a *API) dispatch(c *gin.Context) {
	path := strings.Trim(strings.TrimPrefix(c.Request.URL.Path, Base), "/")
	if path == "" {
		a.page(c, http.StatusNotFound)
		return
	}
	q := &request{Context: c, steps: strings.Split(path, "/")}
	for _, s := range q.steps {
		if s == "." || s == ".." {
			a.fail(c, http.StatusBadRequest, "invalid path: "+c.Request.URL.Path)
			return
		}
	}
	switch q.steps[0] {
	case "plugins":
		a.plugins(q)
		return
	case "schema":
		a.schema(q)
		return
	case "nodes":
		a.nodes(q)
		return
	case "configs":
		if a.configs(q) {
			return
		}
	}
	kind := resource.ByName(q.steps[0])
	if kind == nil || kind.Parent != "" {
		a.fail(c, http.StatusNotFound, "Unsupported resource type: "+q.steps[0])
		return
	}
	if kind.Name == "stream_routes" && !a.o.Stream {
		a.fail(c, http.StatusBadRequest, "stream mode is disabled, can not add stream routes")
		return
	}
	if !a.read(q) || !a.index(q, true) || !a.readTTL(q) || !a.readWait(q) {
		return
	}
	c.Header("X-API-VERSION", version)
	defer a.limit(q)()
	a.resource(q, a.targetOf(kind, q.steps[1:]))
}

// limit gives a write its time, until what it returns is called. A tenth of it stays for
// the answer.
func (a *API) limit(q *request) (end func()) {
	q.client = q.Request.Context()
	if a.o.Limit <= 0 || q.Request.Method == http.MethodGet {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(q.client, a.o.Limit-a.o.Limit/10)
	q.Request = q.Request.WithContext(ctx)
	return cancel
}

// lateShare is the part of a write's time, one in so many, that must be left when the change
// itself is handed over: begun later, its outcome would be left to chance.
const lateShare = 10

var errLate = fmt.Errorf("%w: it answers too slowly for the change to be made in time", store.ErrUnavailable)

// timely tells whether there is time left for the change.
func (a *API) timely(q *request) error {
	if end, ok := q.Request.Context().Deadline(); ok && a.o.Limit > 0 && time.Until(end) < a.o.Limit/lateShare {
		return errLate
	}
	return nil
}

// read takes the body; false if it answered.
func (a *API) read(q *request) bool {
	body, size, err := readLimited(q.Request, a.o.BodyLimit)
	if err == nil && size > a.o.BodyLimit {
		err = fmt.Errorf("request size %d is greater than the maximum size %d allowed", size, a.o.BodyLimit)
	}
	if err != nil {
		a.o.Log.Warn().Err(fmt.Errorf("failed to read request body: %w", err)).Str("path", q.Request.URL.Path).Msg("admin request was refused")
		a.fail(q.Context, http.StatusBadRequest, "invalid request body: "+err.Error())
		return false
	}
	if len(body) > 0 {
		q.body = body
	}
	return true
}

// index takes the body apart, which must be JSON if there is one; false if it answered. An
// answer shows the body with echo.
func (a *API) index(q *request, echo bool) bool {
	if q.body == nil {
		return true
	}
	var err error
	q.doc, err = jsonedit.Index(q.body, jsonedit.Options{MaxDepth: a.o.Depth, Duplicates: true})
	if err != nil {
		answer := `{"error_msg":` + quoted("invalid request body: "+err.Error())
		if echo {
			answer += `,"req_body":` + quoted(string(q.body))
		}
		a.json(q.Context, http.StatusBadRequest, []byte(answer+"}"))
		return false
	}
	return true
}

// readTTL takes the argument ttl; false if it answered.
func (a *API) readTTL(q *request) bool {
	text, given := q.GetQuery("ttl")
	if !given {
		return true
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || seconds != seconds {
		a.fail(q.Context, http.StatusBadRequest, "invalid argument ttl: should be a number")
		return false
	}
	if seconds < 1 || seconds > maxTTL {
		a.fail(q.Context, http.StatusBadRequest, "invalid argument ttl: should be between 1 and "+strconv.Itoa(maxTTL)+" seconds")
		return false
	}
	q.ttl = time.Duration(seconds * float64(time.Second))
	return true
}

// maxTTL is the longest lease that the store grants, in seconds.
const maxTTL = 9_000_000_000

// target is what a path of a resource names.
type target struct {
	kind   *resource.Kind
	parent string // id of the parent, for kinds that live below another
	id     string // as in the path; empty: the collection
	rest   []string
}

// fullID is the id by which the store's key is made.
func (t target) fullID() string { return t.kind.ChildID(t.parent, t.id) }

func (a *API) targetOf(kind *resource.Kind, steps []string) target {
	at := func(i int) string {
		if i < len(steps) {
			return steps[i]
		}
		return ""
	}
	after := func(i int) []string {
		if i < len(steps) {
			return steps[i:]
		}
		return nil
	}
	if child := resource.ByName(at(1)); child != nil && child.Parent == kind.Name {
		return target{kind: child, parent: at(0), id: at(2), rest: after(3)}
	}
	if kind.IDFrom == resource.IDFromManager {
		t := target{kind: kind, id: at(0), rest: after(2)}
		if at(1) != "" {
			t.id += "/" + at(1)
		}
		return t
	}
	return target{kind: kind, id: at(0), rest: after(1)}
}

// resource serves one call on a kind.
func (a *API) resource(q *request, t target) {
	method := q.Request.Method
	if !t.kind.Allows(method) {
		a.fail(q.Context, http.StatusMethodNotAllowed, "not supported `"+method+"` method for "+t.kind.Word)
		return
	}
	if len(t.rest) > 0 && (method == http.MethodPut || method == http.MethodPost || method == http.MethodDelete) {
		// The reference ignores what follows: a mistyped /consumers/jack/credential/c1 would
		// delete jack.
		a.fail(q.Context, http.StatusNotFound, "path not found: "+q.Request.URL.Path)
		return
	}
	switch method {
	case http.MethodGet:
		a.get(q, t)
	case http.MethodPut:
		a.put(q, t)
	case http.MethodPost:
		a.post(q, t)
	case http.MethodPatch:
		a.patch(q, t)
	case http.MethodDelete:
		a.delete(q, t)
	}
}
