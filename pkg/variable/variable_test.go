package variable_test

import (
	"context"
	"crypto/sha1" //nolint:gosec // what nginx calls the fingerprint is that of SHA-1
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/certtest"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/variable"
)

// request returns an exchange as an engine leaves it: nothing matched yet.
func request() *exchange.Exchange {
	x := new(exchange.Exchange)
	x.Reset(context.Background(), nil)
	x.ID = "0123456789abcdef0123456789abcdef"
	q := &x.Request
	q.Method, q.Scheme, q.Host, q.Proto = "POST", "http", "API.Example.com:9080", "HTTP/1.1"
	q.Path, q.RawQuery, q.Target = "/a b", "n=7&n=8&q=x%20y", "/a%20b?n=7&n=8&q=x%20y"
	q.Remote = netip.MustParseAddrPort("10.1.2.3:40001")
	q.Local = netip.MustParseAddrPort("10.0.0.1:9080")
	q.HeadBytes = 100
	q.Header.Add("Host", q.Host)
	q.Header.Add("X-One", "1")
	return x
}

func value(t *testing.T, x *exchange.Exchange, name string) variable.Value {
	t.Helper()
	get, ok := variable.Compile(name)
	if !ok {
		t.Fatalf("Compile(%q): no such variable", name)
	}
	return get(x)
}

// absent is what the tables say of a variable without a value.
const absent = "\x00"

func check(t *testing.T, x *exchange.Exchange, name, want string) {
	t.Helper()
	v := value(t, x, name)
	if v.IsNil() {
		if want != absent {
			t.Errorf("%s is absent, want %q", name, want)
		}
		return
	}
	if got := v.String(); got != want {
		t.Errorf("%s: got %q, want %q", name, got, want)
	}
	if got := string(v.Append(nil)); got != want {
		t.Errorf("%s: Append got %q, want %q", name, got, want)
	}
}

func TestPlainVariables(t *testing.T) {
	x := request()
	x.Response.Status, x.Response.Sent = 201, 42
	x.Request.Body.Set([]byte("12345"))
	x.Request.Header.Add("Content-Type", "text/plain")
	x.Request.Header.Add("Authorization", "Basic am86cGFzczp3b3Jk")
	f := &x.Facts
	f.RouteID, f.RouteName, f.ServiceID, f.ServiceName = "r1", "route", "s1", "service"
	f.MatchedURI, f.MatchedHost = "/a*", "*.example.com"
	f.ConsumerName, f.ConsumerGroupID, f.CredentialID = "jo", "g1", "c1"
	f.BalancerIP, f.BalancerPort, f.UpstreamUnresolvedHost = "10.9.9.9", "80", "node.internal"
	f.UpstreamScheme, f.UpstreamHost, f.UpstreamURI = "http", "up.example.com", "/b?n=7"
	for name, want := range map[string]string{
		"method": "POST", "request_method": "POST",
		"route_id": "r1", "route_name": "route", "service_id": "s1", "service_name": "service",
		"matched_uri": "/a*", "matched_host": "*.example.com",
		"consumer_name": "jo", "consumer_group_id": "g1", "credential_identifier": "c1",
		"balancer_ip": "10.9.9.9", "balancer_port": "80", "upstream_unresolved_host": "node.internal",
		"upstream_scheme": "http", "upstream_host": "up.example.com", "upstream_uri": "/b?n=7",
		"uri": "/a b", "document_uri": "/a b",
		"request_uri": "/a%20b?n=7&n=8&q=x%20y", "real_request_uri": "/a%20b?n=7&n=8&q=x%20y",
		"query_string": "n=7&n=8&q=x%20y", "args": "n=7&n=8&q=x%20y", "is_args": "?",
		"host": "api.example.com", "http_host": "API.Example.com:9080",
		"scheme": "http", "https": "", "server_protocol": "HTTP/1.1", "server_name": "_",
		"remote_addr": "10.1.2.3", "remote_port": "40001", "server_addr": "10.0.0.1", "server_port": "9080",
		"remote_user": "jo", "content_type": "text/plain", "content_length": "5",
		"request":      "POST /a%20b?n=7&n=8&q=x%20y HTTP/1.1",
		"request_line": "POST /a%20b?n=7&n=8&q=x%20y HTTP/1.1",
		"request_id":   x.ID, "apisix_request_id": x.ID,
		"request_length": "105", "status": "201", "body_bytes_sent": "42", "bytes_sent": "42",
	} {
		check(t, x, name, want)
	}
	machine, _ := os.Hostname()
	check(t, x, "hostname", machine)
	for name, shape := range map[string]string{
		"request_time": `^\d+\.\d{3}$`,
		"time_local":   `^\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}$`,
		"time_iso8601": `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$`,
		"msec":         `^\d{10}\.\d{3}$`,
	} {
		if got := value(t, x, name).String(); !regexp.MustCompile(shape).MatchString(got) {
			t.Errorf("%s: got %q, want %s", name, got, shape)
		}
	}
}

