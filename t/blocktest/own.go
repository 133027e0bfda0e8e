package blocktest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/t/blocktest/perl"
)

// The sections of the project's own suites, which t/README.md specifies. A suite is one of
// them when it has no __DATA__: its blocks begin at once, below a few lines of prose.

// ownPrologue is what such a suite runs with instead of a prologue.
const ownPrologue = "use t::APISIX 'no_plan'; run_tests();\n"

// A Script is what a block wants set up behind the servers and the gateway that are staged.
type Script struct {
	Upstreams []Upstream
	Calls     []Call  // of the Admin API; each has to succeed
	Writes    []Write // past the Admin API, when the calls are made
}

// An Upstream is a server that answers as it is told.
type Upstream struct {
	Name    string
	Answers []Answer // one request after the other; the last one stays
	Model   string   // answer as a language model of that name, instead
	TLS     bool     // in every block of its suite
	Refuse  bool     // nobody listens
}

// An Answer is one of an Upstream.
type Answer struct {
	Status int // 0: the connection breaks instead
	Header [][2]string
	Body   string
	Delay  time.Duration // before the status
	Gap    time.Duration // between the events of a stream
	Cut    int           // bytes of the body after which the connection breaks; negative: none
}

// A Call is a request to the Admin API.
type Call struct{ Method, Target, Body string }

// A Write puts an item into etcd as it is, or deletes it.
type Write struct {
	Key, Value string
	Delete     bool
}

// A Fault is what breaks: etcd, gosix, or an upstream.
type Fault struct {
	What     string // "etcd", "gosix", "upstream"
	Upstream string
	Before   int // the request, from 0, before which it breaks
}

// A Received is a request as an Upstream got it. Header has Host, Content-Length and
// Transfer-Encoding too.
type Received struct {
	Method, Target string
	Header         map[string][]string
	Body           string
	Gone           bool // the client left before the end of the answer
}

// A Director is a World for the project's own sections. Without it, their blocks are
// Unsupported.
type Director interface {
	World
	// Place is where an upstream of that name listens, host:port; it never changes.
	Place(upstream string) string
	// Direct follows a Stage: it does what a script says, and forgets what upstreams
	// received. It returns when the gateway serves what was written.
	Direct(ctx context.Context, s *Script) error
	// Break makes a fault happen. It lasts for the block, but for a killed gosix, which is
	// started again at once.
	Break(ctx context.Context, f Fault) error
	// Received is what an upstream got since Direct.
	Received(upstream string) []Received
}

// ownSections are the names of the sections that are taken out of a block before Test::Base's
// rules apply to it: what stands behind the name is an argument, no filter, and a block may
// have several. The section stream is one like those of Test::Nginx.
var ownSections = map[string]func(d *direction, arg, text string) error{
	"upstream":         (*direction).upstream,
	"upstream_request": (*direction).request,
	"admin":            (*direction).admin,
	"etcd":             (*direction).etcd,
	"kill":             (*direction).kill,
}

// withArgument are those that have one.
var withArgument = []string{"upstream", "upstream_request"}

// A direction is what the own sections of a block say.
type direction struct {
	folder   string // of the suite
	script   Script
	faults   []Fault
	expected []expectedRequests
}

// names are the upstreams of a suite, and whether they speak TLS.
func (s *Suite) names() map[string]bool {
	all := map[string]bool{}
	for _, b := range s.Blocks {
		for _, sec := range b.Sections {
			if sec.Name == "upstream" && len(sec.Filters) == 1 {
				all[sec.Filters[0]] = all[sec.Filters[0]] || tlsLine.MatchString(sec.Raw)
			}
		}
	}
	return all
}

var (
	tlsLine      = regexp.MustCompile(`(?m)^tls:\s*true\s*$`)
	placeName    = regexp.MustCompile(`\$(upstream|node)_(\w+)`)
	upstreamName = regexp.MustCompile(`^\w+$`)
	methodLine   = regexp.MustCompile(`^(?:([1-9]\d{0,3}) \* )?([A-Z]+) ([/*]\S*)$`)
	// requestLike is a line that means to begin a request, and may fail to.
	requestLike = regexp.MustCompile(`^\s*(?:\d+\s*\*\s*)?(?:GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS|TRACE|CONNECT|PURGE)\s+\S+(?:\s+HTTP/\S+)?\s*$`)
)

