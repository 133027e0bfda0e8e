package perl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// programs are worth what perl 5.36 says they are, as show writes it.
var programs = []struct{ program, want string }{
	{`1 + 2 * 3`, "7"},
	{`"a" . "b" x 3 . "c"`, "abbbc"},
	{`("ab" x 2) . 1`, "abab1"},
	{`10 / 4`, "2.5"},
	{`2 ** 10`, "1024"},
	{`-7 % 3`, "2"},
	{`1e21`, "1e+21"},
	{`0.1 + 0.2`, "0.3"},
	{`"5 apples" + 2`, "7"},
	{`my $x = 3; "$x apples, ${x}s, $x-1"`, "3 apples, 3s, 3-1"},
	{`my @a = (1,2,3); "@a $a[0] $a[-1] $#a"`, "1 2 3 1 3 2"},
	{`my %h = (k => 'v', 'a b' => 2); "$h{k} $h{'a b'}"`, "v 2"},
	{`my $r = [1,[2,3]]; "$r->[1][0] $$r[0] @{$r->[1]}"`, "2 1 2 3"},
	{"\"tab\\there \\x41\\x{42}\\101\\e[0m \\$ \\@ \\\\ \\\"\"", "tab\\x09here ABA\\x1b[0m $ @ \\x5c \""},
	{`'a\'b\\c\n'`, "a'b\\x5cc\\x5cn"},
	{`q{a {nested} b}`, "a {nested} b"},
	{`"\Qa.b\E+ \Uup\E \LLOW\E \ufirst"`, "a\\x5c.b+ UP low First"},
	{`my $p = 'a.b'; "a.b axb" =~ /^\Q$p\E axb$/ ? 1 : 0`, "1"},
	{`"@{[ 2 * 3 ]} and @{[ map { $_ * 2 } 1..3 ]}"`, "6 and 2 4 6"},
	{`join(",", map { $_ * 2 } grep { $_ % 2 } 1..5)`, "2,6,10"},
	{`join ",", sort { $b <=> $a } (3, 10, 2)`, "10,3,2"},
	{`join ",", reverse 1..3`, "3,2,1"},
	{`sprintf("%05.2f|%-5s|%5s|%x|%03d|%%", 3.14159, "ab", "cd", 255, 7)`, "03.14|ab   |   cd|ff|007|%"},
	{`my $s = "hello world"; $s =~ s/o/0/g; $s`, "hell0 w0rld"},
	{`my $s = "hello"; (my $t = $s) =~ s/l+/L/; "$s $t"`, "hello heLo"},
	{`my $s = "a-b-c"; my $n = ($s =~ s/-/+/g); "$n $s"`, "2 a+b+c"},
	{`"2024-05" =~ /(\d+)-(\d+)/; "$1/$2 $&"`, "2024/05 2024-05"},
	{`my ($y, $m) = "2024-05" =~ /(\d+)-(\d+)/; $m . $y`, "052024"},
	{`join "|", "a1b22c" =~ /\d+/g`, "1|22"},
	{`my $s = "x"; $s =~ s/(x)/<$1>/; $s`, "<x>"},
	{`my $s = "3 4"; $s =~ s/(\d)/$1*2/ge; $s`, "6 8"},
	{`join "|", split /,/, "a,b,,c,,"`, "a|b||c"},
	{`join "|", split /,/, "a,b,,c,,", -1`, "a|b||c||"},
	{`join "|", split(' ', "  a b  c ")`, "a|b|c"},
	{`join "|", split //, "abc"`, "a|b|c"},
	{`join "|", split /(,)/, "a,b"`, "a|,|b"},
	{`my $u; $u // "default"`, "default"},
	{`0 || "zero" `, "zero"},
	{`"" // "x"`, ""},
	{`my $x = 0; $x ||= 5; $x`, "5"},
	{`my $x; $x .= "a"; $x .= "b"; $x`, "ab"},
	{`my $n = 5; my $r = ""; for my $i (1..3) { next if $i == 2; $r .= $i } $r`, "13"},
	{`my $r = ""; foreach my $w (qw(a b c)) { last if $w eq 'c'; $r .= $w } $r`, "ab"},
	{`my $i = 0; while ($i < 3) { $i++ } $i`, "3"},
	{`if (0) { "yes" } elsif (1) { "mid" } else { "no" }`, "mid"},
	{`unless (0) { "ran" }`, "ran"},
	{`my $f = sub { my ($a, $b) = @_; return $a + $b }; $f->(2, 3)`, "5"},
	{`sub add1 { my $x = shift; $x + 1 } add1(4)`, "5"},
	{`my @a = (1,2); push @a, 3, 4; my $p = pop @a; my $s = shift @a; "$p $s @a"`, "4 1 2 3"},
	{`my %h = (b => 1, a => 2); join ",", map { "$_=$h{$_}" } sort keys %h`, "a=2,b=1"},
	{`exists {a => 1}->{a} ? "y" : "n"`, "y"},
	{`my %h = (a => 1); delete $h{a}; exists $h{a} ? "y" : "n"`, "n"},
	{`defined(undef) ? 1 : 0`, "0"},
	{`my $s = "line\n"; chomp $s; "[$s]"`, "[line]"},
	{`my $s = "line\n"; chomp(my $t = $s); "[$t]"`, "[line]"},
	{`length("abc") . uc("x") . lc("Y") . ucfirst("z") . lcfirst("Q")`, "3XyZq"},
	{`substr("abcdef", 2, 3) . substr("abcdef", -2)`, "cdeef"},
	{`index("hello", "l") . rindex("hello", "l") . index("x","y")`, "23-1"},
	{`eval { die "oops\n" }; "got $@"`, "got oops\\x0a"},
	{`eval { 42 } . ($@ eq "" ? "ok" : "bad")`, "42ok"},
	{`my $v = do { 1; 2 }; $v`, "2"},
	{`my ($a, @rest) = (1, 2, 3); "$a:@rest"`, "1:2 3"},
	{`my ($x, $y) = (1, 2); ($x, $y) = ($y, $x); "$x$y"`, "21"},
	{`(1,2,3)[1]`, "2"},
	{`my @a = (3,4); scalar(@a) . "-" . @a`, "2-2"},
	{`"abc" lt "abd" ? "less" : "more"`, "less"},
	{`1 <=> 2`, "-1"},
	{`"b" cmp "a"`, "1"},
	{`not 0`, "1"},
	{`!1 . "x"`, "x"},
	{`"a" eq 'a' && "b" ne "a"`, "1"},
	{`my $x = 7; my $h = <<"EOT"; $h . "after"
x is $x
  kept \$y
EOT
`, "x is 7\\x0a  kept $y\\x0aafter"},
	{`my $h = <<~EOT;
    in
      dent
    EOT
$h
`, "in\\x0a  dent\\x0a"},
	{`# comment
1; # trailing`, "1"},
	{`{ a => 1, b => [1,2] }`, "{a=>1,b=>[1,2]}"},
	{`[1, 'two', qr/x/i]`, "[1,two,(?^i:x)]"},
	{`qr/a\/b{2}/ms`, "(?^ms:a/b{2})"},
	{`qr{a/b}x`, "(?^x:a/b)"},
	{`qr!a\!b!`, "(?^:a!b)"},
	{`my $r = qr/b+/i; "aBBc" =~ /a${r}c/ ? "m" : "n"`, "m"},
	{`"foo\nbar" =~ /^bar$/m ? 1 : 0`, "1"},
	{`"foo\nbar" =~ /foo.bar/ ? 1 : 0`, "0"},
	{`"foo\nbar" =~ /foo.bar/s ? 1 : 0`, "1"},
	{`"x\n" =~ /x$/ ? 1 : 0`, "1"},
	{`"x\n" =~ /x\z/ ? 1 : 0`, "0"},
	{"\"\\xe9\" =~ /\\w/ ? 1 : 0", "0"},
	{`"a b" =~ /a [ ] b/x ? 1 : 0`, "1"},
	{`"a1" =~ /^[[:alpha:]]\d$/ ? 1 : 0`, "1"},
	{`"a-" =~ /^[\w-]+$/ ? 1 : 0`, "1"},
	{`"price: 5" =~ /(?<n>\d+)/; $+{n}`, "5"},
	{`"ab" =~ /(?i)AB/ ? 1 : 0`, "1"},
	{"\"\xc3\xa9\" =~ /^..$/ ? 1 : 0", "1"},
	{`"a{b" =~ /a{b/ ? 1 : 0`, "1"},
	{`"$ENV{NOPE_X}" . "y"`, "y"},
	{`my $s = 'a$b@c'; $s`, "a$b@c"},
	{`"me\@example.com costs 5\$"`, "me@example.com costs 5$"},
	{`1 if 1`, "1"},
	{`my $t = "5 x 3"; $t`, "5 x 3"},
	{`"a"x3`, "aaa"},
	{`[1,2,3,]`, "[1,2,3]"},
	{`{ 'k' , 'v' }`, "{k=>v}"},
	{`join(",", (1) x 3)`, "1,1,1"},
	{`my @l = (0) x 3; "@l"`, "0 0 0"},
	{`my $i = 5; $i++; ++$i; $i--; $i`, "6"},
	{`my $x = "a"; my $y = $x eq "a" ? "A" : $x eq "b" ? "B" : "C"; $y`, "A"},
	{`ref([]) . ref({}) . ref(sub {}) . ref(qr/x/) . ref("")`, "ARRAYHASHCODERegexp"},
	{`"1.0" + 0`, "1"},
	{`1_000 + 0x1f + 0b11 + 017`, "1049"},
	{`1/3`, "0.333333333333333"},
	{`1000000 * 1000000`, "1000000000000"},
	{`10 ** 20`, "1e+20"},
	{`"abc" =~ m#b# and "yes"`, "yes"},
	{`$_ = "topic"; /top/ ? 1 : 0`, "1"},
	{`my $str = "aXbXc"; my @p = split("X", $str); scalar @p`, "3"},
	{`my $c = () = "aXbXc" =~ /X/g; $c`, "2"},
	{`"\t|\0|\cA|"`, "\\x09|\\x00|\\x01|"},
	{`"a\
b"`, "a\\x0ab"},
}

