package lua

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dlclark/regexp2"
	"go.uber.org/goleak"

	"github.com/gosix/gosix/internal/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(quiet{m}) }

// quiet stops the clock of the regular expressions, which would run on for some seconds.
type quiet struct{ m *testing.M }

func (q quiet) Run() int {
	defer regexp2.StopTimeoutClock()
	return q.m.Run()
}

// recorder is an answer that is kept.
type recorder struct{ logtest.Log }

func (r *recorder) Flush() error { return nil }
func (r *recorder) EOF() error   { return nil }

func newExchange(body string) (*Exchange, *recorder) {
	out := &recorder{}
	return &Exchange{
		Method: "POST", Target: "/t?a=1&b=two%20words&a=3", URI: "/t", Args: "a=1&b=two%20words&a=3",
		Proto: "HTTP/1.1", Scheme: "http",
		Header: []Field{{"Host", "Example.com:1984"}, {"X-Two", "1"}, {"X-Two", "2"}, {"Cookie", "k=v; other=w"}},
		Remote: netip.MustParseAddrPort("127.0.0.1:5555"), Local: netip.MustParseAddrPort("127.0.0.1:1984"),
		ServerName: "localhost", Connection: 7, Requests: 1,
		Body: func() ([]byte, error) { return []byte(body), nil },
		Vars: map[string]string{"backend": "one"}, Out: out,
	}, out
}

type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) add(level, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, level+" "+line)
}

func (l *logs) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func newRuntime(t *testing.T, opts Options) *Runtime {
	t.Helper()
	rt := New(opts)
	t.Cleanup(rt.Close)
	return rt
}

func content(t *testing.T, rt *Runtime, chunk string) (string, *Exchange, error) {
	t.Helper()
	x, out := newExchange("k=v&list=1")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	err := rt.Run(ctx, Content, "content_by_lua(nginx.conf:9)", chunk, x, nil)
	return out.String(), x, err
}

type snippet struct{ name, chunk, want string }

func check(t *testing.T, rt *Runtime, cases []snippet) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := content(t, rt, c.chunk)
			if err != nil {
				t.Fatalf("%v\noutput so far: %s", err, got)
			}
			if strings.TrimSuffix(got, "\n") != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestLanguage(t *testing.T) {
	check(t, newRuntime(t, Options{}), []snippet{
		{"hexadecimal escapes are bytes", `ngx.print("\x41\x7f" == "A\127")`, "true"},
		{"a z escape skips blanks and lines", "ngx.print('a\\z\n   b')", "ab"},
		{"numbers print with fourteen digits", `ngx.say(0.1 + 0.2, " ", 1e15, " ", 2^53, " ", 1/3)`, "0.3 1e+15 9.007199254741e+15 0.33333333333333"},
		{"concatenation prints numbers so too", `local n = 0.1 + 0.2 ngx.print("n=" .. n .. "," .. 3)`, "n=0.3,3"},
		{"tostring prints numbers so too", `ngx.print(tostring(0.1 + 0.2), tostring(100000000000000))`, "0.31e+14"},
		{"suffixes of 64-bit numbers are dropped", `ngx.print(0xffULL + 1LL)`, "256"},
		{"frontier patterns find words", `ngx.print((("THE (quick) fox"):gsub("%f[%a]%a+", "w")))`, "w (w) w"},
		{"patterns match zero bytes", `ngx.print(#("a\0b"):match("a%zb"))`, "3"},
		{"goto continues a loop", `for i = 1, 3 do if i == 2 then goto continue end ngx.print(i) ::continue:: end`, "13"},
		{"format knows the verbs of C", `ngx.print(string.format("%5.1f|%-4s|%04d|%x|%q|%g|%s", 3.14159, "ab", 7, 255, 'a"b', 1e20, nil))`, `  3.1|ab  |0007|ff|"a\"b"|1e+20|nil`},
		{"pcall returns the message with its place", `ngx.print(select(2, pcall(error, "x", 0)), select(2, pcall(function() error("y") end)))`, "xcontent_by_lua(nginx.conf:9):1: y"},
		{"a coroutine yields across pcall", `
			local co = coroutine.wrap(function() pcall(function() coroutine.yield(1) end) coroutine.yield(2) return 3 end)
			ngx.print(co(), co(), co())`, "123"},
		{"a dead coroutine is not resumed", `local co = coroutine.create(function() end) coroutine.resume(co) ngx.print(coroutine.resume(co))`, "falsecannot resume dead coroutine"},
		{"load takes an environment", `ngx.print(load("return a .. 1.5", "=x", "t", {a = "v"})())`, "v1.5"},
		{"xpcall gives the handler the message", `ngx.print(xpcall(function() error("x", 0) end, function(m) return "h:" .. m end))`, "falseh:x"},
		{"table.concat joins numbers", `ngx.print(table.concat({1, 0.5, "x"}, ","))`, "1,0.5,x"},
		{"the environment of the options comes first", `ngx.print(os.getenv("GOSIX_TEST_NOT_SET"))`, "nil"},
		{"bit operations give signed numbers", `ngx.print(bit.bnot(0), " ", bit.tohex(255, 4), " ", bit.band(0xff, 0x0f))`, "-1 00ff 15"},
		{"popen reads what a command writes", `local f = io.popen("echo hi") ngx.print(f:read("*a")) f:close()`, "hi"},
	})
}