func TestWhatIsNotKnownIsAbsentOrHasItsInitialValue(t *testing.T) {
	x := request()
	x.Request.RawQuery, x.Request.Host = "", ""
	x.Request.Remote, x.Request.Local = netip.AddrPort{}, netip.AddrPort{}
	for name, want := range map[string]string{
		"route_id": absent, "route_name": absent, "service_id": absent, "service_name": absent,
		"consumer_name": absent, "consumer_group_id": absent, "balancer_ip": absent, "balancer_port": absent,
		"upstream_unresolved_host": absent, "upstream_addr": absent, "upstream_status": absent,
		"upstream_response_time": absent, "upstream_header_time": absent, "upstream_response_length": absent,
		"apisix_upstream_response_time": absent, "upstream_uri": absent,
		"args": absent, "query_string": absent, "is_args": "", "host": absent, "http_host": absent,
		"remote_addr": absent, "remote_port": absent, "server_addr": absent, "server_port": absent,
		"remote_user": absent, "content_type": absent, "content_length": absent, "status": "000",
		"ssl_server_name": absent, "ssl_protocol": absent, "ssl_cipher": absent,

		"request_type": "traditional_http", "request_llm_model": "", "llm_model": "",
		"llm_time_to_first_token": "0", "llm_prompt_tokens": "0", "llm_completion_tokens": "0",
		"llm_total_tokens": "0", "llm_cache_read_input_tokens": "0", "llm_cache_creation_input_tokens": "0",
		"llm_reasoning_tokens": "0", "llm_stream": "false", "llm_has_tool_calls": "false",
		"llm_tool_count": "0", "llm_end_user_id": "", "llm_content_risk_level": "",
		"llm_summary": absent, "llm_request": absent, "llm_response_text": absent, "llm_attempts": absent,
	} {
		check(t, x, name, want)
	}
}

func TestVariablesOfAIRequests(t *testing.T) {
	x := request()
	x.Facts.RequestType = "ai_stream"
	x.Facts.LLM = exchange.LLM{
		RequestModel: "asked", Model: "used", PromptTokens: 1, CompletionTokens: 2, TotalTokens: 3,
		CachedTokens: 4, CacheCreationTokens: 5, ReasoningTokens: 6, FirstToken: 1234567 * time.Microsecond,
		Stream: true, HasToolCalls: true, ToolCount: 7, EndUserID: "jo",
		Summarised: true, Messages: []byte(`[1]`), Text: []byte("said"),
	}
	x.Facts.Attempts = []exchange.Attempt{
		{Name: "a", Addr: "one:443", Status: 429, Response: 10 * time.Millisecond},
		{Name: "b", Addr: "two:443", Status: 200, Response: 2345 * time.Millisecond, End: "cut"},
	}
	for name, want := range map[string]string{
		"request_type": "ai_stream", "request_llm_model": "asked", "llm_model": "used",
		"llm_time_to_first_token": "1234", "llm_prompt_tokens": "1", "llm_completion_tokens": "2",
		"llm_total_tokens": "3", "llm_cache_read_input_tokens": "4", "llm_cache_creation_input_tokens": "5",
		"llm_reasoning_tokens": "6", "llm_stream": "true", "llm_has_tool_calls": "true",
		"llm_tool_count": "7", "llm_end_user_id": "jo",
		"apisix_upstream_response_time": "2345", "upstream_response_time": "0.010, 2.345",
		"llm_attempts": "a:429, b:200 cut", "upstream_status": "429, 200", "llm_request": `{"messages":[1],"stream":true}`, "llm_response_text": "said",
		"llm_summary": `{"request_model":"asked","model":"used","duration":1234,"prompt_tokens":1,"completion_tokens":2,` +
			`"total_tokens":3,"upstream_response_time":2345,"stream":true,"tool_count":7,"has_tool_calls":true,"end_user_id":"jo",` +
			`"cache_read_input_tokens":4,"cache_creation_input_tokens":5,"reasoning_tokens":6,"content_risk_level":"","partial":false}`,
	} {
		check(t, x, name, want)
	}
}

