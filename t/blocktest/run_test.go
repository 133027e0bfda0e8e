package blocktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// scripted is a World whose server answers as the request's query says.
type scripted struct {
	server *httptest.Server
	stage  func(*Prepared) error
	end    Verdict // what Verdict says
	// stuckAt is the number of a block whose Stage ends with its context.
	stuckAt int

	mu             sync.Mutex
	errors, access string
	staged         []*Prepared
	seen           []string // bodies of requests
}

func newWorld(t *testing.T) *scripted {
	w := &scripted{}
	w.server = httptest.NewUnstartedServer(w)
	w.server.Config.Protocols = new(http.Protocols)
	w.server.Config.Protocols.SetHTTP1(true)
	w.server.Config.Protocols.SetUnencryptedHTTP2(true)
	w.server.Start()
	t.Cleanup(w.server.Close)
	return w
}

func (w *scripted) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	q := r.URL.Query()
	w.mu.Lock()
	w.seen = append(w.seen, string(body))
	for _, line := range q["log"] {
		w.errors += line + "\n"
	}
	w.access += r.Method + " " + r.URL.Path + "\n"
	w.mu.Unlock()
	switch r.URL.Path {
	case "/silent":
		<-r.Context().Done()
		return
	case "/late":
		time.Sleep(300 * time.Millisecond)
	case "/headers":
		rw.Header().Set("X-Kind", "plain")
		rw.Header()["X-Twice"] = []string{"a", "b"}
	case "/missing":
		rw.WriteHeader(http.StatusNotFound)
	case "/chunks":
		rw.(http.Flusher).Flush()
	case "/proto":
		fmt.Fprintln(rw, r.Proto)
		return
	case "/echo":
		fmt.Fprintf(rw, "%s %s %q\n", r.Host, r.Header.Get("X-Sent"), body)
		return
	}
	if r.Method != http.MethodHead {
		fmt.Fprintf(rw, "hello %s\n", q.Get("who"))
	}
}

func (w *scripted) Stage(ctx context.Context, p *Prepared) error {
	if p.Block.Number == w.stuckAt {
		<-ctx.Done()
		return ctx.Err()
	}
	w.mu.Lock()
	w.errors, w.access = "", ""
	w.staged = append(w.staged, p)
	w.mu.Unlock()
	if w.stage != nil {
		return w.stage(p)
	}
	return nil
}

func (w *scripted) Addr() string { return w.server.Listener.Addr().String() }

func (w *scripted) Logs() (string, string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.errors, w.access
}

func (w *scripted) Verdict() (Verdict, string) { return w.end, "said so" }

func (w *scripted) Close() error { return nil }

// stoppable is a scripted world that can end its gateway.
type stoppable struct{ *scripted }

func (w stoppable) Stop(context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errors += "[notice] bye\n"
	return nil
}

const prologue = "use t::APISIX 'no_plan';\nrun_tests();\n__DATA__\n\n"