// direct reads a block's own sections and returns them, and the block without them, with
// the addresses of upstreams put in.
func (r *runner) direct(b *Block) (*Block, *direction, error) {
	director, ok := r.world.(Director)
	if !ok {
		return nil, nil, &StageError{Unsupported, "a suite of the project's own in this world"}
	}
	names := r.suite.names()
	var unknown []string
	put := func(text string) string {
		return placeName.ReplaceAllStringFunc(text, func(name string) string {
			m := placeName.FindStringSubmatch(name)
			tls, known := names[m[2]]
			switch {
			case !known && m[1] == "node":
				unknown = append(unknown, name)
				return name
			case !known: // a variable of a log format
				return name
			case m[1] == "node":
				return director.Place(m[2])
			case tls:
				return "https://" + director.Place(m[2])
			}
			return "http://" + director.Place(m[2])
		})
	}
	rest := &Block{Name: b.Name, Number: b.Number, Line: b.Line}
	d := &direction{folder: filepath.Dir(r.suite.Path)}
	for _, sec := range b.Sections {
		read, own := ownSections[sec.Name]
		if !own {
			changed := *sec
			changed.Raw = put(sec.Raw)
			rest.Sections = append(rest.Sections, &changed)
			continue
		}
		arg := strings.Join(sec.Filters, " ")
		if wants := slices.Contains(withArgument, sec.Name); wants != upstreamName.MatchString(arg) || !wants && arg != "" {
			return nil, nil, fmt.Errorf("section %s of line %d: %q behind its name", sec.Name, sec.Line, arg)
		}
		if _, known := names[arg]; !known && arg != "" {
			return nil, nil, fmt.Errorf("section %s of line %d: no block has an upstream %s", sec.Name, sec.Line, arg)
		}
		if err := read(d, arg, strings.TrimRight(put(sec.Raw), " \t\r\n")); err != nil {
			return nil, nil, fmt.Errorf("section %s of line %d: %w", sec.Name, sec.Line, err)
		}
	}
	if len(unknown) > 0 {
		return nil, nil, fmt.Errorf("%s: no block has an upstream of that name", unknown[0])
	}
	for i, u := range d.script.Upstreams {
		d.script.Upstreams[i].TLS = names[u.Name]
	}
	for _, f := range d.faults {
		if _, known := names[f.Upstream]; f.What == "upstream" && !known {
			return nil, nil, fmt.Errorf("section kill: no block has an upstream %s", f.Upstream)
		}
	}
	return rest, d, nil
}

// A message is a request as sections write it: a line with its method, its body below.
type message struct {
	times          int
	method, target string
	rest           string
}

// messages splits a text where a line with a method follows an empty one. A text that does
// not begin with such a line has none. A line in that place that looks like a request and is
// none is an error: as a part of a body, nobody would make the request.
func messages(text string) ([]message, error) {
	var all []message
	blank := true
	for line := range strings.SplitSeq(text, "\n") {
		m := methodLine.FindStringSubmatch(strings.TrimRight(line, " \t\r"))
		switch {
		case m != nil && blank:
			times := 1
			if m[1] != "" {
				times, _ = strconv.Atoi(m[1])
			}
			all = append(all, message{times: times, method: m[2], target: m[3]})
		case len(all) == 0 && strings.TrimSpace(line) != "":
			return nil, nil
		case len(all) > 0 && blank && requestLike.MatchString(line):
			return nil, fmt.Errorf("%q behind an empty line is neither a request like GET /x or 10 * GET /x nor a part of a body", line)
		case len(all) > 0:
			all[len(all)-1].rest += line + "\n"
		}
		blank = strings.TrimSpace(line) == ""
	}
	for i := range all {
		all[i].rest = strings.TrimRight(all[i].rest, " \t\r\n")
	}
	return all, nil
}