func TestNgx(t *testing.T) {
	rt := newRuntime(t, Options{})
	rt.Shared("test")
	check(t, rt, []snippet{
		{"say joins nested lists", `ngx.say("a", 1, true, nil, {"b", {"c", 2}}, ngx.null)`, "a1truenilbc2null"},
		{"variables are those of the request", `ngx.print(ngx.var.arg_a, ngx.var.cookie_other, ngx.var.http_x_two, ngx.var.host, ngx.var.backend, ngx.var.nothing)`, "1w1, 2example.comonenil"},
		{"a set variable can be changed", `ngx.var.backend = "two" ngx.print(ngx.var.backend)`, "two"},
		{"request headers are found in any spelling", `local h = ngx.req.get_headers() ngx.print(h["HOST"], h.x_two[2], h.nope)`, "Example.com:19842nil"},
		{"query arguments repeat as lists", `local a = ngx.req.get_uri_args() ngx.print(a.a[2], a.b)`, "3two words"},
		{"the body is read once asked", `ngx.print(ngx.req.get_body_data()) ngx.req.read_body() ngx.print(ngx.req.get_body_data(), ngx.req.get_post_args().k)`, "nilk=v&list=1v"},
		{"base64 goes both ways", `ngx.print(ngx.encode_base64("ab"), ngx.decode_base64("YWI="), ngx.decode_base64("%%"))`, "YWI=abnil"},
		{"digests are those of the field", `ngx.print(ngx.md5("a"), " ", ngx.crc32_short("a"), " ", #ngx.sha1_bin("a"), #ngx.hmac_sha1("k", "a"))`, "0cc175b9c0f1b6a831c399e269772661 3904355907 2020"},
		{"URIs are escaped and back", `ngx.print(ngx.escape_uri("a b/c+"), ngx.unescape_uri("a%20b+c%zz"), ngx.encode_args({k = {"1", true}}))`, "a%20b%2Fc%2Ba b c%zzk=1&k"},
		{"times are formatted", `ngx.print(ngx.http_time(0), "|", ngx.cookie_time(0))`, "Thu, 01 Jan 1970 00:00:00 GMT|Thu, 01-Jan-70 00:00:00 GMT"},
		{"regular expressions capture by number and name", `local m = ngx.re.match("ab12", [[(?<w>[a-z]+)(\d)(x)?]], "jo") ngx.print(m[0], m.w, m[2], m[3])`, "ab1ab1false"},
		{"find gives the place of a group", `ngx.print(ngx.re.find("xab", "(a)(b)", "jo", nil, 2))`, "33"},
		{"gsub takes templates and functions", `ngx.print((ngx.re.gsub("a1b2", [[(\w)(\d)]], "$2${1}-")), ngx.re.gsub("aa", "a", function(m) return m[0] .. "!" end))`, "1a-2b-a!a!2"},
		{"gmatch goes on", `for m in ngx.re.gmatch("a1b2", [[\d]]) do ngx.print(m[0], ";") end`, "1;2;"},
		{"bytes are not characters", `ngx.print(ngx.re.find("é1", [[\d]]), ngx.re.match("é", [[^\w]]))`, "3nil"},
		{"a bad pattern is an error", `local m, err = ngx.re.match("a", "(") ngx.print(m, err:sub(1, 21))`, "nilpcre_compile() failed"},
		{"a shared dictionary keeps, counts and lists", `
			local d = ngx.shared.test
			d:set("k", "v", 0, 3) ngx.print(d:get("k")) ngx.print(d:incr("n", 2, 1)) ngx.print(d:add("k", 1))
			d:rpush("l", "x") ngx.print(d:llen("l"), d:lpop("l"), d:get("none"), ngx.shared.other)`, "v33nilfalsefalseexistsfalse1xnilnil"},
		{"light threads run and are waited for", `
			local go
			local a = ngx.thread.spawn(function(n) while not go do ngx.sleep(0.001) end return n end, 20)
			local b = ngx.thread.spawn(function(n) ngx.sleep(0.001) return n end, 1)
			local ok, first = ngx.thread.wait(a, b)
			go = true
			ngx.print(ok, first, ngx.thread.wait(a))`, "true1true20"},
		{"a thread runs at once up to its first wait", `local go
			ngx.thread.spawn(function() ngx.print("a") while not go do ngx.sleep(0.001) end ngx.print("c") end) ngx.print("b") go = true`, "abc"},
		{"a killed thread does not go on", `local th = ngx.thread.spawn(function() ngx.sleep(10) ngx.print("never") end) ngx.print(ngx.thread.kill(th), ngx.thread.kill(th))`, "1nilalready waited or killed"},
		{"a refused connection says so", `ngx.print(ngx.socket.tcp():connect("127.0.0.1", 1))`, "nilconnection refused"},
		{"a closed socket says so", `local s = ngx.socket.tcp() ngx.print(s:send("x"), s:close())`, "nilnilclosed"},
		{"the context of a request lasts", `ngx.ctx.a = 1 ngx.print(ngx.ctx.a)`, "1"},
		{"constants are nginx's", `ngx.print(ngx.HTTP_PUT, ngx.OK, ngx.ERR, ngx.HTTP_NOT_FOUND, tostring(ngx.null))`, "1604404userdata: NULL"},
		{"the phase has a name", `ngx.print(ngx.get_phase())`, "content"},
	})
}

