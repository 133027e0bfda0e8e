package variable

import (
	"encoding/binary"
	"strconv"

	"github.com/gosix/gosix/pkg/exchange"
)

// Line is a template for logs: what stands between two variables and how each is written is
// laid out once, and no Value is made of what logs mostly have. It is immutable and safe for
// concurrent use.
type Line struct {
	fields []field
	end    string // behind the last field
}

// field is a variable with the text in front of it.
type field struct {
	before string
	word   uint64 // before, as eight bytes in memory are read, if it has no more
	writer
}

// writer writes a variable of one exchange; nothing: it has no value, or an empty one.
type writer struct {
	write func(b []byte, x *exchange.Exchange) []byte
	plain bool // what is written is letters, digits and the like, in which no format has anything to escape
}

// CompileLine compiles a text as CompileTemplate does.
func CompileLine(text string) *Line {
	l := &Line{}
	for _, p := range CompileTemplate(text).parts {
		if p.get == nil {
			l.end += p.text
			continue
		}
		var word [8]byte
		copy(word[:], l.end)
		l.fields = append(l.fields, field{l.end, binary.LittleEndian.Uint64(word[:]), p.writer()})
		l.end = ""
	}
	return l
}

// writer is what writes the variable of a part.
func (p *part) writer() writer {
	if !p.fallback {
		if w, ok := writers[p.name]; ok {
			return w
		}
		if name, ok := ofHeader(p.name); ok {
			return headerWriter(name)
		}
	}
	return writer{write: func(b []byte, x *exchange.Exchange) []byte { return p.value(x).Append(b) }}
}

// Append appends the line of an exchange. missing stands for variables that have no value or
// an empty one. What a variable has written in b[at:] is escaped by escape, which returns b
// with that, unless it is such that no format has anything to escape in it.
func (l *Line) Append(b []byte, x *exchange.Exchange, missing string, escape func(b []byte, at int) []byte) []byte {
	for i := range l.fields {
		f := &l.fields[i]
		at := len(b) + len(f.before)
		if len(f.before) <= 8 && cap(b)-len(b) >= 8 { // most are shorter than what it takes to copy them
			binary.LittleEndian.PutUint64(b[len(b):len(b)+8], f.word)
			b = b[:at]
		} else {
			b = append(b, f.before...)
		}
		switch b = f.write(b, x); {
		case len(b) == at:
			b = append(b, missing...)
		case !f.plain:
			b = escape(b, at)
		}
	}
	return append(b, l.end...)
}

// words is the writer of a variable that is a text.
func words(read func(*exchange.Exchange) string) writer {
	return writer{write: func(b []byte, x *exchange.Exchange) []byte { return append(b, read(x)...) }}
}

// headerWriter is that of http_NAME. The name is underscored.
func headerWriter(name string) writer {
	name, separator := headerNamed(name)
	if name == "host" {
		return writers["http_host"]
	}
	return writer{write: func(b []byte, x *exchange.Exchange) []byte {
		all, _ := together(&x.Request.Header, name, separator)
		return append(b, all...)
	}}
}