func TestAttemptsAreCommaLists(t *testing.T) {
	x := request()
	x.Facts.Attempts = []exchange.Attempt{{Addr: "10.0.0.1:80", Status: 200, Header: 5 * time.Millisecond, Response: 7 * time.Millisecond, Length: 12}}
	for name, want := range map[string]string{
		"upstream_addr": "10.0.0.1:80", "upstream_status": "200", "upstream_header_time": "0.005",
		"upstream_response_time": "0.007", "upstream_response_length": "12", "apisix_upstream_response_time": "0.007",
	} {
		check(t, x, name, want)
	}
	x.Facts.Attempts = []exchange.Attempt{
		{Addr: "10.0.0.1:80", Err: errors.New("refused"), Response: time.Millisecond},
		{Addr: "10.0.0.2:80", Status: 200, Header: 12 * time.Millisecond, Response: 1500 * time.Millisecond, Length: 7},
		{},
	}
	for name, want := range map[string]string{
		"upstream_addr": "10.0.0.1:80, 10.0.0.2:80, -", "upstream_status": "502, 200, -",
		"upstream_header_time": "-, 0.012, -", "upstream_response_time": "0.001, 1.500, -",
		"upstream_response_length": "0, 7, 0", "apisix_upstream_response_time": "0.001, 1.500, -",
	} {
		check(t, x, name, want)
	}
}

func TestFamilies(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(x *exchange.Exchange)
		read    string
		want    string
	}{
		{"an argument that occurs twice has its first value", nil, "arg_n", "7"},
		{"an argument is decoded", nil, "arg_q", "x y"},
		{"an argument's name is decoded", query("%6e=1"), "arg_n", "1"},
		{"an argument's name is case-sensitive", query("N=1"), "arg_n", absent},
		{"an argument that is not there is absent", nil, "arg_z", absent},
		{"an argument without a value is empty", query("n&m=1"), "arg_n", ""},
		{"an argument keeps what is no escape", query("n=%zz%41%4"), "arg_n", "%zzA%4"},
		{"a plus in an argument is a space", query("n=a+b"), "arg_n", "a b"},
		{"an argument's value may hold an equals sign", query("n=a=b"), "arg_n", "a=b"},
		{"a header", nil, "http_x_one", "1"},
		{"a header's variable may be spelled like the header", nil, "http_X-One", "1"},
		{"a header spelled with underscores is the same variable", field("x_two", "2"), "http_x_two", "2"},
		{"a header spelled both ways at once", field("X-tw_o", "2"), "http_x_tw_o", "2"},
		{"a header that occurs twice is joined", field("x-one", "2"), "http_x_one", "1, 2"},
		{"a header that is empty is not absent", field("X-Empty", ""), "http_x_empty", ""},
		{"a header that is not there is absent", nil, "http_x_none", absent},
		{"the whole cookie header", cookies("a=1", "b=2"), "http_cookie", "a=1; b=2"},
		{"the host header in other letters", nil, "http_Host", "API.Example.com:9080"},
		{"a cookie", cookies("a=1; b=2"), "cookie_b", "2"},
		{"a cookie of the second header", cookies("a=1", "b=2"), "cookie_b", "2"},
		{"a cookie's value may hold an equals sign", cookies("b=x=y"), "cookie_b", "x=y"},
		{"a cookie's name is case-sensitive", cookies("B=2"), "cookie_b", absent},
		{"a cookie without a value is none", cookies("b"), "cookie_b", absent},
		{"a cookie that is not there is absent", nil, "cookie_b", absent},
		{"a captured part of the path", func(x *exchange.Exchange) {
			x.Facts.Params = append(x.Facts.Params, exchange.Param{Name: "id", Value: "42"}, exchange.Param{Name: "ext", Value: "a/b"})
		}, "uri_param_ext", "a/b"},
		{"a part of the path that was not captured", nil, "uri_param_id", absent},
		{"a header of the answer", func(x *exchange.Exchange) { x.Response.Header.Add("X-Out", "o") }, "sent_http_x_out", "o"},
		{"a header of the answer that is not there", nil, "sent_http_x_out", absent},
		{"the length of the answer", func(x *exchange.Exchange) { x.Response.Status, x.Response.Length = 200, 5 }, "sent_http_content_length", "5"},
		{"the length of no answer", func(x *exchange.Exchange) { x.Response.Length = 5 }, "sent_http_content_length", absent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			x := request()
			if tt.prepare != nil {
				tt.prepare(x)
			}
			check(t, x, tt.read, tt.want)
		})
	}
}