func TestJSON(t *testing.T) {
	check(t, newRuntime(t, Options{}), []snippet{
		{"cjson escapes slashes, the reference's cjson.safe does not", `ngx.print(require("cjson").encode("a/b"), require("cjson.safe").encode("a/b"))`, `"a\/b""a/b"`},
		{"empty tables are objects unless they are lists", `local c = require("cjson") ngx.print(c.encode({}), c.encode(setmetatable({}, c.array_mt)), c.encode(c.empty_array), c.encode(c.null))`, `{}[][]null`},
		{"what cjson.safe decoded as a list stays one", `local c = require("cjson.safe") ngx.print(c.encode(c.decode('{"a":[]}')))`, `{"a":[]}`},
		{"a sparse list is refused", `ngx.print(select(2, require("cjson.safe").encode({[100] = 1})))`, "Cannot serialise table: excessively sparse array"},
		{"functions are refused", `ngx.print(select(2, require("cjson.safe").encode({a = print})))`, "Cannot serialise function: type not supported"},
		{"an unfinished object is named", `ngx.print(select(2, require("cjson.safe").decode('{"a":1')))`, "Expected comma or object end but found T_END at character 7"},
		{"an invalid token is named", `ngx.print(select(2, require("cjson.safe").decode('{a}')))`, "Expected object key string but found invalid token at character 2"},
		{"what follows the value is named", `ngx.print(select(2, require("cjson.safe").decode('1 2')))`, "Expected the end but found T_INTEGER at character 3"},
		{"escapes are decoded", `ngx.print(require("cjson").decode('"\\u00e9\\ud83d\\ude00\\n"'))`, "é😀"},
		{"the toolkit sorts keys", `ngx.print(require("toolkit.json").encode({b = 1, a = {x = {}}, c = false}))`, `{"a":{"x":[]},"b":1,"c":false}`},
		{"what is encoded stands in the order it came", `local t = {} for i = 1, 9 do t["k" .. i] = i end
			ngx.print(require("apisix.core").json.stably_encode(t))`, `{"k1":1,"k2":2,"k3":3,"k4":4,"k5":5,"k6":6,"k7":7,"k8":8,"k9":9}`},
		{"the toolkit reads a comma before the end, and comments", `local j = require("toolkit.json")
			ngx.print(j.encode(j.decode('{"a":[1,2,], // two\n"b":{"c":3,}, /* , */}')))`, `{"a":[1,2],"b":{"c":3}}`},
		{"cjson does not", `ngx.print(require("cjson.safe").decode("[1,]"))`, "nilExpected value but found T_ARR_END at character 4"},
		{"the toolkit drops nulls and keeps kinds", `local j = require("toolkit.json") ngx.print(j.encode(j.decode('{"a":null,"b":{},"c":[]}')))`, `{"b":{},"c":[]}`},
		{"rapidjson sorts when asked", `ngx.print(require("rapidjson").encode({b = 1, a = 2}, {sort_keys = true}))`, `{"a":2,"b":1}`},
		{"core encodes late", `local core = require("apisix.core") ngx.print(tostring(core.json.delay_encode({a = "b/c"})))`, `{"a":"b/c"}`},
	})
}

