package stage

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/certtest"
	"github.com/gosix/gosix/t/blocktest"
)

func TestTheWorldOfASuite(t *testing.T) {
	got := results(t, newStage(t), `
=== TEST 1: the Admin API is behind the front
--- request
PUT /apisix/admin/routes/1
{"uri": "/hello", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1986": 1}}}
--- error_code: 201

=== TEST 2: what was written is served at once, from a server that the block declares
--- http_config
server {
	listen 1986;
	location / { echo "upstream of $http_x_a"; }
}
--- request
GET /hello
--- more_headers
X-A: b
--- response_body
upstream of b
--- response_headers
Server: APISIX/3.18.0
--- access_log
GET /hello

=== TEST 3: a location of the block is answered by its script, beside the gateway
--- config
location /t {
	content_by_lua_block {
		ngx.log(ngx.WARN, "a script was here")
		local res = ngx.location.capture("/nowhere")
		ngx.say(res.status)
	}
}
--- pipelined_requests eval
["GET /t", "GET /nowhere", "GET /t"]
--- error_code eval
[200, 404, 200]

=== TEST 4: a script of one block is gone in the next
--- config
location /t { content_by_lua_block { ngx.say(left == nil); left = 1 } }
--- request eval
["GET /t", "GET /t"]
--- response_body eval
["true\n", "false\n"]

=== TEST 5: it is, and it logs
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "a script was here") ngx.say(left == nil) } }
--- request
GET /t
--- response_body
true
--- error_log
a script was here

=== TEST 6: a script that reaches inside
--- config
location /t { content_by_lua_block { require("apisix.balancer.chash").new() } }
--- request
GET /t

=== TEST 7: a directive that is not offered
--- config
location /t { mirror /a; }
--- request
GET /t

=== TEST 8: a configuration that gosix refuses
--- yaml_config
apisix:
  node_lisen: 1984
--- request
GET /hello

=== TEST 9: a configuration that is to be refused
--- yaml_config
apisix:
  node_lisen: 1984
--- must_die
--- error_log
unknown key

=== TEST 10: what the gateway says at last
--- request
GET /nowhere
--- error_code: 404
--- no_shutdown_error_log
panic

=== TEST 11: a command
--- exec
echo one; echo two
--- response_body
one
two

=== TEST 12: a wrong expectation
--- request
GET /nowhere
--- error_code: 200

=== TEST 13: HTTP/3, which the gateway has not
--- config
listen 1994 quic reuseport ssl;
--- request
GET /hello

=== TEST 14: a file instead of etcd
--- apisix_yaml
routes: []
--- yaml_config
deployment:
  role: data_plane
  role_data_plane: {config_provider: yaml}
--- request
GET /hello
`, blocktest.RunOptions{})
	want := map[int]struct {
		verdict blocktest.Verdict
		why     string
	}{
		6:  {blocktest.WhiteBox, "apisix.balancer.chash"},
		7:  {blocktest.Unsupported, "mirror"},
		8:  {blocktest.Unsupported, "gosix refused its configuration"},
		12: {blocktest.NotOK, "404"},
		13: {blocktest.Unsupported, "quic"},
		14: {blocktest.Unsupported, "config_provider: yaml"},
	}
	for _, r := range got {
		w, other := want[r.Number]
		if !other {
			w.verdict = blocktest.OK
		}
		if r.Verdict != w.verdict || !strings.Contains(r.Why, w.why) {
			t.Errorf("%s: %s %q %q, want %s %q", r.Name, r.Verdict, r.Why, r.Failures, w.verdict, w.why)
		}
	}
	if len(got) != 14 {
		t.Errorf("%d results", len(got))
	}
}