// admin reads the calls of the Admin API.
func (d *direction) admin(_, text string) error {
	calls, err := messages(text)
	if err != nil {
		return err
	}
	if len(calls) == 0 {
		return errors.New("a call begins with a line like PUT /apisix/admin/routes/1")
	}
	for _, c := range calls {
		if c.times != 1 {
			return errors.New("a call is made once")
		}
		d.script.Calls = append(d.script.Calls, Call{c.method, c.target, strings.TrimSpace(c.rest)})
	}
	return nil
}

// etcd reads the items that are written as they are: a key and its value on a line, a key
// alone to delete it.
func (d *direction) etcd(_, text string) error {
	for line := range strings.SplitSeq(text, "\n") {
		key, value, found := strings.Cut(strings.TrimSpace(line), " ")
		if !strings.HasPrefix(key, "/") {
			return fmt.Errorf("%q begins with no key", line)
		}
		d.script.Writes = append(d.script.Writes, Write{Key: key, Value: strings.TrimSpace(value), Delete: !found})
	}
	return nil
}

var killLine = regexp.MustCompile(`^(?:(etcd|gosix)|(upstream) (\w+))(?: before request (\d+))?$`)

func (d *direction) kill(_, text string) error {
	for line := range strings.SplitSeq(text, "\n") {
		m := killLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			return fmt.Errorf("%q is not etcd, gosix or upstream NAME, and perhaps before request N", line)
		}
		before := 1
		if m[4] != "" {
			before, _ = strconv.Atoi(m[4])
		}
		d.faults = append(d.faults, Fault{What: m[1] + m[2], Upstream: m[3], Before: before - 1})
	}
	return nil
}

// upstream reads how an upstream answers. Lines "then:" stand between its answers.
func (d *direction) upstream(name, text string) error {
	u := Upstream{Name: name}
	var answers []string
	current := ""
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "then:" {
			answers, current = append(answers, current), ""
		} else {
			current += line
		}
	}
	for _, text := range append(answers, current) {
		a, err := d.answer(&u, text)
		if err != nil {
			return err
		}
		u.Answers = append(u.Answers, a)
	}
	if slices.ContainsFunc(d.script.Upstreams, func(o Upstream) bool { return o.Name == name }) {
		return errors.New("the block has it twice")
	}
	d.script.Upstreams = append(d.script.Upstreams, u)
	return nil
}

// answer reads one answer: lines of settings and, behind an empty line, its body. Without a
// body it says the name of its upstream.
func (d *direction) answer(u *Upstream, text string) (Answer, error) {
	a := Answer{Status: 200, Body: u.Name + "\n", Cut: -1}
	var kind string
	head, body, given := strings.Cut("\n"+strings.TrimRight(text, "\n"), "\n\n")
	if given {
		a.Body, kind = body+"\n", kindOf(body)
	}
	for line := range strings.SplitSeq(strings.TrimPrefix(head, "\n"), "\n") {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		var err error
		switch key {
		case "":
		case "status":
			if a.Status = 0; value != "none" {
				a.Status, err = strconv.Atoi(value)
			}
		case "header":
			name, v, ok := strings.Cut(value, ":")
			if !ok {
				return a, fmt.Errorf("%q is no header", value)
			}
			a.Header = append(a.Header, [2]string{name, strings.TrimSpace(v)})
		case "fixture":
			if a.Body, err = d.fixture(value); given {
				err = errors.New("a fixture and a body")
			}
			kind = kindOf(a.Body)
		case "delay_ms", "gap_ms":
			var ms int
			ms, err = strconv.Atoi(value)
			if key == "delay_ms" {
				a.Delay = time.Duration(ms) * time.Millisecond
			} else {
				a.Gap = time.Duration(ms) * time.Millisecond
			}
		case "cut_after_bytes":
			a.Cut, err = strconv.Atoi(value)
		case "model":
			u.Model = value
		case "tls":
			u.TLS, err = strconv.ParseBool(value)
		case "refuse":
			u.Refuse, err = strconv.ParseBool(value)
		default:
			return a, fmt.Errorf("%q is no setting of an upstream", line)
		}
		if err != nil {
			return a, fmt.Errorf("%s: %w", line, err)
		}
	}
	if !slices.ContainsFunc(a.Header, func(h [2]string) bool { return strings.EqualFold(h[0], "Content-Type") }) && kind != "" {
		a.Header = append(a.Header, [2]string{"Content-Type", kind})
	}
	if u.Model != "" && (given || a.Status != 200 || len(a.Header) > 0 || a.Delay+a.Gap > 0 || a.Cut >= 0 || strings.Contains(head, "fixture:")) {
		return a, errors.New("a model answers in its own way, without further settings and a body")
	}
	if kind == "text/event-stream" {
		a.Body = strings.TrimRight(a.Body, "\n") + "\n\n"
	}
	if a.Cut > len(a.Body) {
		return a, fmt.Errorf("cut_after_bytes: %d of a body of %d", a.Cut, len(a.Body))
	}
	return a, nil
}

