package variable

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/tlsname"
)

// plain are the variables that stand alone: the gateway's (spec/03 §6), those of AI
// requests (spec/06 §A10), then the web server's. It is never written.
var plain = map[string]Getter{
	"method":                   func(x *exchange.Exchange) Value { return Text(x.Request.Method) },
	"route_id":                 func(x *exchange.Exchange) Value { return Some(x.Facts.RouteID) },
	"route_name":               func(x *exchange.Exchange) Value { return Some(x.Facts.RouteName) },
	"service_id":               func(x *exchange.Exchange) Value { return Some(x.Facts.ServiceID) },
	"service_name":             func(x *exchange.Exchange) Value { return Some(x.Facts.ServiceName) },
	"matched_uri":              func(x *exchange.Exchange) Value { return Some(x.Facts.MatchedURI) },
	"matched_host":             func(x *exchange.Exchange) Value { return Some(x.Facts.MatchedHost) },
	"consumer_name":            func(x *exchange.Exchange) Value { return Some(x.Facts.ConsumerName) },
	"consumer_group_id":        func(x *exchange.Exchange) Value { return Some(x.Facts.ConsumerGroupID) },
	"credential_identifier":    func(x *exchange.Exchange) Value { return Some(x.Facts.CredentialID) },
	"balancer_ip":              func(x *exchange.Exchange) Value { return Some(x.Facts.BalancerIP) },
	"balancer_port":            func(x *exchange.Exchange) Value { return Some(x.Facts.BalancerPort) },
	"upstream_unresolved_host": func(x *exchange.Exchange) Value { return Some(x.Facts.UpstreamUnresolvedHost) },
	"apisix_request_id":        func(x *exchange.Exchange) Value { return Text(x.ID) },

	"request_type":                    func(x *exchange.Exchange) Value { return Text(x.Facts.RequestType) },
	"request_llm_model":               func(x *exchange.Exchange) Value { return Text(x.Facts.LLM.RequestModel) },
	"llm_model":                       func(x *exchange.Exchange) Value { return Text(x.Facts.LLM.Model) },
	"llm_time_to_first_token":         func(x *exchange.Exchange) Value { return digits(x.Facts.LLM.FirstToken.Milliseconds()) },
	"llm_prompt_tokens":               func(x *exchange.Exchange) Value { return digits(x.Facts.LLM.PromptTokens) },
	"llm_completion_tokens":           func(x *exchange.Exchange) Value { return digits(x.Facts.LLM.CompletionTokens) },
	"llm_total_tokens":                func(x *exchange.Exchange) Value { return digits(x.Facts.LLM.TotalTokens) },
	"llm_cache_read_input_tokens":     func(x *exchange.Exchange) Value { return digits(x.Facts.LLM.CachedTokens) },
	"llm_cache_creation_input_tokens": func(x *exchange.Exchange) Value { return digits(x.Facts.LLM.CacheCreationTokens) },
	"llm_reasoning_tokens":            func(x *exchange.Exchange) Value { return digits(x.Facts.LLM.ReasoningTokens) },
	"llm_stream":                      func(x *exchange.Exchange) Value { return truth(x.Facts.LLM.Stream) },
	"llm_has_tool_calls":              func(x *exchange.Exchange) Value { return truth(x.Facts.LLM.HasToolCalls) },
	"llm_tool_count":                  func(x *exchange.Exchange) Value { return digits(int64(x.Facts.LLM.ToolCount)) },
	"llm_end_user_id":                 func(x *exchange.Exchange) Value { return Text(x.Facts.LLM.EndUserID) },
	"llm_content_risk_level":          func(*exchange.Exchange) Value { return Text("") },
	"llm_attempts":                    llmAttempts,
	"llm_summary":                     llmSummary,
	"llm_request":                     llmRequest,
	"llm_response_text":               llmText,

	"upstream_scheme":               func(x *exchange.Exchange) Value { return Some(x.Facts.UpstreamScheme) },
	"upstream_host":                 func(x *exchange.Exchange) Value { return Some(x.Facts.UpstreamHost) },
	"upstream_uri":                  func(x *exchange.Exchange) Value { return Some(x.Facts.UpstreamURI) },
	"upstream_addr":                 upstreamAddr,
	"upstream_status":               upstreamStatus,
	"upstream_response_time":        responseTime,
	"upstream_header_time":          attempts(func(a *exchange.Attempt) Value { return spent(a.Header) }),
	"upstream_response_length":      attempts(func(a *exchange.Attempt) Value { return digits(a.Length) }),
	"apisix_upstream_response_time": apisixResponseTime,

	"request_method":   func(x *exchange.Exchange) Value { return Text(x.Request.Method) },
	"uri":              func(x *exchange.Exchange) Value { return Text(x.Request.Path) },
	"document_uri":     func(x *exchange.Exchange) Value { return Text(x.Request.Path) },
	"request_uri":      func(x *exchange.Exchange) Value { return Text(originForm(x.Request.Target)) },
	"real_request_uri": func(x *exchange.Exchange) Value { return Text(originForm(x.Request.Target)) },
	"query_string":     func(x *exchange.Exchange) Value { return Some(x.Request.RawQuery) },
	"args":             func(x *exchange.Exchange) Value { return Some(x.Request.RawQuery) },
	"is_args":          isArgs,
	"request":          requestLine,
	"request_line":     requestLine,
	"request_id":       func(x *exchange.Exchange) Value { return Text(x.ID) },
	"request_length":   requestLength,
	"request_time":     func(x *exchange.Exchange) Value { return millis(x.Took()) },
	"scheme":           func(x *exchange.Exchange) Value { return Text(x.Request.Scheme) },
	"https":            https,
	"server_protocol":  func(x *exchange.Exchange) Value { return Text(x.Request.Proto) },
	"server_name":      func(*exchange.Exchange) Value { return Text("_") },
	"server_addr":      func(x *exchange.Exchange) Value { return address(x.Request.Local.Addr()) },
	"server_port":      func(x *exchange.Exchange) Value { return port(x.Request.Local.Port()) },
	"remote_addr":      func(x *exchange.Exchange) Value { return address(x.Request.Remote.Addr()) },
	"remote_port":      func(x *exchange.Exchange) Value { return port(x.Request.Remote.Port()) },
	"remote_user":      remoteUser,
	"host":             func(x *exchange.Exchange) Value { return Some(Host(x.Request.Host)) },
	"http_host":        func(x *exchange.Exchange) Value { return Some(x.Request.Host) },
	"content_type":     func(x *exchange.Exchange) Value { return Some(x.Request.Header.Get("Content-Type")) },
	"content_length":   contentLength,
	"status":           status,
	"body_bytes_sent":  func(x *exchange.Exchange) Value { return digits(x.Response.Sent) },
	"bytes_sent":       func(x *exchange.Exchange) Value { return digits(x.Response.Sent) },
	"time_local":       func(x *exchange.Exchange) Value { return Text(second(x).local) },
	"time_iso8601":     func(x *exchange.Exchange) Value { return Text(second(x).iso) },
	"msec":             func(*exchange.Exchange) Value { return millis(time.Duration(time.Now().UnixNano())) },

	"ssl_server_name": ofTLS(func(s *tls.ConnectionState) Value { return Some(s.ServerName) }),
	"ssl_protocol":    ofTLS(func(s *tls.ConnectionState) Value { return Some(tlsname.OfVersion(s.Version)) }),
	"ssl_cipher":      ofTLS(func(s *tls.ConnectionState) Value { return Text(tlsname.OfSuite(s.CipherSuite)) }),

	"ssl_alpn_protocol":       ofTLS(func(s *tls.ConnectionState) Value { return Some(s.NegotiatedProtocol) }),
	"ssl_session_reused":      ofTLS(sessionReused),
	"ssl_client_verify":       clientVerify,
	"ssl_client_s_dn":         ofClient(func(c *x509.Certificate) string { return distinguished(c.RawSubject) }),
	"ssl_client_i_dn":         ofClient(func(c *x509.Certificate) string { return distinguished(c.RawIssuer) }),
	"ssl_client_serial":       ofClient(serial),
	"ssl_client_fingerprint":  ofClient(fingerprint),
	"ssl_client_v_start":      ofClient(func(c *x509.Certificate) string { return certTime(c.NotBefore) }),
	"ssl_client_v_end":        ofClient(func(c *x509.Certificate) string { return certTime(c.NotAfter) }),
	"ssl_client_v_remain":     ofClient(func(c *x509.Certificate) string { return daysLeft(c.NotAfter) }),
	"ssl_client_raw_cert":     ofClient(func(c *x509.Certificate) string { return pemOf(c) }),
	"ssl_client_escaped_cert": ofClient(func(c *x509.Certificate) string { return escapedCert(pemOf(c)) }),
}