// With TLS the gateway is at 1994 and wherever else a block wants it; who speaks to it sees
// what was written before.
func TestTLSIsTheGateways(t *testing.T) {
	cert, key := certtest.Pair(t, "a.test")
	doc, err := json.Marshal(map[string]string{"sni": "a.test", "cert": string(cert), "key": string(key)})
	if err != nil {
		t.Fatal(err)
	}
	block := func(number int, where, listen string) string {
		return fmt.Sprintf(`
=== TEST %d: a handshake
--- config
%s
location /t {
	content_by_lua_block {
		local sock = ngx.socket.tcp()
		assert(sock:connect(%s))
		local ok, err = sock:sslhandshake(nil, "a.test", false)
		if not ok then
			ngx.say(err)
			return
		end
		sock:send("GET /nowhere HTTP/1.0\r\nHost: a.test\r\n\r\n")
		ngx.say(sock:receive())
	}
}
--- request
GET /t
--- response_body_like: %s
`, number, listen, where, map[bool]string{true: "handshake failed", false: "404 Not Found"}[number == 1])
	}
	const port = `"127.0.0.1", 1994`
	s := newStage(t)
	got := results(t, s, block(1, port, "")+`
=== TEST 2: a certificate
--- request
PUT /apisix/admin/ssls/1
`+string(doc)+`
--- error_code: 201
`+block(3, port, "")+block(4, port, "listen 1994 ssl;")+
		block(5, `"unix:$TEST_NGINX_HTML_DIR/nginx.sock"`, "listen unix:$TEST_NGINX_HTML_DIR/nginx.sock ssl;")+
		block(6, `"127.0.0.1", 1995`, "listen 1995 ssl;")+
		block(7, `"unix:$TEST_NGINX_HTML_DIR/nginx.sock"`, "listen unix:$TEST_NGINX_HTML_DIR/nginx.sock ssl;"), blocktest.RunOptions{Root: s.Root()})
	for _, r := range got {
		if r.Verdict != blocktest.OK {
			t.Errorf("%d: %s %q %q", r.Number, r.Verdict, r.Why, r.Failures)
		}
	}
	if len(got) != 7 {
		t.Errorf("%d results", len(got))
	}
}

func TestAWorldIsMadeAnewAndKeepsWhatIsStored(t *testing.T) {
	got := results(t, newStage(t), `
=== TEST 1: a route
--- request
PUT /apisix/admin/routes/1
{"uri": "/hello", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1986": 1}}}
--- error_code: 201

=== TEST 2: too long, with a server, a timer and a gateway that wait
--- http_config
server { listen 1986; location / { content_by_lua_block { ngx.sleep(3600) } } }
--- config
location /t {
	content_by_lua_block {
		ngx.timer.at(0, function() ngx.sleep(3600) end)
		ngx.thread.spawn(ngx.location.capture, "/hello")
		ngx.sleep(3600)
	}
}
--- request
GET /t
--- timeout: 3600
--- ignore_response

=== TEST 3: the next
--- http_config
server { listen 1986; location / { return 200 "hello"; } }
--- request
GET /hello
--- response_body: hello
`, blocktest.RunOptions{BlockTime: 15 * time.Second})
	if got[0].Verdict != blocktest.OK || got[1].Verdict != blocktest.NotOK || got[2].Verdict != blocktest.OK {
		t.Errorf("%+v", got)
	}
	if !strings.Contains(got[1].Why, "longer") {
		t.Errorf("%+v", got[1])
	}
}

func TestAWorldClosesWhileScriptsWait(t *testing.T) {
	s := newStage(t)
	got := results(t, s, `
=== TEST 1: an answer, and a script that goes on
--- config
location /t {
	content_by_lua_block {
		ngx.timer.every(3600, function() end)
		ngx.timer.at(0, function() ngx.sleep(3600) end)
		ngx.say("ok")
		ngx.eof()
		ngx.sleep(3600)
	}
}
--- request
GET /t
--- response_body
ok
--- timeout: 1
`, blocktest.RunOptions{})
	if got[0].Verdict == blocktest.Unsupported {
		t.Errorf("%+v", got)
	}
	// newStage closes it.
}

func TestAWorldWithoutAProgramBreaks(t *testing.T) {
	s := newStage(t)
	s.o.Program = "/nowhere"
	got := results(t, s, "\n=== A\n--- request\nGET /\n\n=== B\n--- request\nGET /\n", blocktest.RunOptions{})
	if got[0].Verdict != blocktest.NotOK || got[1].Verdict != blocktest.Skipped {
		t.Errorf("%+v", got)
	}
}

func TestAClientOfIPv6KeepsItsAddress(t *testing.T) {
	s := newStage(t)
	if !s.ipv6 {
		t.Skip("this machine has no IPv6")
	}
	got := results(t, s, `
=== TEST 1: routes by address
--- request
PUT /apisix/admin/routes/1
{"uri": "/hello", "remote_addr": "::1", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1986": 1}}}
--- error_code: 201

=== TEST 2: of IPv6
--- http_config
server { listen 1986; location / { return 200 "hello"; } }
--- server_addr_for_client: ::1
--- request
GET /hello

=== TEST 3: of IPv4
--- request
GET /hello
--- error_code: 404
`, blocktest.RunOptions{})
	for _, r := range got {
		if r.Verdict != blocktest.OK {
			t.Errorf("%+v", r)
		}
	}
}