func TestLibraries(t *testing.T) {
	check(t, newRuntime(t, Options{}), []snippet{
		{"hashes are hexadecimal with resty.string", `local h = require("resty.sha256"):new() h:update("a") ngx.print(require("resty.string").to_hex(h:final()):sub(1, 8))`, "ca978112"},
		{"hmac takes an algorithm", `local hmac = require("resty.hmac") ngx.print(hmac:new("k", hmac.ALGOS.SHA256):final("a", true):sub(1, 8))`, "78da9151"},
		{"aes goes both ways", `local aes = require("resty.aes") local a = aes:new("1234567890123456", nil, aes.cipher(128, "cbc"), {iv = "1234567890123456"}) ngx.print(a:decrypt(a:encrypt("secret")))`, "secret"},
		{"inspect shows tables", `ngx.print(require("inspect")({1, 2, a = "x"}))`, "{ 1, 2,\n  a = \"x\"\n}"},
		{"split takes a pattern", `ngx.print(table.concat(require("ngx.re").split("a, b,c", [[,\s*]]), "|"))`, "a|b|c"},
		{"core.table finds and merges", `local t = require("apisix.core").table ngx.print(t.array_find({"a", "b"}, "b"), t.merge({a = {x = 1}}, {a = {y = 2}}).a.x, t.try_read_attr({a = {b = 3}}, "a", "b"))`, "213"},
		{"core.string finds plainly", `local s = require("apisix.core.string") ngx.print(s.find("a.b", "."), s.has_prefix("ab", "a"))`, "2true"},
		{"addresses are split", `ngx.print(require("apisix.core").utils.parse_addr("127.0.0.1:80"))`, "127.0.0.180"},
	})
}