// runText runs a suite of these blocks and returns the results.
func runText(t *testing.T, world World, text string, opts RunOptions) []Result {
	t.Helper()
	s, err := Parse("test.t", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if opts.LogGrace == 0 {
		opts.LogGrace = -1
	}
	return Run(t.Context(), s, t.TempDir(), world, opts)
}

// sectionTests hold, for each section that is checked, a block whose expectation is right
// and one whose expectation is wrong.
var sectionTests = []struct{ name, right, wrong string }{
	{
		"the status is 200 when nothing else is said",
		"--- request\nGET /hello", "--- request\nGET /missing",
	},
	{
		"error_code",
		"--- request\nGET /missing\n--- error_code: 404", "--- request\nGET /hello\n--- error_code: 404",
	},
	{
		"error_code of several requests",
		"--- request eval\n['GET /hello', 'GET /missing']\n--- error_code eval\n[200, 404]",
		"--- request eval\n['GET /hello', 'GET /missing']\n--- error_code eval\n[200, 200]",
	},
	{
		"error_code with fewer elements than requests",
		"--- request eval\n['GET /hello', 'GET /hello']\n--- error_code eval\n[200, 200]",
		"--- request eval\n['GET /hello', 'GET /hello']\n--- error_code eval\n[200]",
	},
	{
		"several requests against one expectation",
		"--- request eval\n['GET /hello?who=a', 'GET /hello?who=b']\n--- response_body eval\n[\"hello a\\n\", \"hello b\\n\"]",
		"--- request eval\n['GET /hello', 'GET /hello']\n--- response_body\nhello",
	},
	{
		"error_code_like",
		"--- request\nGET /missing\n--- error_code_like: ^(?:40\\d)$", "--- request\nGET /missing\n--- error_code_like: ^50\\d$",
	},
	{
		"response_headers",
		"--- request\nGET /headers\n--- response_headers\nX-Kind: plain\nX_Twice: a, b", "--- request\nGET /headers\n--- response_headers\nX-Kind: plan",
	},
	{
		"response_headers that are to be absent",
		"--- request\nGET /hello\n--- response_headers\n! X-Kind", "--- request\nGET /headers\n--- response_headers\n!X-Kind",
	},
	{
		"response_headers_like",
		"--- request\nGET /headers\n--- response_headers_like\nX-Kind: pl.*", "--- request\nGET /headers\n--- response_headers_like\nX-Kind: l.*",
	},
	{
		"response_headers_like beside response_headers",
		"--- request\nGET /headers\n--- response_headers\nX-Kind: plain\n--- response_headers_like\nX-Kind: p.*",
		"--- request\nGET /headers\n--- response_headers\nX-Kind: plain\n--- response_headers_like\nX-Kind: q.*",
	},
	{
		"raw_response_headers_like",
		"--- request\nGET /headers\n--- raw_response_headers_like: X-Twice: a\\r\\nX-Twice: b", "--- request\nGET /headers\n--- raw_response_headers_like: X-Twice: a, b",
	},
	{
		"raw_response_headers_unlike",
		"--- request\nGET /headers\n--- raw_response_headers_unlike: X-Thrice", "--- request\nGET /headers\n--- raw_response_headers_unlike: X-Twice",
	},
	{
		"response_body",
		"--- request\nGET /hello?who=you\n--- response_body\nhello you", "--- request\nGET /hello?who=you\n--- response_body\nhello me",
	},
	{
		"response_body down to its last newline",
		"--- request\nGET /hello?who=you\n--- response_body\nhello you\n", "--- request\nGET /hello?who=you\n--- response_body chomp\nhello you",
	},
	{
		"response_body as a regular expression",
		"--- request\nGET /hello?who=you\n--- response_body eval\nqr/O Y/i", "--- request\nGET /hello?who=you\n--- response_body eval\nqr/O Y/",
	},
	{
		"response_body of a chunked answer",
		"--- request\nGET /chunks?who=you\n--- response_body\nhello you", "--- request\nGET /chunks?who=you\n--- response_body\n",
	},
	{
		"response_body_eval",
		"--- request\nGET /hello?who=you\n--- response_body_eval\n\"hello you\\n\"", "--- request\nGET /hello?who=you\n--- response_body_eval\n'hello you'",
	},
	{
		"response_body_eval as a regular expression",
		"--- request\nGET /hello?who=you\n--- response_body_eval\nqr/O Y/i", "--- request\nGET /hello?who=you\n--- response_body_eval\nqr/O Y/",
	},
	{
		"response_body_like",
		"--- request\nGET /hello?who=you\n--- response_body_like: ^hello y.u$", "--- request\nGET /hello?who=you\n--- response_body_like: ^ello",
	},
	{
		"response_body_unlike",
		"--- request\nGET /hello?who=you\n--- response_body_unlike: me", "--- request\nGET /hello?who=you\n--- response_body_unlike: you",
	},
	{
		"response_body_filters",
		"--- request\nGET /hello?who=you\n--- response_body_filters\nuc\n--- response_body\nHELLO YOU", "--- request\nGET /hello?who=you\n--- response_body_filters\nlc\n--- response_body\nHELLO YOU",
	},
	{
		"response_body_filters that do not exist",
		"--- request\nGET /hello\n--- response_body_filters eval\n[['length']]\n--- response_body chomp\n7", "--- request\nGET /hello\n--- response_body_filters\nrot13",
	},
	{
		"stream_response",
		"--- request\nGET /hello?who=you\n--- stream_response\nhello you", "--- request\nGET /hello?who=you\n--- stream_response\nhello me",
	},
	{
		"stream_response_like",
		"--- request\nGET /hello?who=you\n--- stream_response_like: y.u", "--- request\nGET /hello?who=you\n--- stream_response_like: m.",
	},
	{
		"error_log",
		"--- request\nGET /hello?log=one.two\n--- error_log\none.two", "--- request\nGET /hello?log=onetwo\n--- error_log\none.two",
	},
	{
		"error_log with several patterns",
		"--- request\nGET /hello?log=one&log=two\n--- error_log eval\n[qr/^on/, 'two']", "--- request\nGET /hello?log=one\n--- error_log eval\n[qr/^on/, 'two']",
	},
	{
		"error_log of each request anew",
		"--- request eval\n['GET /hello?log=one', 'GET /hello?log=one']\n--- error_log\none", "--- request eval\n['GET /hello?log=one', 'GET /hello']\n--- error_log\none",
	},
	{
		"no_error_log",
		"--- request\nGET /hello?log=one\n--- no_error_log\ntwo", "--- request\nGET /hello?log=one\n--- no_error_log\nnone\none",
	},
	{
		"the reference's own no_error_log",
		"--- request\nGET /hello?log=[warn]", "--- request\nGET /hello?log=[error]",
	},
	{
		"grep_error_log",
		"--- request\nGET /hello?log=a1&log=b&log=a2\n--- grep_error_log eval\nqr/a\\d/\n--- grep_error_log_out\na1\na2",
		"--- request\nGET /hello?log=a1&log=b&log=a2\n--- grep_error_log eval\nqr/a\\d/\n--- grep_error_log_out\na2\na1",
	},
	{
		"grep_error_log_out as a regular expression",
		"--- request\nGET /hello?log=a1\n--- grep_error_log chop\na\n--- grep_error_log_out eval\nqr/^a$/", "--- request\nGET /hello?log=a1\n--- grep_error_log chop\na\n--- grep_error_log_out eval\nqr/b/",
	},
	{
		"grep_error_log and its out belong together",
		"--- request\nGET /hello\n--- grep_error_log chop\na\n--- grep_error_log_out", "--- request\nGET /hello\n--- grep_error_log chop\na",
	},
	{
		"access_log",
		"--- request\nGET /hello\n--- access_log\nGET /hello", "--- request\nGET /hello\n--- access_log\nPOST /hello",
	},
	{
		"no_access_log",
		"--- request\nGET /hello\n--- no_access_log\nPOST /hello", "--- request\nGET /hello\n--- no_access_log eval\nqr/^GET/",
	},
	{
		"http09",
		"--- raw_request eval\n\"GET /missing HTTP/1.0\\r\\n\\r\\n\"\n--- http09\n--- response_body_like: ^HTTP/1.0 404", "--- raw_request eval\n\"GET /missing HTTP/1.0\\r\\n\\r\\n\"\n--- http09\n--- response_body_like: ^HTTP/1.0 200",
	},
	{
		"a request that is not answered in time",
		"--- request\nGET /silent\n--- timeout: 50ms\n--- abort\n--- ignore_response", "--- request\nGET /silent\n--- timeout: 50ms\n--- ignore_response",
	},
	{
		"ignore_response",
		"--- request\nGET /missing\n--- ignore_response", "--- request\nGET /missing",
	},
	{
		"pipelined_requests",
		"--- pipelined_requests eval\n['GET /hello?who=a', 'GET /missing?who=b']\n--- error_code eval\n[200, 404]\n--- response_body eval\n[\"hello a\\n\", \"hello b\\n\"]",
		"--- pipelined_requests eval\n['GET /hello?who=a', 'GET /hello?who=b']\n--- response_body eval\n[\"hello a\\n\", \"hello a\\n\"]",
	},
	{
		"more_headers and the headers that are there without",
		"--- request\nPOST /echo\nab\n--- more_headers\nX-Sent: yes\n--- response_body\nlocalhost yes \"ab\"", "--- request\nPOST /echo\nab\n--- response_body\nlocalhost yes \"ab\"",
	},
	{
		"more_headers of each request",
		"--- request eval\n['GET /echo', 'GET /echo']\n--- more_headers eval\n['X-Sent: a', \"Host: h\\nX-Sent: b\"]\n--- response_body eval\n[qq{localhost a \"\"\\n}, qq{h b \"\"\\n}]",
		"--- request eval\n['GET /echo', 'GET /echo']\n--- more_headers eval\n['X-Sent: a']\n--- response_body eval\n[qr/./, qr/./]",
	},
	{
		"a request in packets with a pause",
		"--- request eval\n[[\"POST /echo\\nab\", {value => 'cd', delay_before => 0.01}]]\n--- response_body\nlocalhost  \"abcd\"", "--- request eval\n[[\"POST /echo\\nab\", {value => 'cd', delay_before => 0.01}]]\n--- response_body\nlocalhost  \"ab\"",
	},
	{
		"timeout, from the end of the request on",
		"--- request\nGET /late\n--- timeout: 20", "--- request\nGET /late\n--- timeout: 200ms",
	},
	{
		"http2",
		"--- http2\n--- request\nGET /proto\n--- response_body\nHTTP/2.0", "--- request\nGET /proto\n--- response_body\nHTTP/2.0",
	},
	{
		"HEAD",
		"--- request\nHEAD /hello\n--- response_body\n", "--- request\nHEAD /hello\n--- response_body\nx",
	},
}

func TestARightExpectationIsOKAndAWrongOneIsNot(t *testing.T) {
	for _, tt := range sectionTests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			results := runText(t, newWorld(t), prologue+"=== TEST 1: right\n"+tt.right+"\n\n\n\n=== TEST 2: wrong\n"+tt.wrong+"\n", RunOptions{})
			if results[0].Verdict != OK {
				t.Errorf("the right one: %+v", results[0])
			}
			if results[1].Verdict != NotOK || len(results[1].Failures) == 0 && results[1].Why == "" {
				t.Errorf("the wrong one: %+v", results[1])
			}
		})
	}
}

