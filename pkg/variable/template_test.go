package variable_test

import (
	"testing"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/variable"
)

func TestTemplates(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string
		resolved         int
	}{
		{"a text alone", "text", "text", 0},
		{"nothing", "", "", 0},
		{"one variable", "$arg_n", "7", 1},
		{"one variable without a value", "$arg_z", "", 0},
		{"two variables", "$uri$remote_addr", "/a b10.1.2.3", 2},
		{"text between variables", "<$arg_n-$server_port>", "<7-9080>", 2},
		{"braces end a name", "${arg_n}x", "7x", 1},
		{"a name ends at what is no letter", "$arg_n.x", "7.x", 1},
		{"an unknown variable is absent", "$nope.$arg_n", ".7", 1},
		{"an empty variable counts as resolved", "$https", "", 1},
		{"a dollar alone stands for itself", "a$", "a$", 0},
		{"a dollar before no name stands for itself", "$ $-$$arg_n", "$ $-$7", 1},
		{"an open brace stands for itself", "${arg_n", "${arg_n", 0},
		{"empty braces stand for themselves", "${}", "${}", 0},
		{"braces may have room in them", "${ arg_n }", "7", 1},
		{"a text stands for what has no value", "${arg_z ?? 30}s", "30s", 1},
		{"a text alone stands for what has no value", "${arg_z??a b}", "a b", 1},
		{"a text stands for an unknown variable", "<${nope ?? -}>", "<->", 1},
		{"a value comes before the text", "${arg_n ?? 30}", "7", 1},
		{"a text that is empty", "${arg_z ??}", "", 1},
		{"a text for no name stands for itself", "${ ?? 30}", "${ ?? 30}", 0},
		{"braces around what is no name stand for themselves", "${a b} $arg_n", "${a b} 7", 1},
		{"a path without braces", "$post_arg.a.b.", "c.", 1},
		{"a path in braces", "${post_arg.a.b}!", "c!", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			x := request()
			x.Request.Body.Set([]byte(`{"a":{"b":"c"}}`))
			tmpl := variable.CompileTemplate(tt.text)
			got, resolved := tmpl.Resolve(x)
			if got != tt.want || resolved != tt.resolved {
				t.Errorf("Resolve: got %q with %d resolved, want %q with %d", got, resolved, tt.want, tt.resolved)
			}
			if got := string(tmpl.Append([]byte("> "), x)); got != "> "+tt.want {
				t.Errorf("Append: got %q, want %q", got, "> "+tt.want)
			}
		})
	}
}

func TestMissingVariablesHaveATextOfTheirOwn(t *testing.T) {
	x := request()
	plain := variable.CompileTemplate("$arg_z|$arg_n|$nope")
	if got := string(plain.WithMissing("-").Append(nil, x)); got != "-|7|-" {
		t.Errorf("got %q, want %q", got, "-|7|-")
	}
	if got := string(plain.Append(nil, x)); got != "|7|" {
		t.Errorf("the first template changed: got %q", got)
	}
	if got, n := variable.CompileTemplate("$nope").WithMissing("-").Resolve(x); got != "-" || n != 0 {
		t.Errorf("one variable: got %q with %d resolved", got, n)
	}
}

// What lines write is what getters say.
func TestLinesAreWhatTheirVariablesSay(t *testing.T) {
	full, empty := request(), &exchange.Exchange{}
	full.Facts.Attempts = []exchange.Attempt{{Addr: "a:1"}, {Addr: "b:2"}}
	single := request()
	single.Facts.Attempts = []exchange.Attempt{{Addr: "a:1"}}
	served := request()
	served.Facts.Attempts = []exchange.Attempt{{Addr: "a:1", Status: 200, Response: 1234567 * time.Microsecond}}
	single.Request.RemoteIP = single.Request.Remote.Addr().Unmap().String()
	for _, x := range []*exchange.Exchange{full, single, served, empty} {
		x.End = time.Unix(1700000000, 0)
		for _, name := range append(variable.Names(), "http_x_one", "http_X-One", "http_host", "http_Host", "http_cookie", "http_none") {
			get, _ := variable.Compile(name)
			if name == "msec" || get == nil {
				continue
			}
			same := func(b []byte, _ int) []byte { return b }
			if got, want := string(variable.CompileLine("${"+name+"}").Append(nil, x, "", same)), get(x).String(); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
	}
}