func TestWhatEndsAScript(t *testing.T) {
	rt := newRuntime(t, Options{})
	var exit *ExitError
	var unsupportedErr *UnsupportedError
	var white *WhiteBoxError
	var script *ScriptError
	tests := []struct {
		name, chunk string
		as          any
		text        string
	}{
		{"exit passes pcall", `pcall(ngx.exit, 403)`, &exit, "exit 403"},
		{"exit in a light thread ends the request", `ngx.thread.spawn(function() ngx.sleep(0) ngx.exit(404) end) ngx.sleep(10)`, &exit, "exit 404"},
		{"exit in a coroutine ends the request", `coroutine.resume(coroutine.create(function() ngx.exit(405) end))`, &exit, "exit 405"},
		{"a redirect is an exit", `ngx.redirect("/x")`, &exit, "exit 302"},
		{"a name that ngx lacks is unsupported", "\n\nngx.nope()", &unsupportedErr, "line 3: ngx.nope is not supported"},
		{"a module that is not there is unsupported", `pcall(require, "no.such")`, &unsupportedErr, `line 1: require("no.such") is not supported`},
		{"a module of the reference is white-box", `require("apisix.balancer")`, &white, `line 1: require("apisix.balancer") is inside the reference`},
		{"the library of its health checks is white-box", `require("resty.healthcheck")`, &white, `line 1: require("resty.healthcheck") is inside the reference`},
		{"a function of core that is not offered is white-box", `require("apisix.core").nope()`, &white, "line 1: core.nope is inside the reference"},
		{"a dictionary of the reference is white-box", `ngx.shared["internal-status"]:get("k")`, &white, "line 1: ngx.shared.internal-status is inside the reference"},
		{"upvalues are white-box", `debug.getupvalue(print, 1)`, &white, "line 1: debug.getupvalue is inside the reference"},
		{"an error is nginx's line", `error("boom")`, &script, "lua entry thread aborted: runtime error: content_by_lua(nginx.conf:9):1: boom"},
		{"a syntax error is one too", `local = 1`, &script, "failed to load inlined Lua code: content_by_lua(nginx.conf:9):1: "},
	}
	for _, c := range tests {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := content(t, rt, c.chunk)
			if !errors.As(err, c.as) {
				t.Fatalf("got %T %v", err, err)
			}
			if !strings.HasPrefix(err.Error(), c.text) {
				t.Errorf("got  %q\nwant %q", err, c.text)
			}
		})
	}
}

