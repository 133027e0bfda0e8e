package nginx

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// outline writes directives so that tests can compare them: name[arg|arg]{block}.
func outline(list []*Directive) string {
	var parts []string
	for _, d := range list {
		s := d.Name
		if len(d.Args) > 0 {
			s += "[" + strings.Join(d.Args, "|") + "]"
		}
		switch {
		case strings.HasSuffix(d.Name, luaBlock):
			s += fmt.Sprintf("{%q}", d.Lua)
		case d.Braces:
			s += "{" + outline(d.Block) + "}"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " ")
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"an empty text has no statements", " \n# nothing\n", ``},
		{"words end at white space and at a semicolon", "listen 1980;\n\tlisten\t1981 ssl ;", `listen[1980] listen[1981|ssl]`},
		{"blocks nest", "server { location / { return 200; } }", `server{location[/]{return[200]}}`},
		{"a brace ends a word", "location /a{return 200;}", `location[/a]{return[200]}`},
		{"a quote inside a word is part of it", `return 200 a"b';`, `return[200|a"b']`},
		{"quotes hold signs and white space", `return 200 "a; {b} # c";`, `return[200|a; {b} # c]`},
		{"the usual escapes are resolved", `return 200 "a\tb\"c\\d";`, "return[200|a\tb\"c\\d]"},
		{"other escapes stay, as regular expressions need them", `location ~ \.php$ { }`, `location[~|\.php$]{}`},
		{"${name} opens no block", `set $a x${b}y;`, `set[$a|x${b}y]`},
		{"a comment begins only where a word could", "set $a b#c; # d\n", `set[$a|b#c]`},
		{"an empty word is a word", `set $a '';`, `set[$a|]`},
		{"a block of Lua is kept as written", "content_by_lua_block { ngx.say('x') }", `content_by_lua_block{" ngx.say('x') "}`},
		{"braces in Lua's tables count", "content_by_lua_block {a={b={}}}", `content_by_lua_block{"a={b={}}"}`},
		{"braces in Lua's strings do not", `content_by_lua_block {a="}" b='\'}'}`, `content_by_lua_block{"a=\"}\" b='\\'}'"}`},
		{"braces in long brackets do not", "content_by_lua_block {a=[[}]] b=[==[ ]] } ]==]}", `content_by_lua_block{"a=[[}]] b=[==[ ]] } ]==]"}`},
		{"braces in Lua's comments do not", "content_by_lua_block {-- it's }\n--[[ } ]] x()}", `content_by_lua_block{"-- it's }\n--[[ } ]] x()"}`},
		{"an index is no long bracket", "content_by_lua_block {a[b[1]]={}}", `content_by_lua_block{"a[b[1]]={}"}`},
		{"set_by_lua_block takes a variable", "set_by_lua_block $a { return 1 }", `set_by_lua_block[$a]{" return 1 "}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.src)
			if err != nil {
				t.Fatal(err)
			}
			if s := outline(got); s != tt.want {
				t.Errorf("got  %s\nwant %s", s, tt.want)
			}
		})
	}
}

func TestParseCountsLines(t *testing.T) {
	list, err := Parse("a;\n\ncontent_by_lua_block {\n[[\n]]\n}\nb 'x\ny';\nc;")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range list {
		got = append(got, fmt.Sprint(d.Name, ":", d.Line))
	}
	if s := strings.Join(got, " "); s != "a:1 content_by_lua_block:3 b:7 c:9" {
		t.Error(s)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, src, want string }{
		{"a statement without an end", "listen 80", `line 1: unexpected end of file, expecting ";" or "}"`},
		{"a block without an end", "server {\n", `line 2: unexpected end of file, expecting "}"`},
		{"a brace too many", "a; }", `line 1: unexpected "}"`},
		{"a statement that the block's end cuts", "server { listen 80 }", `line 1: unexpected "}"`},
		{"a semicolon alone", ";", `line 1: unexpected ";"`},
		{"a block without a name", "{ }", `line 1: unexpected "{"`},
		{"a quote without an end", `a "b;`, `line 1: unexpected end of file in a quoted word`},
		{"a word right after a quoted one", `a "b"c;`, `line 1: unexpected 'c' after a quoted word`},
		{"Lua without an end", "content_by_lua_block { {}", `line 1: unexpected end of file, expecting "}" to end a block of Lua`},
		{"a long bracket without an end", "content_by_lua_block { [[ }", `line 1: unexpected end of file in a Lua string or comment`},
		{"blocks without a bottom", strings.Repeat("a {", maxDepth+2), `line 1: blocks are nested deeper than 64`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.src)
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %v, want a SyntaxError", err)
			}
			if err.Error() != tt.want {
				t.Errorf("got  %s\nwant %s", err, tt.want)
			}
		})
	}
}

// quote writes a word so that Parse reads it back.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func render(b *strings.Builder, list []*Directive) {
	for _, d := range list {
		b.WriteString(quote(d.Name))
		for _, a := range d.Args {
			b.WriteString(" " + quote(a))
		}
		switch {
		case strings.HasSuffix(d.Name, luaBlock) && d.Braces:
			b.WriteString(" {" + d.Lua + "}")
		case d.Braces:
			b.WriteString(" {")
			render(b, d.Block)
			b.WriteString("}")
		default:
			b.WriteString(";")
		}
		b.WriteString("\n")
	}
}

// What parses, parses again to the same when it is written with every word quoted.
func FuzzParse(f *testing.F) {
	for _, src := range []string{
		"server { listen 1980 ssl; location ~ ^/a(.*)$ { return 200 'ok'; } }",
		"content_by_lua_block { local a = [==[}]==] -- }\n ngx.say(\"}\") }",
		"set $a \"b\\\"c\\n\"; # d\n", "a ${b}c{}", "\\", "a '", "x_by_lua_block {'\n}",
	} {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		list, err := Parse(src)
		if err != nil {
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || syntax.Line < 1 {
				t.Fatalf("%v is no SyntaxError with a line", err)
			}
			return
		}
		var b strings.Builder
		render(&b, list)
		again, err := Parse(b.String())
		if err != nil {
			t.Fatalf("%q, written %q: %v", src, b.String(), err)
		}
		if x, y := outline(list), outline(again); x != y {
			t.Errorf("%q\nfirst  %s\nsecond %s", src, x, y)
		}
	})
}
