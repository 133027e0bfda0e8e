package nginx

import (
	"encoding/json"
	"fmt"
	"strings"
)

// An accessLog is where a location's requests are written, and how.
type accessLog struct {
	file   string
	format string
	when   template // if=; empty: always
	line   int
}

type logFormat struct {
	text   template
	escape func(string) string
}

func combinedFormat() *logFormat {
	t, err := compile(`$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`)
	if err != nil {
		panic(err) // a constant
	}
	return &logFormat{t, escapeLog}
}

func logRules() map[string]rule {
	return map[string]rule{
		"access_log": {inAnyHTTP | inIf | inStream | inStreamServer, 1, -1, statement, loadAccessLog},
		"log_format": {inHTTP | inStream, 2, -1, statement, loadLogFormat},
	}
}

func loadAccessLog(s *scope, d *Directive) error {
	if s.loc == nil {
		return nil // stream's: there is no access log of it here
	}
	if d.Args[0] == "off" {
		s.loc.settings.accessLogs = nil
		return nil
	}
	a := accessLog{file: d.Args[0], format: "combined", line: d.Line}
	for i, arg := range d.Args[1:] {
		condition, ok := strings.CutPrefix(arg, "if=")
		switch {
		case ok:
			when, err := compile(condition)
			if err != nil {
				return err
			}
			a.when = when
		case i == 0:
			a.format = arg
		}
	}
	add(s, d.Name, &s.loc.settings.accessLogs, a)
	return nil
}

// logEscapes are the values of log_format's escape.
var logEscapes = map[string]func(string) string{
	"default": escapeLog,
	"none":    func(s string) string { return s },
	"json": func(s string) string {
		b, _ := json.Marshal(s) // a string cannot fail
		return string(b[1 : len(b)-1])
	},
}

func loadLogFormat(s *scope, d *Directive) error {
	f := &logFormat{escape: escapeLog}
	parts := d.Args[1:]
	if how, ok := strings.CutPrefix(parts[0], "escape="); ok {
		if f.escape, ok = logEscapes[how]; !ok {
			return d.refuse("unknown escape %q", how)
		}
		parts = parts[1:]
	}
	text, err := compile(strings.Join(parts, ""))
	f.text = text
	if s.in == inHTTP {
		s.config.formats[d.Args[0]] = f
	}
	return err
}

// escapeLog writes what could forge a line as \xHH, and nothing as a dash.
func escapeLog(s string) string {
	if s == "" {
		return "-"
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == '"' || c == '\\' || c < 0x20 || c > 0x7e {
			fmt.Fprintf(&b, `\x%02X`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (f *logFormat) line(r *request) string {
	var b strings.Builder
	for _, p := range f.text {
		if p.variable == "" {
			b.WriteString(p.text)
			continue
		}
		v, _ := r.variable(p.variable)
		b.WriteString(f.escape(v))
	}
	return b.String()
}

// logAccess writes the request to the logs of the location that it ended in.
func (r *request) logAccess() {
	if r.runtime.Access == nil {
		return
	}
	for _, a := range r.loc.settings.accessLogs {
		if when := a.when.expand(r); a.when != nil && (when == "" || when == "0") {
			continue
		}
		r.runtime.Access(a.file, r.config.formats[a.format].line(r))
	}
}