func TestAContextEndsAScript(t *testing.T) {
	rt := newRuntime(t, Options{})
	for name, chunk := range map[string]string{
		"that loops":              `while true do end`,
		"that loops around pcall": `while true do pcall(function() while true do end end) end`,
		"that sleeps":             `ngx.sleep(1000)`,
		"that waits for a thread": `ngx.thread.wait(ngx.thread.spawn(function() ngx.sleep(1000) end))`,
		"in a coroutine":          `coroutine.wrap(function() while true do end end)()`,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			defer cancel()
			x, _ := newExchange("")
			if err := rt.Run(ctx, Content, "c", chunk, x, nil); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRequestsRunConcurrently(t *testing.T) {
	rt := newRuntime(t, Options{})
	rt.Shared("test")
	const n = 50
	// Each waits until all have come: one after another they would never end.
	chunk := `
		counter = (counter or 0) + 1
		local id = counter
		ngx.ctx.id = id
		ngx.shared.test:incr("here", 1, 0)
		while ngx.shared.test:get("here") < 50 do ngx.sleep(0.001) end
		ngx.thread.wait(ngx.thread.spawn(function() ngx.sleep(0.001) ngx.print(ngx.ctx.id == id, " ") end))
		ngx.print(ngx.var.arg_n)`
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			x, out := newExchange("")
			x.Args = fmt.Sprintf("n=%d", i)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := rt.Run(ctx, Content, "c", chunk, x, nil); err != nil {
				t.Error(err)
			}
			if got, want := out.String(), fmt.Sprintf("true %d", i); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	wg.Wait()
}

func TestFiltersChangeTheAnswer(t *testing.T) {
	rt := newRuntime(t, Options{})
	x, _ := newExchange("")
	x.OutHeader = []Field{{"Server", "a"}}
	ctx := context.Background()
	if err := rt.Run(ctx, HeaderFilter, "h", `ngx.header.server = nil ngx.header["X-A"] = {"1", "2"} ngx.status = 201`, x, nil); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(x.OutHeader, x.Status); got != "[{X-A 1} {X-A 2}] 201" {
		t.Error(got)
	}
	b := &BodyPart{Data: []byte("abc")}
	if err := rt.Run(ctx, BodyFilter, "b", `ngx.arg[1] = ngx.arg[1]:upper() ngx.arg[2] = true`, x, b); err != nil {
		t.Fatal(err)
	}
	if string(b.Data) != "ABC" || !b.EOF {
		t.Errorf("got %q %v", b.Data, b.EOF)
	}
	var script *ScriptError
	if err := rt.Run(ctx, BodyFilter, "b", `ngx.sleep(1)`, x, b); !errors.As(err, &script) || !strings.Contains(script.Text, "API disabled in the context of body_filter_by_lua*") {
		t.Errorf("got %v", err)
	}
}

func TestLogLinesSayWhereAndForWhom(t *testing.T) {
	var l logs
	rt := newRuntime(t, Options{Log: l.add})
	_, _, err := content(t, rt, "\nlocal function f() ngx.log(ngx.WARN, 'a', 1) end f()")
	if err != nil {
		t.Fatal(err)
	}
	want := `warn *7 [lua] content_by_lua(nginx.conf:9):2: f(): a1, client: 127.0.0.1, server: localhost, request: "POST /t?a=1&b=two%20words&a=3 HTTP/1.1", host: "Example.com:1984"`
	if got := l.text(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestTimersRunAndFailIntoTheLog(t *testing.T) {
	done := make(chan string, 2)
	rt := newRuntime(t, Options{Log: func(level, line string) { done <- level + " " + line }})
	_, _, err := content(t, rt, `ngx.timer.at(0, function(premature, a) ngx.sleep(0) ngx.log(ngx.ERR, a, premature) error("late") end, "arg")`)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"argfalse, context: ngx.timer", "lua entry thread aborted: runtime error"} {
		if got := <-done; !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestModulesAreFoundBelowHome(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, "t/lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "t/lib/m.lua"), []byte("return {v = 'found'}"), 0o644); err != nil {
		t.Fatal(err)
	}
	check(t, newRuntime(t, Options{Home: home}), []snippet{
		{"by the path below t", `ngx.print(require("lib.m").v, require("lib.m") == package.loaded["lib.m"])`, "foundtrue"},
	})
}

type fakePlugins struct{}

func (fakePlugins) Plugin(name string) (PluginInfo, bool) {
	return PluginInfo{Name: name, Version: "0.1", Priority: 1040, Schema: []byte(`{"type":"object"}`)}, name == "ai-proxy"
}

func (fakePlugins) Check(_, kind string, conf []byte) ([]byte, error) {
	if kind == "consumer" {
		return nil, errors.New("no consumer schema")
	}
	return append(bytes.TrimSuffix(conf, []byte("}")), `,"ssl_verify":true}`...), nil
}

func TestPluginsAreTheGatewaysOwn(t *testing.T) {
	rt := newRuntime(t, Options{Plugins: fakePlugins{}})
	check(t, rt, []snippet{
		{"a plugin has a name, a version and a schema", `local p = require("apisix.plugins.ai-proxy") ngx.print(p.name, p.version, p.priority, p.schema.type)`, "ai-proxy0.11040object"},
		{"a check fills in defaults", `local conf = {a = 1} ngx.print(require("apisix.plugins.ai-proxy").check_schema(conf), conf.ssl_verify)`, "truetrue"},
		{"a check returns the message", `ngx.print(require("apisix.plugins.ai-proxy").check_schema({}, 2))`, "falseno consumer schema"},
	})
	for name, chunk := range map[string]string{
		"one that is not built":        `require("apisix.plugins.other")`,
		"a part of a plugin":           `require("apisix.plugins.ai-proxy.base")`,
		"what a plugin does":           `require("apisix.plugins.ai-proxy").access()`,
		"a change that reaches no one": `require("apisix.plugins.ai-proxy").check_schema = print`,
	} {
		t.Run(name+" is white-box", func(t *testing.T) {
			_, _, err := content(t, rt, chunk)
			var white *WhiteBoxError
			if !errors.As(err, &white) {
				t.Errorf("got %v", err)
			}
		})
	}
}