// show writes values so that a difference is seen: bytes that do not print as \xNN.
func show(values ...Value) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = showOne(v)
	}
	return strings.Join(texts, ";")
}

func showOne(v Value) string {
	var parts []string
	switch v := v.(type) {
	case nil:
		return "undef"
	case *Array:
		for _, e := range v.Elems {
			parts = append(parts, showOne(e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case *Hash:
		for _, k := range v.Keys() {
			e, _ := v.Get(k)
			parts = append(parts, showOne(k)+"=>"+showOne(e))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	var b strings.Builder
	for _, c := range []byte(Text(v)) {
		if c < 0x20 || c > 0x7e || c == '\\' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func TestProgramsAreWorthWhatTheyAreInPerl(t *testing.T) {
	for _, tt := range programs {
		t.Run(tt.program, func(t *testing.T) {
			got, err := New(Options{}).Eval(tt.program, 1)
			if err != nil {
				t.Fatal(err)
			}
			if show(got...) != tt.want {
				t.Errorf("got %s, want %s", show(got...), tt.want)
			}
		})
	}
}

func TestWhatIsNotKnownIsNamedWithItsLine(t *testing.T) {
	for program, want := range map[string]string{
		"1;\nsystem('ls')":           "line 2: system",
		"1;\n\n`ls`":                 "line 3: the command `ls`",
		"my $x = \"a\nb\";\ntr/a/b/": "line 3: tr",
		"my $t = <<X;\na\nX\nfork()": "line 4: fork",
		"open my $f, '>', 'x'":       "line 1: open",
		"frobnicate(1)":              "line 1: the function frobnicate",
		"\"a\" [error]":              "line 1: syntax",
		"qr/a++/":                    "line 1: a possessive quantifier",
		"qr/\\p{Lu}/":                `line 1: \p`,
		"my $x = 'a' x 1e9":          "line 1: a text of",
		"sub f { f() } f()":          "line 1: a recursion",
		"while (1) { }":              "a program of more than",
		"$_->[0]{x}[1] =~ /a/g; 1":   "line 1: a match with /g",
	} {
		t.Run(program, func(t *testing.T) {
			_, err := New(Options{}).Eval(program, 1)
			var unsupported *UnsupportedError
			if !errors.As(err, &unsupported) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s …", err, want)
			}
		})
	}
}

func TestPerlsOwnErrorsAreExceptions(t *testing.T) {
	for program, want := range map[string]string{
		"die 'no'":              "no at t.t line 1.",
		"die \"no\\n\"":         "no",
		"mmm":                   `Bareword "mmm" not allowed`,
		"$undeclared":           `Global symbol "$undeclared"`,
		"my $x; $x->get":        "Can't call method",
		"1 / 0":                 "division by zero",
		"my $x = 'a'; @{$x}":    "Not an ARRAY reference",
		"qr/(/":                 "regex",
		"my $s = {}; $s->('x')": "Not a CODE reference",
	} {
		t.Run(program, func(t *testing.T) {
			_, err := New(Options{Name: "t.t"}).Eval(program, 1)
			var died *DieError
			if !errors.As(err, &died) || !strings.Contains(died.Text, want) {
				t.Errorf("got %v, want %s …", err, want)
			}
		})
	}
}

func TestEvalSeesThePackageVariablesOfTheProgram(t *testing.T) {
	in := New(Options{})
	if err := in.Run("use strict;\nour $config = <<_EOC_;\nkey: \\$x\n_EOC_\nmy $mine = 1;\n__END__\nnot Perl", 1); err != nil {
		t.Fatal(err)
	}
	got, err := in.Eval("$::config . $main::config", 1)
	if err != nil || show(got...) != `key: $x\x0akey: $x\x0a` {
		t.Errorf("got %s, %v", show(got...), err)
	}
	if _, err := in.Eval("$mine", 1); err == nil {
		t.Error("a lexical variable of the program is seen")
	}
}

// recorder is an Object that writes down what is called.
type recorder struct{ calls []string }

func (r *recorder) Call(method string, args []Value) ([]Value, error) {
	r.calls = append(r.calls, method+"("+show(args...)+")")
	if method == "missing" {
		return nil, nil
	}
	return []Value{"v:" + method}, nil
}

func TestAProgramCallsFunctionsAndMethodsOfItsHost(t *testing.T) {
	var hooks []*Code
	var used []string
	in := New(Options{
		Env: map[string]string{"HOME": "/h"},
		Funcs: map[string]Func{
			"hook": func(args []Value) ([]Value, error) {
				hooks = append(hooks, args[0].(*Code))
				return nil, nil
			},
		},
		Use: func(module string, args []Value) error {
			used = append(used, module+"("+show(args...)+")")
			return nil
		},
	})
	err := in.Run(`use lib 'lib';
BEGIN { $ENV{A} = "1"; undef $ENV{HOME}; }
use t::APISIX 'no_plan';

=pod

use nothing;

=cut

hook(sub {
    my ($block) = @_;
    if (!$block->missing && defined $block->request) {
        $block->set_value("two", $block->request // 'none', 2);
    }
    $block->set_value("one") unless $block->missing;
});
`, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(used, " "); got != "lib(lib) t::APISIX(no_plan)" {
		t.Errorf("used %s", got)
	}
	if env := in.Env(); env["A"] != "1" || len(env) != 1 {
		t.Errorf("the environment is %v", env)
	}
	r := &recorder{}
	if _, err := in.Call(hooks[0], r); err != nil {
		t.Fatal(err)
	}
	want := "missing() request() request() set_value(two;v:request;2) missing() set_value(one)"
	if got := strings.Join(r.calls, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestFilesAreReadBelowHome(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "a.txt"), []byte("one\ntwo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	program := `
open(my $fh, '<', 'a.txt') or die "no: $!";
my $all = do { local $/; <$fh> };
close($fh);
open my $in, "a.txt" or die;
my @lines = <$in>;
my $gone = open(my $x, '<', 'b.txt') ? "there" : "gone";
"$all|$lines[1]|$gone|" . (-f 'a.txt' ? 1 : 0) . (-d 'a.txt' ? 1 : 0)`
	got, err := New(Options{Home: home}).Eval(program, 1)
	if err != nil || show(got...) != `one\x0atwo\x0a|two\x0a|gone|10` {
		t.Errorf("got %s, %v", show(got...), err)
	}
	if _, err := New(Options{}).Eval("open my $f, 'a.txt'", 1); err == nil {
		t.Error("a file is read without a home")
	}
}

func FuzzEval(f *testing.F) {
	for _, p := range programs {
		f.Add(p.program)
	}
	f.Fuzz(func(t *testing.T, program string) {
		if len(program) > 1<<10 {
			return
		}
		_, err := New(Options{}).Eval(program, 1)
		var unsupported *UnsupportedError
		var died *DieError
		if err != nil && !errors.As(err, &unsupported) && !errors.As(err, &died) {
			t.Errorf("an error of another kind: %T %v", err, err)
		}
	})
}

func FuzzCompile(f *testing.F) {
	for _, p := range []string{`a[^\]-z]{2,}`, `(?<n>x)|(?=y)`, `\bfoo\b(?i:BAR)`, `[[:alpha:]\w-]`, `(?^i:a.c)`, `\x{41}\x0a`} {
		f.Add(p, "i", "a text")
	}
	f.Fuzz(func(t *testing.T, pattern, flags, text string) {
		if len(pattern) > 200 || len(text) > 200 {
			return
		}
		re, err := Compile(pattern, flags)
		if err != nil {
			return
		}
		m, err := re.Find(text, 0)
		if err != nil || m == nil {
			return
		}
		for _, g := range m.Groups {
			if g[0] > g[1] || g[1] > len(text) {
				t.Errorf("/%s/%s on %q: a group at %v", pattern, flags, text, g)
			}
		}
	})
}