func TestEverySectionThatIsCheckedHasATest(t *testing.T) {
	elsewhere := map[string]bool{"must_die": true, "shutdown_error_log": true, "no_shutdown_error_log": true}
	var all strings.Builder
	for _, tt := range sectionTests {
		all.WriteString(tt.right + "\n" + tt.wrong + "\n")
	}
	for name, role := range roles {
		if role == checked && !elsewhere[name] && !strings.Contains(all.String(), "--- "+name) {
			t.Errorf("section %s has no test", name)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for _, tt := range []struct {
		name, block string
		world       func(*scripted)
		want        Verdict
		why         string
	}{
		{"a section that Test::Nginx knows and nobody checks is unsupported", "--- request\nGET /hello\n--- tcp_listen: 1", nil, Unsupported, "tcp_listen"},
		{"a check that ignore_response hides is unsupported", "--- request\nGET /hello\n--- ignore_response\n--- error_code: 200", nil, Unsupported, "error_code"},
		{"an expectation that is evaluated to nothing is unsupported", "--- request\nGET /hello\n--- response_body eval\nundef", nil, Unsupported, "response_body with an undefined value"},
		{"an expectation without a program to evaluate is unsupported", "--- request\nGET /missing\n--- error_code eval\n--- error_code_like: 404", nil, Unsupported, "error_code with an undefined value"},
		{"an expectation without lines is unsupported", "--- request\nGET /hello\n--- no_error_log lines", nil, Unsupported, "no_error_log with an undefined value"},
		{"an old expectation that is evaluated to nothing is unsupported", "--- request\nGET /hello\n--- response_body_eval", nil, Unsupported, "response_body_eval with an undefined value"},
		{"several values of an expectation are unsupported", "--- request\nGET /hello?who=me\n--- response_body lines\nhello me\nhello you", nil, Unsupported, "response_body with 2 values"},
		{"several values of a request are unsupported", "--- request eval\n('GET /hello', 'GET /missing')", nil, Unsupported, "request with 2 values"},
		{"a section that must_die hides is unsupported", "--- must_die\n--- error_code: 500", nil, Unsupported, "error_code together with must_die"},
		{"last words beside must_die are unsupported", "--- must_die\n--- shutdown_error_log\nbye", nil, Unsupported, "shutdown_error_log together with must_die"},
		{"two names of one expectation are not ok", "--- request\nGET /hello?who=me\n--- stream_response\nhello me\n--- response_body\nhello you", nil, NotOK, "the same one"},
		{"an idiom that is not known is unsupported", "--- request eval\nsystem('x')", nil, Unsupported, "system"},
		{"a filter that is not known is unsupported", "--- request get_url\nx", nil, Unsupported, "get_url"},
		{"a block without a request is not ok", "--- config\nx", nil, NotOK, "request"},
		{"what the stage refuses has the stage's verdict", "--- request\nGET /hello", func(w *scripted) {
			w.stage = func(*Prepared) error { return &StageError{WhiteBox, "inside"} }
		}, WhiteBox, "inside"},
		{"a script's verdict stands above the checks", "--- request\nGET /missing", func(w *scripted) { w.end = Unsupported }, Unsupported, "said so"},
		{"a gateway that ends is not ok", "--- request\nGET /hello", func(w *scripted) {
			w.stage = func(*Prepared) error { return &DiedError{1, "bad"} }
		}, NotOK, "bad"},
		{"must_die is ok with a gateway that ends", "--- must_die\n--- error_log\nbad", func(w *scripted) {
			w.stage = func(*Prepared) error { w.errors = "bad\n"; return &DiedError{1, "bad"} }
		}, OK, ""},
		{"must_die with another status is not ok", "--- must_die: 2", func(w *scripted) {
			w.stage = func(*Prepared) error { return &DiedError{1, "bad"} }
		}, NotOK, "status 1"},
		{"must_die is not ok with a gateway that serves", "--- must_die", nil, NotOK, "serves"},
		{"shutdown_error_log needs a world that can stop", "--- request\nGET /hello\n--- shutdown_error_log\nbye", nil, Unsupported, "shutdown_error_log"},
		{"SKIP is skipped", "--- SKIP\n--- request\nGET /missing", nil, Skipped, "SKIP"},
		{"skip_eval that holds is skipped", "--- request\nGET /missing\n--- skip_eval: 1: 1 == 1", nil, Skipped, "skip_eval"},
		{"skip_eval that does not hold runs", "--- request\nGET /hello\n--- skip_eval: 1: 1 == 2", nil, OK, ""},
		{"skip_nginx of an older version is skipped", "--- request\nGET /missing\n--- skip_nginx: 3: < 9.0.0", nil, Skipped, "skip_nginx"},
		{"skip_nginx of a newer version runs", "--- request\nGET /hello\n--- skip_nginx: 3: >= 9.0.0: because", nil, OK, ""},
		{"todo is skipped", "--- request\nGET /missing\n--- todo\n1: later", nil, Skipped, "todo"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tt.world != nil {
				tt.world(w)
			}
			got := runText(t, w, prologue+"=== TEST 1\n"+tt.block+"\n", RunOptions{})[0]
			if got.Verdict != tt.want || !strings.Contains(got.Why, tt.why) {
				t.Errorf("got %+v, want %s because of %q", got, tt.want, tt.why)
			}
		})
	}
}

func TestTheLastWordsOfAGatewayAreChecked(t *testing.T) {
	for block, want := range map[string]Verdict{
		"--- shutdown_error_log\nbye":       OK,
		"--- shutdown_error_log\nhello":     NotOK,
		"--- no_shutdown_error_log\nhello":  OK,
		"--- no_shutdown_error_log\nnotice": NotOK,
	} {
		got := runText(t, stoppable{newWorld(t)}, prologue+"=== TEST 1\n--- request\nGET /hello\n"+block+"\n", RunOptions{})[0]
		if got.Verdict != want {
			t.Errorf("%q: %+v, want %s", block, got, want)
		}
	}
}

func TestSectionsThatNobodyKnowsAreListed(t *testing.T) {
	got := runText(t, newWorld(t), prologue+"=== TEST 1\n--- request\nGET /hello\n--- response_body_chomp\nx\n", RunOptions{})[0]
	if got.Verdict != OK || fmt.Sprint(got.Ignored) != "[response_body_chomp]" {
		t.Errorf("%+v", got)
	}
	got = runText(t, newWorld(t), prologue+"=== TEST 1\n--- request\nGET /hello\n--- error_code: 500\n--- error_code: 200\n", RunOptions{})[0]
	if got.Verdict != OK || fmt.Sprint(got.Ignored) != "[error_code of line 8, which line 9 writes over]" {
		t.Errorf("%+v", got)
	}
	used := "use t::APISIX;\nadd_block_preprocessor(sub { my ($b) = @_; my $x = $b->mine; });\nrun_tests;\n__DATA__\n"
	got = runText(t, newWorld(t), used+"=== TEST 1\n--- request\nGET /hello\n--- mine\nx\n", RunOptions{})[0]
	if len(got.Ignored) != 0 {
		t.Errorf("the prologue reads it, and it is still listed: %v", got.Ignored)
	}
}

func TestOnlyLastAndSelection(t *testing.T) {
	block := func(name, more string) string {
		return "=== " + name + "\n--- request\nGET /hello\n" + more + "\n"
	}
	verdicts := func(results []Result) string {
		var out []string
		for _, r := range results {
			out = append(out, fmt.Sprintf("%d %s", r.Number, r.Verdict))
		}
		return strings.Join(out, ", ")
	}
	bad := "--- error_code: 500\n"
	for _, tt := range []struct {
		name, text string
		opts       RunOptions
		want       string
	}{
		{"ONLY runs alone", block("a", "") + block("b", "--- ONLY\n") + block("c", ""), RunOptions{}, "1 skipped, 2 ok, 3 skipped"},
		{"LAST is the last", block("a", "") + block("b", "--- LAST\n") + block("c", ""), RunOptions{}, "1 ok, 2 ok, 3 skipped"},
		{"a selection has no other results", block("a", "") + block("b", ""), RunOptions{Select: func(b *Block) bool { return b.Name == "b" }}, "2 ok"},
		{"fail-fast skips what follows", block("a", bad) + block("b", ""), RunOptions{FailFast: true}, "1 not ok, 2 skipped"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := verdicts(runText(t, newWorld(t), prologue+tt.text, tt.opts)); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestPrologues(t *testing.T) {
	block := "__DATA__\n=== TEST 1\n--- request\nGET /hello\n"
	for _, tt := range []struct {
		name, prologue string
		want           Verdict
		why            string
	}{
		{"a plan may skip the file", "use t::APISIX; plan(skip_all => 'no module'); run_tests;\n", Skipped, "no module"},
		{"without run_tests nothing runs", "use t::APISIX;\n", Skipped, "run_tests"},
		{"one that is not understood is unsupported", "use t::APISIX;\nsystem('x');\nrun_tests;\n", Unsupported, "line 2"},
		{"one that dies is unsupported", "use t::APISIX;\ndie 'no';\n", Unsupported, "no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := runText(t, newWorld(t), tt.prologue+block, RunOptions{})[0]
			if got.Verdict != tt.want || !strings.Contains(got.Why, tt.why) {
				t.Errorf("got %+v, want %s because of %q", got, tt.want, tt.why)
			}
		})
	}
}

func TestAPrologueMaySayHowLongAnswersTakeAndWhichLinesCount(t *testing.T) {
	const late = "__DATA__\n=== TEST 1\n--- request\nGET /late\n"
	const logs = "__DATA__\n=== TEST 1\n--- request eval\n['GET /hello?log=one', 'GET /hello']\n--- error_log\none\n"
	for _, tt := range []struct {
		text string
		want Verdict
	}{
		{"use Test::Nginx::Socket; timeout(20); run_tests;\n" + late, OK},
		{"use Test::Nginx::Socket; timeout(0.1); run_tests;\n" + late, NotOK},
		{"use Test::Nginx::Socket; timeout(0.1); run_tests;\n" + late + "--- timeout: 20\n", OK},
		{"use Test::Nginx::Socket; check_accum_error_log(); run_tests;\n" + logs, OK},
		{"use Test::Nginx::Socket; run_tests;\n" + logs, NotOK},
	} {
		if got := runText(t, newWorld(t), tt.text, RunOptions{})[0]; got.Verdict != tt.want {
			t.Errorf("%q: got %+v, want %s", tt.text, got, tt.want)
		}
	}
}

func TestRepeatEachRepeatsTheRequests(t *testing.T) {
	w := newWorld(t)
	got := runText(t, w, "use t::APISIX; repeat_each(3); run_tests;\n__DATA__\n=== TEST 1\n--- request\nPOST /hello?log=x\nbody\n--- error_log\nx\n", RunOptions{})[0]
	if got.Verdict != OK || len(w.seen) != 3 || len(w.staged) != 1 {
		t.Errorf("%+v, %d requests, staged %d times", got, len(w.seen), len(w.staged))
	}
}

func TestTheWorldGetsWhatThePrologueMadeOfTheBlock(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, "t/assets"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "t/assets/a.json"), []byte(`{"a":1}`), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Parse("test.t", []byte(`use t::APISIX 'no_plan';
log_level('warn');
workers(2);
$ENV{SECRET} = 'open';
open(my $fh, '<', 't/assets/a.json') or die "Could not open";
my $asset = do { local $/; <$fh> };
close($fh);
add_block_preprocessor(sub {
    my ($block) = @_;
    if (!defined $block->request) {
        $block->set_value("request", "GET /hello");
    }
    my $http_config = $block->http_config // <<_EOC_;
        server { body '$asset'; set \$x 1; }
_EOC_
    $block->set_value("http_config", $http_config);
});
run_tests();
__DATA__
=== TEST 1
--- config
    root $TEST_NGINX_HTML_DIR;
--- log_level: debug
`))
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	if got := Run(t.Context(), s, home, w, RunOptions{LogGrace: -1}); got[0].Verdict != OK {
		t.Fatalf("%+v", got)
	}
	p := w.staged[0]
	want := map[string]string{
		"http_config":  "        server { body '{\"a\":1}'; set $x 1; }\n",
		"config":       "    root " + home + "/t/servroot/html;\n",
		"request":      "GET /hello",
		"timeout":      "5",
		"no_error_log": "[error]",
	}
	for name, text := range want {
		if got, _ := p.Get(name); got != text {
			t.Errorf("%s: got %q, want %q", name, got, text)
		}
	}
	if p.LogLevel != "debug" || p.Settings.Env["SECRET"] != "open" || p.Settings.Calls["workers"][0] != "2" {
		t.Errorf("%+v, level %s", p.Settings, p.LogLevel)
	}
}

func TestAnInterruptedRunSaysSo(t *testing.T) {
	s, err := Parse("test.t", []byte(prologue+"=== TEST 1\n--- request\nGET /hello\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := Run(ctx, s, t.TempDir(), newWorld(t), RunOptions{})[0]; got.Verdict != Skipped {
		t.Errorf("%+v", got)
	}
}

func TestAWorldThatBreaksEndsTheFile(t *testing.T) {
	w := newWorld(t)
	w.stage = func(*Prepared) error { return errors.New("no etcd") }
	got := runText(t, w, prologue+"=== A\n--- request\nGET /\n\n=== B\n--- request\nGET /\n", RunOptions{LogGrace: time.Millisecond})
	if got[0].Verdict != NotOK || got[1].Verdict != Skipped || !strings.Contains(got[1].Why, "no etcd") {
		t.Errorf("%+v", got)
	}
}

// renewable is a world that tells how often it was made anew.
type renewable struct {
	*scripted
	renewed int
	err     error
}

func (w *renewable) Renew(context.Context) error { w.renewed++; return w.err }

func TestABlockThatTakesTooLongIsNotOK(t *testing.T) {
	silent := prologue + "=== A\n--- request\nGET /silent\n--- timeout: 60\n--- ignore_response\n\n=== B\n--- request\nGET /hello\n"
	for _, tt := range []struct {
		name, text string
		stuck      bool // in Stage
		renew      error
		next       Verdict
	}{
		{"in its request", silent, false, nil, OK},
		{"in a wait", prologue + "=== A\n--- request\nGET /hello\n--- wait: 60\n\n=== B\n--- request\nGET /hello\n", false, nil, OK},
		{"on its stage", silent, true, nil, OK},
		{"and the world cannot be made anew", silent, false, errors.New("no etcd"), Skipped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := &renewable{scripted: newWorld(t), err: tt.renew}
			if tt.stuck {
				w.stuckAt = 1
			}
			got := runText(t, w, tt.text, RunOptions{BlockTime: 8 * time.Second})
			if got[0].Verdict != NotOK || got[0].Why != "it took longer than 8s" || w.renewed != 1 {
				t.Errorf("%+v, renewed %d times", got[0], w.renewed)
			}
			if got[1].Verdict != tt.next {
				t.Errorf("the next block: %+v, want %s", got[1], tt.next)
			}
		})
	}
}
