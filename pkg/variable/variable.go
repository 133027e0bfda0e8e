package variable

import (
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
)

// Getter reads a variable of one exchange.
type Getter func(*exchange.Exchange) Value

// Compile returns the getter of a variable; false if there is no such variable, which
// then has no value in any exchange.
func Compile(name string) (Getter, bool) {
	if g, ok := plain[name]; ok {
		return g, true
	}
	for _, p := range prefixes {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok && rest != "" {
			return p.compile(rest)
		}
	}
	return nil, false
}

// prefixes are the families of variables. post_arg. comes before post_arg_ and arg_.
var prefixes = []struct {
	prefix  string
	compile func(rest string) (Getter, bool)
}{
	{"post_arg.", postPath},
	{"post_arg_", postArg},
	{"arg_", arg},
	{"cookie_", cookie},
	{"uri_param_", param},
	{"sent_http_", sentHeader},
	{"http_", header},
}

func arg(name string) (Getter, bool) {
	return func(x *exchange.Exchange) Value { return QueryValue(x.Request.RawQuery, name) }, true
}

// QueryValue returns the first value of an argument in a query, still without copying it
// when it needs no decoding.
func QueryValue(query, name string) Value {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		if key != name {
			if strings.IndexByte(key, '%') < 0 && strings.IndexByte(key, '+') < 0 {
				continue
			}
			if decoded, err := url.QueryUnescape(key); err != nil || decoded != name {
				continue
			}
		}
		if strings.IndexByte(value, '%') >= 0 || strings.IndexByte(value, '+') >= 0 {
			if decoded, err := url.QueryUnescape(value); err == nil {
				value = decoded
			}
		}
		return Text(value)
	}
	return Value{}
}

func header(name string) (Getter, bool) {
	// Both spellings: what a variable writes with "_" may stand with "-" on the wire.
	dashed := strings.ReplaceAll(name, "_", "-")
	return func(x *exchange.Exchange) Value {
		h := &x.Request.Header
		if h.Has(dashed) {
			return Text(h.Joined(dashed))
		}
		if dashed != name && h.Has(name) {
			return Text(h.Joined(name))
		}
		return Value{}
	}, true
}

func sentHeader(name string) (Getter, bool) {
	dashed := strings.ReplaceAll(name, "_", "-")
	return func(x *exchange.Exchange) Value {
		if h := &x.Response.Header; h.Has(dashed) {
			return Text(h.Joined(dashed))
		}
		return Value{}
	}, true
}

func cookie(name string) (Getter, bool) {
	return func(x *exchange.Exchange) Value {
		for _, f := range x.Request.Header.Fields() {
			if !exchange.EqualName(f.Name, "Cookie") {
				continue
			}
			for rest := f.Value; rest != ""; {
				var pair string
				pair, rest, _ = strings.Cut(rest, ";")
				key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
				if ok && key == name {
					return Text(value)
				}
			}
		}
		return Value{}
	}, true
}

func param(name string) (Getter, bool) {
	return func(x *exchange.Exchange) Value {
		for _, p := range x.Facts.Params {
			if p.Name == name {
				return Text(p.Value)
			}
		}
		return Value{}
	}, true
}