// writers are those of what logs mostly have.
var writers = map[string]writer{
	"route_id":          words(func(x *exchange.Exchange) string { return x.Facts.RouteID }),
	"route_name":        words(func(x *exchange.Exchange) string { return x.Facts.RouteName }),
	"service_id":        words(func(x *exchange.Exchange) string { return x.Facts.ServiceID }),
	"matched_uri":       words(func(x *exchange.Exchange) string { return x.Facts.MatchedURI }),
	"consumer_name":     words(func(x *exchange.Exchange) string { return x.Facts.ConsumerName }),
	"balancer_ip":       words(func(x *exchange.Exchange) string { return x.Facts.BalancerIP }),
	"request_type":      words(func(x *exchange.Exchange) string { return x.Facts.RequestType }),
	"request_llm_model": words(func(x *exchange.Exchange) string { return x.Facts.LLM.RequestModel }),
	"llm_model":         words(func(x *exchange.Exchange) string { return x.Facts.LLM.Model }),
	"request_method":    words(func(x *exchange.Exchange) string { return x.Request.Method }),
	"uri":               words(func(x *exchange.Exchange) string { return x.Request.Path }),
	"scheme":            words(func(x *exchange.Exchange) string { return x.Request.Scheme }),
	"server_protocol":   words(func(x *exchange.Exchange) string { return x.Request.Proto }),

	"upstream_scheme": {write: func(b []byte, x *exchange.Exchange) []byte { return append(b, x.Facts.UpstreamScheme...) }},
	"upstream_host":   {write: func(b []byte, x *exchange.Exchange) []byte { return append(b, x.Facts.UpstreamHost...) }},
	"upstream_uri":    {write: func(b []byte, x *exchange.Exchange) []byte { return append(b, x.Facts.UpstreamURI...) }},
	"http_host":       {write: func(b []byte, x *exchange.Exchange) []byte { return append(b, x.Request.Host...) }},
	"remote_addr":     {write: writeRemote},
	"remote_user":     {write: writeUser},
	"request":         {write: writeRequest},
	"request_line":    {write: writeRequest},
	"upstream_addr": {write: func(b []byte, x *exchange.Exchange) []byte {
		if list := x.Facts.Attempts; len(list) == 1 {
			return append(b, list[0].Addr...)
		}
		return upstreamAddr(x).Append(b)
	}},

	"apisix_request_id": {writeID, true},
	"request_id":        {writeID, true},
	"time_local":        {func(b []byte, x *exchange.Exchange) []byte { return append(b, second(x).local...) }, true},
	"time_iso8601":      {func(b []byte, x *exchange.Exchange) []byte { return append(b, second(x).iso...) }, true},
	"status": {func(b []byte, x *exchange.Exchange) []byte {
		if n := x.Response.Status; n != 0 {
			return appendStatus(b, n)
		}
		return append(b, "000"...)
	}, true},
	"body_bytes_sent": {func(b []byte, x *exchange.Exchange) []byte { return strconv.AppendInt(b, x.Response.Sent, 10) }, true},
	"request_time":    {func(b []byte, x *exchange.Exchange) []byte { return appendMillis(b, max(x.Took().Milliseconds(), 0)) }, true},
	"upstream_status": {func(b []byte, x *exchange.Exchange) []byte {
		if list := x.Facts.Attempts; len(list) == 1 && list[0].Status != 0 {
			return appendStatus(b, list[0].Status)
		}
		return upstreamStatus(x).Append(b)
	}, true},
	"upstream_response_time": {func(b []byte, x *exchange.Exchange) []byte {
		if list := x.Facts.Attempts; len(list) == 1 && list[0].Response != 0 {
			return appendMillis(b, max(list[0].Response.Milliseconds(), 0))
		}
		return responseTime(x).Append(b)
	}, true},
}

func writeID(b []byte, x *exchange.Exchange) []byte { return append(b, x.ID...) }

// writeRemote writes the address as the engine wrote it, once for a connection.
func writeRemote(b []byte, x *exchange.Exchange) []byte {
	if x.Request.RemoteIP != "" && x.Request.Remote.IsValid() {
		return append(b, x.Request.RemoteIP...)
	}
	return address(x.Request.Remote.Addr()).Append(b)
}

func writeUser(b []byte, x *exchange.Exchange) []byte {
	if !x.Request.Header.Has("Authorization") {
		return b
	}
	return remoteUser(x).Append(b)
}

func writeRequest(b []byte, x *exchange.Exchange) []byte {
	q := &x.Request
	b = append(append(b, q.Method...), ' ')
	b = append(append(b, q.Target...), ' ')
	return append(b, q.Proto...)
}

// appendStatus writes a number that mostly has three digits.
func appendStatus(b []byte, n int) []byte {
	if n < 100 || n > 999 {
		return strconv.AppendInt(b, int64(n), 10)
	}
	return append(b, '0'+byte(n/100), '0'+byte(n/10%10), '0'+byte(n%10))
}