func query(q string) func(*exchange.Exchange) {
	return func(x *exchange.Exchange) { x.Request.RawQuery = q }
}

func field(name, value string) func(*exchange.Exchange) {
	return func(x *exchange.Exchange) { x.Request.Header.Add(name, value) }
}

func cookies(values ...string) func(*exchange.Exchange) {
	return func(x *exchange.Exchange) {
		for _, v := range values {
			x.Request.Header.Add("Cookie", v)
		}
	}
}

func TestRequestURIHasNoAuthority(t *testing.T) {
	for target, want := range map[string]string{
		"/a?b": "/a?b", "http://h/a?b": "/a?b", "http://h": "/", "http://h?b": "/?b", "*": "*", "": "",
	} {
		x := request()
		x.Request.Target = target
		check(t, x, "request_uri", want)
	}
}

func TestHostHasNoPortAndNoUpperCase(t *testing.T) {
	for host, want := range map[string]string{
		"A.b": "a.b", "a.b:80": "a.b", "a.b.": "a.b", "a.b.:80": "a.b", "[::1]:80": "[::1]", "[::1]": "[::1]", "": "",
	} {
		if got := variable.Host(host); got != want {
			t.Errorf("Host(%q): got %q, want %q", host, got, want)
		}
	}
}

func TestAddressesAreShownInTheirShortForm(t *testing.T) {
	x := request()
	x.Request.Remote = netip.MustParseAddrPort("[::ffff:10.1.2.3]:1")
	check(t, x, "remote_addr", "10.1.2.3")
	x.Request.Remote = netip.MustParseAddrPort("[2001:db8:0::1]:1")
	check(t, x, "remote_addr", "2001:db8::1")
}

func TestVariablesOfTLS(t *testing.T) {
	x := request()
	x.Request.Scheme = "https"
	x.Request.TLS = &tls.ConnectionState{ServerName: "api.example.com", Version: tls.VersionTLS13, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	for name, want := range map[string]string{
		"https": "on", "scheme": "https", "ssl_server_name": "api.example.com",
		"ssl_protocol": "TLSv1.3", "ssl_cipher": "TLS_AES_128_GCM_SHA256", "ssl_alpn_protocol": absent,
		"ssl_session_reused": ".", "ssl_client_verify": absent, "ssl_client_s_dn": absent,
	} {
		check(t, x, name, want)
	}
	x.Request.TLS = &tls.ConnectionState{
		Version: tls.VersionTLS12, CipherSuite: tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, DidResume: true, NegotiatedProtocol: "h2",
	}
	for name, want := range map[string]string{
		"ssl_protocol": "TLSv1.2", "ssl_cipher": "ECDHE-RSA-AES128-GCM-SHA256", "ssl_session_reused": "r", "ssl_alpn_protocol": "h2",
	} {
		check(t, x, name, want)
	}
}

func TestVariablesOfAClientsCertificate(t *testing.T) {
	text, _ := certtest.Pair(t, "jo@client.test")
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	cert.SerialNumber, cert.NotAfter = big.NewInt(0xabc), time.Now().Add(49*time.Hour)
	cert.NotBefore = time.Date(2026, 3, 1, 4, 5, 6, 0, time.FixedZone("", 3600))
	x := request()
	x.Request.ClientVerify = "SUCCESS"
	x.Request.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}
	for name, want := range map[string]string{
		"ssl_client_verify": "SUCCESS", "ssl_client_s_dn": "CN=jo@client.test", "ssl_client_i_dn": "CN=jo@client.test",
		"ssl_client_serial": "0ABC", "ssl_client_fingerprint": fmt.Sprintf("%x", sha1.Sum(block.Bytes)),
		"ssl_client_v_start": "Mar  1 03:05:06 2026 GMT", "ssl_client_v_remain": "2", "ssl_client_raw_cert": string(text),
	} {
		check(t, x, name, want)
	}
	if got, err := url.PathUnescape(value(t, x, "ssl_client_escaped_cert").String()); err != nil || got != string(text) {
		t.Errorf("ssl_client_escaped_cert: got %q, %v", got, err)
	}
	cert.NotAfter = time.Now().Add(-time.Hour)
	check(t, x, "ssl_client_v_remain", "0")
}