// kindOf is the type of a body that does not say which one it has.
func kindOf(body string) string {
	switch {
	case strings.HasPrefix(body, "{"), strings.HasPrefix(body, "["):
		return "application/json"
	case strings.HasPrefix(body, "data:"), strings.HasPrefix(body, "event:"):
		return "text/event-stream"
	}
	return "text/plain"
}

// fixture reads a file from the folder fixtures beside the suite, or beside its folder.
func (d *direction) fixture(name string) (string, error) {
	if !filepath.IsLocal(name) {
		return "", fmt.Errorf("%q leaves the folder of fixtures", name)
	}
	raw, err := os.ReadFile(filepath.Join(d.folder, "fixtures", name))
	if errors.Is(err, os.ErrNotExist) {
		raw, err = os.ReadFile(filepath.Join(d.folder, "..", "fixtures", name))
	}
	return string(raw), err
}

// ownDefaults are what holds for every block of the project's own suites, beside what holds
// for those of the reference.
func ownDefaults(s *sections, b *Block) error {
	s.asked["stream"] = true
	plain := map[string]bool{}
	for _, sec := range b.Sections {
		plain[sec.Name] = len(sec.Filters) == 0
	}
	if !plain["request"] {
		return nil
	}
	list, err := messages(perl.Text(s.get("request")))
	if err != nil {
		return fmt.Errorf("section request: %w", err)
	}
	var requests []perl.Value
	for _, m := range list {
		for range m.times {
			requests = append(requests, m.method+" "+m.target+"\n"+m.rest)
		}
	}
	if len(requests) < 2 {
		return nil
	}
	s.values["request"] = []perl.Value{&perl.Array{Elems: requests}}
	// A status counts for all requests, or there is one for each.
	codes := strings.Fields(perl.Text(s.get("error_code")))
	if !s.has("error_code") {
		codes = []string{"200"}
	}
	if len(codes) == 1 {
		codes = slices.Repeat(codes, len(requests))
	}
	if !s.has("error_code") && s.has("error_code_like") || s.has("error_code") && !plain["error_code"] {
		return nil
	}
	each := &perl.Array{}
	for _, code := range codes {
		each.Elems = append(each.Elems, code)
	}
	s.values["error_code"] = []perl.Value{each}
	return nil
}

// An expectedRequests is a section upstream_request.
type expectedRequests struct {
	upstream string
	list     []expectedRequest
}

type expectedRequest struct {
	method, target string // "*": any
	headers        []expectedHeader
	body           string
	anyBody        bool
	bodyLike       *perl.Regexp
	gone           bool
}

type expectedHeader struct {
	name, value string
	absent      bool
	like        *perl.Regexp
}

var (
	likeLine   = regexp.MustCompile(`^([\w-]+) ~ (.+)$`)
	headerLine = regexp.MustCompile(`^([\w-]+):\s*(.*)$`)
)

// request reads what an upstream has to have received: "none", or requests in their order.
func (d *direction) request(upstream, text string) error {
	e := expectedRequests{upstream: upstream}
	if text != "none" {
		list, err := messages(text)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return errors.New("it says neither none nor what request, like POST /v1/chat/completions")
		}
		for _, m := range list {
			one := expectedRequest{method: m.method, target: m.target, anyBody: true}
			if err := one.read(m.rest); err != nil {
				return err
			}
			for range m.times {
				e.list = append(e.list, one)
			}
		}
	}
	d.expected = append(d.expected, e)
	return nil
}

