package variable_test

import (
	"strconv"
	"testing"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/variable"
)

func TestLinesLetTheCallerEscape(t *testing.T) {
	quote := func(b []byte, at int) []byte { return strconv.AppendQuote(b[:at], string(b[at:])) }
	for _, tt := range []struct{ name, format, want string }{
		{"values are escaped, the text is not", `"$arg_q" "$http_x_one"`, `""x y"" ""1""`},
		{"what has no value is missing", `$nope $http_x_none $consumer_name`, "null null null"},
		{"what is empty is missing, too", `${nope??} $is_args`, `null "?"`},
		{"what stands for a value is one", `${nope ?? none}`, `"none"`},
		{"there is nothing to escape in numbers", "$status $body_bytes_sent", "200 0"},
		{"text alone", `a "b"`, `a "b"`},
		{"nothing", "", ""},
		{"texts of all lengths", "1$status-234567$status-2345678$status-23456789$status$status", "1200-234567200-2345678200-23456789200200"},
		{"text at both ends", "<$request_method>", `<"POST">`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := request()
			x.Response.Status = 200
			l := variable.CompileLine(tt.format)
			for room := range 80 { // in what is left of the memory
				if got := string(l.Append(make([]byte, 0, room), x, "null", quote)); got != tt.want {
					t.Errorf("with %d bytes of room: got %s, want %s", room, got, tt.want)
				}
			}
		})
	}
}

// What is never escaped may have nothing in it that could need it.
func TestWhatIsNotEscapedIsPlain(t *testing.T) {
	full := request()
	full.Facts.Attempts = []exchange.Attempt{{Addr: "a:1", Status: 200, Response: 5}, {Addr: "b:2"}}
	for _, name := range append(variable.Names(), "http_x_one") {
		for _, x := range []*exchange.Exchange{full, request()} {
			escaped := false
			got := variable.CompileLine("$"+name).Append(nil, x, "", func(b []byte, _ int) []byte {
				escaped = true
				return b
			})
			for _, c := range got {
				switch {
				case escaped, '0' <= c && c <= '9', 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', c == '/', c == ':', c == '.', c == '+', c == '-', c == ' ', c == ',':
				default:
					t.Errorf("%s: %q is not escaped", name, got)
				}
			}
		}
	}
}