// plain are the variables without a family: the gateway's, then the web server's.
var plain = map[string]Getter{
	"method":         func(x *exchange.Exchange) Value { return Text(x.Request.Method) },
	"request_method": func(x *exchange.Exchange) Value { return Text(x.Request.Method) },

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

	"request_type":                    func(x *exchange.Exchange) Value { return Text(x.Facts.RequestType) },
	"request_llm_model":               func(x *exchange.Exchange) Value { return Text(x.Facts.LLM.RequestModel) },
	"llm_model":                       func(x *exchange.Exchange) Value { return Text(x.Facts.LLM.Model) },
	"llm_time_to_first_token":         func(x *exchange.Exchange) Value { return integer(x.Facts.LLM.FirstToken.Milliseconds()) },
	"llm_prompt_tokens":               func(x *exchange.Exchange) Value { return integer(x.Facts.LLM.PromptTokens) },
	"llm_completion_tokens":           func(x *exchange.Exchange) Value { return integer(x.Facts.LLM.CompletionTokens) },
	"llm_total_tokens":                func(x *exchange.Exchange) Value { return integer(x.Facts.LLM.TotalTokens) },
	"llm_cache_read_input_tokens":     func(x *exchange.Exchange) Value { return integer(x.Facts.LLM.CachedTokens) },
	"llm_cache_creation_input_tokens": func(x *exchange.Exchange) Value { return integer(x.Facts.LLM.CacheCreationTokens) },
	"llm_reasoning_tokens":            func(x *exchange.Exchange) Value { return integer(x.Facts.LLM.ReasoningTokens) },
	"llm_stream":                      func(x *exchange.Exchange) Value { return Text(strconv.FormatBool(x.Facts.LLM.Stream)) },
	"llm_has_tool_calls":              func(x *exchange.Exchange) Value { return Text(strconv.FormatBool(x.Facts.LLM.HasToolCalls)) },
	"llm_tool_count":                  func(x *exchange.Exchange) Value { return integer(int64(x.Facts.LLM.ToolCount)) },
	"llm_end_user_id":                 func(x *exchange.Exchange) Value { return Text(x.Facts.LLM.EndUserID) },
	"llm_content_risk_level":          func(*exchange.Exchange) Value { return Text("") },

	"uri":              func(x *exchange.Exchange) Value { return Text(x.Request.Path) },
	"document_uri":     func(x *exchange.Exchange) Value { return Text(x.Request.Path) },
	"request_uri":      func(x *exchange.Exchange) Value { return Text(x.Request.Target) },
	"real_request_uri": func(x *exchange.Exchange) Value { return Text(x.Request.Target) },
	"query_string":     func(x *exchange.Exchange) Value { return Some(x.Request.RawQuery) },
	"args":             func(x *exchange.Exchange) Value { return Some(x.Request.RawQuery) },
	"is_args": func(x *exchange.Exchange) Value {
		if x.Request.RawQuery != "" {
			return Text("?")
		}
		return Text("")
	},
	"host":            func(x *exchange.Exchange) Value { return Some(Host(x.Request.Host)) },
	"http_host":       func(x *exchange.Exchange) Value { return Some(x.Request.Host) },
	"hostname":        func(*exchange.Exchange) Value { return Text(machine) },
	"server_name":     func(x *exchange.Exchange) Value { return Text("_") },
	"scheme":          func(x *exchange.Exchange) Value { return Text(x.Request.Scheme) },
	"server_protocol": func(x *exchange.Exchange) Value { return Text(x.Request.Proto) },
	"https": func(x *exchange.Exchange) Value {
		if x.Request.Scheme == "https" {
			return Text("on")
		}
		return Text("")
	},
	"remote_addr":        func(x *exchange.Exchange) Value { return Text(x.Request.Remote.Addr().String()) },
	"realip_remote_addr": func(x *exchange.Exchange) Value { return Text(x.Request.Remote.Addr().String()) },
	"remote_port":        func(x *exchange.Exchange) Value { return integer(int64(x.Request.Remote.Port())) },
	"server_addr":        func(x *exchange.Exchange) Value { return Text(x.Request.Local.Addr().String()) },
	"server_port":        func(x *exchange.Exchange) Value { return integer(int64(x.Request.Local.Port())) },
	"remote_user":        remoteUser,
	"content_type":       func(x *exchange.Exchange) Value { return headerOr(x, "Content-Type") },
	"content_length":     contentLength,
	"request": func(x *exchange.Exchange) Value {
		return Text(x.Request.Method + " " + x.Request.Target + " " + x.Request.Proto)
	},
	"request_line": func(x *exchange.Exchange) Value {
		return Text(x.Request.Method + " " + x.Request.Target + " " + x.Request.Proto)
	},
	"request_id":        func(x *exchange.Exchange) Value { return Text(x.ID) },
	"apisix_request_id": func(x *exchange.Exchange) Value { return Text(x.ID) },
	"request_length": func(x *exchange.Exchange) Value {
		return integer(x.Request.HeadBytes + max(x.Request.Body.Length(), 0))
	},
	"status":          func(x *exchange.Exchange) Value { return Text(threeDigits(x.Response.Status)) },
	"body_bytes_sent": func(x *exchange.Exchange) Value { return integer(x.Response.Sent) },
	"bytes_sent":      func(x *exchange.Exchange) Value { return integer(x.Response.Sent) },
	"request_time":    func(x *exchange.Exchange) Value { return seconds(time.Since(x.Start)) },
	"time_local":      func(*exchange.Exchange) Value { return Text(time.Now().Format("02/Jan/2006:15:04:05 -0700")) },
	"time_iso8601":    func(*exchange.Exchange) Value { return Text(time.Now().Format("2006-01-02T15:04:05-07:00")) },
	"msec": func(*exchange.Exchange) Value {
		return Text(strconv.FormatFloat(float64(time.Now().UnixMilli())/1000, 'f', 3, 64))
	},
	"upstream_scheme":          func(x *exchange.Exchange) Value { return Some(x.Facts.UpstreamScheme) },
	"upstream_host":            func(x *exchange.Exchange) Value { return Some(x.Facts.UpstreamHost) },
	"upstream_uri":             func(x *exchange.Exchange) Value { return Some(x.Facts.UpstreamURI) },
	"upstream_addr":            attempts(func(b []byte, a *exchange.Attempt) []byte { return append(b, a.Addr...) }),
	"upstream_status":          attempts(func(b []byte, a *exchange.Attempt) []byte { return append(b, threeDigits(a.Status)...) }),
	"upstream_response_time":   attempts(func(b []byte, a *exchange.Attempt) []byte { return appendSeconds(b, a.Response) }),
	"upstream_header_time":     attempts(func(b []byte, a *exchange.Attempt) []byte { return appendSeconds(b, a.Header) }),
	"upstream_response_length": attempts(func(b []byte, a *exchange.Attempt) []byte { return strconv.AppendInt(b, a.Length, 10) }),
	"apisix_upstream_response_time": func(x *exchange.Exchange) Value {
		var total time.Duration
		for i := range x.Facts.Attempts {
			total += x.Facts.Attempts[i].Response
		}
		if total == 0 {
			return Value{}
		}
		return integer(total.Milliseconds())
	},
}