// read takes the headers of a request and, behind an empty line, its body.
func (e *expectedRequest) read(text string) (err error) {
	head, body, given := strings.Cut("\n"+text, "\n\n")
	if e.anyBody = !given; given {
		if e.body = body; strings.HasPrefix(body, "~ ") {
			if e.bodyLike, err = perl.Compile(body[len("~ "):], "s"); err != nil {
				return err
			}
		}
	}
	for line := range strings.SplitSeq(strings.TrimPrefix(head, "\n"), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		h := expectedHeader{}
		if name, ok := strings.CutPrefix(line, "!"); ok {
			h.name, h.absent = strings.TrimSpace(name), true
		} else if m := likeLine.FindStringSubmatch(line); m != nil {
			h.name = m[1]
			h.like, err = perl.Compile(m[2], "")
		} else if m := headerLine.FindStringSubmatch(line); m != nil {
			h.name, h.value = m[1], m[2]
		} else if line == "(gone)" {
			e.gone = true
			continue
		} else {
			return fmt.Errorf("%q is no header, and there is no empty line before the body", line)
		}
		if err != nil {
			return err
		}
		e.headers = append(e.headers, h)
	}
	return nil
}

// differences compares a request with what was wanted.
func (e *expectedRequest) differences(got Received) (list []string) {
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if e.method != got.Method {
		say("method: got %q, want %q", got.Method, e.method)
	}
	if e.target != "*" && e.target != got.Target {
		say("target: got %q, want %q", got.Target, e.target)
	}
	for _, h := range e.headers {
		var values []string
		for name, v := range got.Header {
			if strings.EqualFold(name, h.name) {
				values = v
			}
		}
		text := strings.Join(values, ", ")
		switch {
		case h.absent && len(values) > 0:
			say("%s: got %q, want none", h.name, text)
		case h.absent:
		case h.like != nil:
			if ok, err := h.like.Matches(text); err != nil || !ok {
				say("%s: got %q, want something like %s", h.name, text, h.like)
			}
		case len(values) == 0 || text != h.value:
			say("%s: got %q, want %q", h.name, text, h.value)
		}
	}
	switch {
	case e.anyBody:
	case e.bodyLike != nil:
		if ok, err := e.bodyLike.Matches(got.Body); err != nil || !ok {
			say("body: got %s, want something like %s", quote(got.Body), e.bodyLike)
		}
	case e.body != got.Body:
		say("body: %s", difference(got.Body, e.body))
	}
	if e.gone != got.Gone {
		say("the client left before the end: got %v, want %v", got.Gone, e.gone)
	}
	return list
}

// differences compares what an upstream received with a section.
func (e *expectedRequests) differences(got []Received) (list []string) {
	if len(got) != len(e.list) {
		list = append(list, fmt.Sprintf("got %d requests, want %d", len(got), len(e.list)))
	}
	for i := range min(len(got), len(e.list)) {
		for _, d := range e.list[i].differences(got[i]) {
			list = append(list, fmt.Sprintf("request %d: %s", i+1, d))
		}
	}
	return list
}

// checkUpstreams judges the sections upstream_request, which are in no hurry: a client may
// have its answer before the upstream is done.
func (p *play) checkUpstreams(ctx context.Context) error {
	if p.direction == nil {
		return nil
	}
	director := p.runner.world.(Director)
	end := time.Now().Add(p.runner.opts.LogGrace)
	for _, e := range p.direction.expected {
		list := e.differences(director.Received(e.upstream))
		for len(list) > 0 && time.Now().Before(end) {
			if err := pause(ctx, settle/3); err != nil {
				return err
			}
			list = e.differences(director.Received(e.upstream))
		}
		for _, d := range list {
			p.failures = append(p.failures, fmt.Sprintf("upstream_request %s: %s", e.upstream, d))
		}
	}
	return nil
}

// An expectedEvent is a line of a section stream.
type expectedEvent struct {
	text   string // of its lines, joined by " | "
	like   *perl.Regexp
	within time.Duration // of the request; 0: any time
}

var withinMark = regexp.MustCompile(`^\+(\d+)ms\s+`)