// hostname is asked for when a name is compiled: it does not change while a process runs.
func hostname() Getter {
	name, _ := os.Hostname()
	return func(*exchange.Exchange) Value { return Some(name) }
}

func truth(b bool) Value {
	if b {
		return Text("true")
	}
	return Text("false")
}

func port(n uint16) Value {
	if n == 0 {
		return Value{}
	}
	return digits(int64(n))
}

// originForm takes scheme and authority off a request target.
func originForm(target string) string {
	if target == "" || target[0] == '/' {
		return target
	}
	_, rest, absolute := strings.Cut(target, "://")
	if !absolute {
		return target
	}
	switch i := strings.IndexAny(rest, "/?"); {
	case i < 0:
		return "/"
	case rest[i] == '?':
		return "/" + rest[i:]
	default:
		return rest[i:]
	}
}

// written is how the time is written for as long as it is the same second.
type written struct {
	unix       int64
	local, iso string
}

var lastSecond atomic.Pointer[written]

// second is that in which an exchange ended, or now.
func second(x *exchange.Exchange) *written {
	t := x.End
	if t.IsZero() {
		t = time.Now()
	}
	if s := lastSecond.Load(); s != nil && s.unix == t.Unix() {
		return s
	}
	s := &written{t.Unix(), t.Format("02/Jan/2006:15:04:05 -0700"), t.Format("2006-01-02T15:04:05-07:00")}
	lastSecond.Store(s)
	return s
}