// machine is the name of this host; it does not change while a process runs.
var machine, _ = os.Hostname()

func integer(n int64) Value { return Text(strconv.FormatInt(n, 10)) }

func threeDigits(status int) string {
	if status == 0 {
		return "000"
	}
	return strconv.Itoa(status)
}

func seconds(d time.Duration) Value { return Text(string(appendSeconds(nil, d))) }

func appendSeconds(b []byte, d time.Duration) []byte {
	return strconv.AppendFloat(b, float64(d.Milliseconds())/1000, 'f', 3, 64)
}

func attempts(one func([]byte, *exchange.Attempt) []byte) Getter {
	return func(x *exchange.Exchange) Value {
		list := x.Facts.Attempts
		if len(list) == 0 {
			return Value{}
		}
		b := make([]byte, 0, 24)
		for i := range list {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = one(b, &list[i])
		}
		return Text(string(b))
	}
}

func headerOr(x *exchange.Exchange, name string) Value { return Some(x.Request.Header.Get(name)) }

func contentLength(x *exchange.Exchange) Value {
	if n := x.Request.Body.Length(); n > 0 {
		return integer(n)
	}
	return Some(x.Request.Header.Get("Content-Length"))
}

func remoteUser(x *exchange.Exchange) Value {
	user, _, ok := basicAuth(x.Request.Header.Get("Authorization"))
	if !ok {
		return Value{}
	}
	return Some(user)
}

// Host is the host of a Host header: without its port, in lower case. It allocates only
// when there are upper-case letters.
func Host(h string) string {
	if i := strings.LastIndexByte(h, ':'); i >= 0 && i > strings.LastIndexByte(h, ']') {
		h = h[:i]
	}
	return strings.ToLower(strings.TrimSuffix(h, "."))
}

// Names lists the variables that stand alone.
func Names() []string {
	names := make([]string, 0, len(plain))
	for name := range plain {
		names = append(names, name)
	}
	return names
}