// brokenOff is how a section stream says that the connection breaks behind the last event.
const brokenOff = "(cut)"

func expectedEvents(text string) (list []expectedEvent, cut bool, err error) {
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			continue
		case cut:
			return nil, false, errors.New(brokenOff + " is the last line")
		case line == brokenOff:
			cut = true
			continue
		}
		e := expectedEvent{}
		if m := withinMark.FindStringSubmatch(line); m != nil {
			ms, _ := strconv.Atoi(m[1])
			e.within, line = time.Duration(ms)*time.Millisecond, line[len(m[0]):]
		}
		if pattern, ok := strings.CutPrefix(line, "~ "); ok {
			if e.like, err = perl.Compile(pattern, ""); err != nil {
				return nil, false, err
			}
		}
		e.text = line
		list = append(list, e)
	}
	if len(list) == 0 && !cut {
		return nil, false, errors.New("it expects no event")
	}
	return list, cut, nil
}

// events are the complete events of a stream; open is what is behind them.
func events(body string) (list []string, open string) {
	for {
		event, rest, found := strings.Cut(body, "\n\n")
		if !found {
			return list, body
		}
		list = append(list, strings.ReplaceAll(event, "\n", " | "))
		body = rest
	}
}

// checkStream judges the section stream: every event, in order, when it came, and how the
// stream ends. bad is what is wrong with the answer's body.
func (j *judge) checkStream(got *received, head bool, bad error) {
	wanted, cut, err := expectedEvents(perl.Text(j.get("stream")))
	if err == nil && j.many {
		err = errors.New("it goes with one request")
	}
	if err != nil {
		j.fail("stream", "%v", err)
		return
	}
	if length, ok := j.resp.field("Content-Length"); ok && bad == nil && length != strconv.Itoa(len(j.resp.body)) {
		bad = fmt.Errorf("%d bytes of %s", len(j.resp.body), length)
	}
	list, open := events(j.resp.body)
	switch {
	case cut && bad == nil:
		j.fail("stream", "it ends as if it were complete")
	case !cut && bad != nil:
		j.fail("stream", "it breaks off: %v", bad)
	case !cut && open != "":
		j.fail("stream", "it ends with %s, which is no event", quote(open))
	}
	if len(list) != len(wanted) {
		j.fail("stream", "got %d events, want %d: %s", len(list), len(wanted), quote(strings.Join(list, "\n")))
	}
	for i := range min(len(list), len(wanted)) {
		w := wanted[i]
		if w.like != nil {
			if ok, err := w.like.Matches(list[i]); err != nil || !ok {
				j.fail("stream", "event %d: got %s, want something like %s", i+1, quote(list[i]), w.like)
			}
		} else if w.text != list[i] {
			j.fail("stream", "event %d: %s", i+1, difference(list[i], w.text))
		}
		if w.within == 0 {
			continue
		}
		if after, ok := got.eventAfter(i, head); !ok {
			j.fail("stream", "event %d: when it came is not known", i+1)
		} else if after > w.within {
			j.fail("stream", "event %d: it came after %v, want %v at most", i+1, after, w.within)
		}
	}
}

// eventAfter returns how long after the request the i-th event was complete.
func (g *received) eventAfter(i int, head bool) (time.Duration, bool) {
	for _, a := range g.arrivals {
		resp, _ := parseResponse(g.raw[:a.bytes], head)
		if list, _ := events(resp.body); len(list) > i {
			return a.after, true
		}
	}
	return 0, false
}

// fault makes the faults happen that come before a request.
func (p *play) fault(ctx context.Context, request int) error {
	if p.direction == nil {
		return nil
	}
	for _, f := range p.direction.faults {
		if f.Before != request {
			continue
		}
		if err := p.runner.world.(Director).Break(ctx, f); err != nil {
			return fmt.Errorf("section kill: %w", err)
		}
	}
	return nil
}

// late reports faults that no request comes behind: they would not happen.
func (d *direction) late(requests int) error {
	for _, f := range d.faults {
		if f.Before < 0 || f.Before >= requests {
			return fmt.Errorf("section kill: there is no request %d", f.Before+1)
		}
	}
	return nil
}