func isArgs(x *exchange.Exchange) Value {
	if x.Request.RawQuery != "" {
		return Text("?")
	}
	return Text("")
}

func https(x *exchange.Exchange) Value {
	if x.Request.Scheme == "https" {
		return Text("on")
	}
	return Text("")
}

func requestLine(x *exchange.Exchange) Value {
	return Value{kind: isLine, line: &x.Request}
}

func requestLength(x *exchange.Exchange) Value {
	return digits(x.Request.HeadBytes + max(x.Request.Body.Length(), 0))
}

// contentLength is what the client announced; once the body was replaced, its length.
func contentLength(x *exchange.Exchange) Value {
	if b := &x.Request.Body; b.Changed() || b.Length() > 0 {
		return digits(b.Length())
	}
	return Some(x.Request.Header.Get("Content-Length"))
}

func remoteUser(x *exchange.Exchange) Value {
	scheme, text, _ := strings.Cut(x.Request.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return Value{}
	}
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(text, " "))
	if err != nil {
		return Value{}
	}
	user, _, ok := strings.Cut(string(raw), ":")
	if !ok {
		return Value{}
	}
	return Some(user)
}

func status(x *exchange.Exchange) Value {
	if x.Response.Status == 0 {
		return Text("000")
	}
	return digits(int64(x.Response.Status))
}

// attempts lists what one attempt after the other gave, "-" for those that gave nothing.
func attempts(one func(*exchange.Attempt) Value) Getter {
	return func(x *exchange.Exchange) Value {
		list := x.Facts.Attempts
		switch len(list) {
		case 0:
			return Value{}
		case 1:
			return one(&list[0])
		}
		b := make([]byte, 0, 64)
		for i := range list {
			if i > 0 {
				b = append(b, ", "...)
			}
			if v := one(&list[i]); v.IsNil() {
				b = append(b, '-')
			} else {
				b = v.Append(b)
			}
		}
		return Text(string(b))
	}
}

// attemptStatus is the status that came; of an attempt that only failed, 502.
func attemptStatus(a *exchange.Attempt) Value {
	switch {
	case a.Status != 0:
		return digits(int64(a.Status))
	case a.Err != nil:
		return Text("502")
	}
	return Value{}
}

// spent is a time that was measured.
func spent(d time.Duration) Value {
	if d == 0 {
		return Value{}
	}
	return millis(d)
}

var upstreamAddr = attempts(func(a *exchange.Attempt) Value { return Some(a.Addr) })

var upstreamStatus = attempts(attemptStatus)

var responseTime = attempts(func(a *exchange.Attempt) Value { return spent(a.Response) })

// apisixResponseTime is upstream_response_time; of AI requests the milliseconds until the
// last attempt was complete (spec/06 §A10).
func apisixResponseTime(x *exchange.Exchange) Value {
	n := len(x.Facts.Attempts)
	if n == 0 || !strings.HasPrefix(x.Facts.RequestType, "ai_") {
		return responseTime(x)
	}
	return digits(x.Facts.Attempts[n-1].Response.Milliseconds())
}