func TestRemoteUserNeedsBasicCredentials(t *testing.T) {
	for auth, want := range map[string]string{
		"Basic am86cA==": "jo", "basic am86cA==": "jo", "Basic am8=": absent, "Basic !": absent, "Bearer am86cA==": absent,
	} {
		x := request()
		x.Request.Header.Add("Authorization", auth)
		check(t, x, "remote_user", want)
	}
}

func TestUnknownNamesDoNotCompile(t *testing.T) {
	for _, name := range []string{
		"", "nope", "arg_", "http_", "cookie_", "post_arg_", "post_arg.", "uri_param_", "graphql_", "graphql_fields",
		"graphql_query", "post_arg.a[", "post_arg.a[*",
	} {
		if _, ok := variable.Compile(name); ok {
			t.Errorf("Compile(%q): got a variable, want none", name)
		}
	}
}

func TestCheckRefusesOnlyWhatIsNoPath(t *testing.T) {
	for _, name := range []string{"post_arg.a[", "post_arg...", "post_arg.a[?"} {
		if err := variable.Check(name); err == nil || !strings.HasPrefix(err.Error(), `invalid expression "$`) {
			t.Errorf("Check(%q): got %v, want an invalid expression", name, err)
		}
	}
	for _, name := range []string{"nope", "post_arg.n", "post_arg.a.b", "post_arg.a[*].b", "post_arg...b", "post_arg.", "post_arg_n["} {
		if err := variable.Check(name); err != nil {
			t.Errorf("Check(%q): %v", name, err)
		}
	}
}

func TestNamesCompile(t *testing.T) {
	names := variable.Names()
	if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("names are not sorted, or not different: %v", names)
	}
	if !slices.Contains(names, "hostname") || !slices.Contains(names, "route_id") {
		t.Errorf("names lack some: %v", names)
	}
	empty := new(exchange.Exchange)
	empty.Reset(context.Background(), nil)
	for _, name := range names {
		_ = value(t, empty, name).String()
	}
}

func TestGettersDoNotAllocate(t *testing.T) {
	x := request()
	x.Request.Header.Add("Cookie", "a=1; b=2")
	x.Facts.RouteID = "r1"
	x.Facts.Params = []exchange.Param{{Name: "id", Value: "1"}}
	x.Facts.Attempts = []exchange.Attempt{{Addr: "10.0.0.1:80", Status: 200, Header: 1, Response: 2, Length: 3}}
	x.Request.Host = "api.example.com:80"
	space := make([]byte, 0, 256)
	for _, name := range []string{
		"method", "uri", "request_uri", "host", "http_host", "args", "is_args", "scheme", "remote_addr", "remote_port",
		"server_addr", "server_port", "route_id", "arg_n", "arg_missing", "http_x_one", "http_x_none", "cookie_b",
		"uri_param_id", "request_id", "status", "body_bytes_sent", "request_time", "request_length", "msec",
		"upstream_addr", "upstream_status", "upstream_response_time", "llm_prompt_tokens", "llm_stream",
	} {
		get, _ := variable.Compile(name)
		if got := testing.AllocsPerRun(100, func() { space = get(x).Append(space[:0]) }); got != 0 {
			t.Errorf("%s: got %v allocations, want none", name, got)
		}
	}
}

func BenchmarkHeader(b *testing.B) {
	x := request()
	get, _ := variable.Compile("http_x_one")
	b.ReportAllocs()
	for b.Loop() {
		get(x)
	}
}
