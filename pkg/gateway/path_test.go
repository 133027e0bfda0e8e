package gateway

import "testing"

func TestCleanPath(t *testing.T) {
	tests := map[string]struct {
		raw, want string
		bad       bool
	}{
		"a clean path is itself":             {raw: "/a/b", want: "/a/b"},
		"the root":                           {raw: "/", want: "/"},
		"escapes are decoded":                {raw: "/a%20b/%E6%9C%A8", want: "/a b/木"},
		"an escaped slash is one":            {raw: "/a%2Fb", want: "/a/b"},
		"slashes are merged":                 {raw: "//a///b", want: "/a/b"},
		"a slash at the end stays":           {raw: "/a/b//", want: "/a/b/"},
		"dots are resolved":                  {raw: "/a/./b/../c", want: "/a/c"},
		"dots at the end leave a slash":      {raw: "/a/b/..", want: "/a/"},
		"escaped dots are dots":              {raw: "/x/%2e%2e/keep", want: "/keep"},
		"a name that begins with dots stays": {raw: "/.well-known/..x", want: "/.well-known/..x"},
		"a semicolon stays":                  {raw: "/a;v=1/b", want: "/a;v=1/b"},
		"above the root is refused":          {raw: "/../a", bad: true},
		"escaped, above the root, too":       {raw: "/%2e%2e/a", bad: true},
		"a bad escape is refused":            {raw: "/%zz", bad: true},
		"a short escape is refused":          {raw: "/%2", bad: true},
		"a zero byte is refused":             {raw: "/a%00b", bad: true},
		"no path is refused":                 {raw: "a", bad: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := CleanPath(tt.raw)
			if ok == tt.bad || ok && got != tt.want {
				t.Errorf("got %q, %v, want %q", got, ok, tt.want)
			}
		})
	}
	if n := testing.AllocsPerRun(10, func() { _, _ = CleanPath("/v1/chat/completions") }); n != 0 {
		t.Errorf("a clean path allocates %v times", n)
	}
}

func TestPathOf(t *testing.T) {
	for target, want := range map[string]string{
		"/a?b=c": "/a", "http://host:1/a/b?x": "/a/b", "http://host": "/", "*": "/", "/": "/", "": "", "host:443": "",
	} {
		if got, _ := pathOf(target); got != want {
			t.Errorf("%q: got %q, want %q", target, got, want)
		}
	}
}

func TestKeepSlashes(t *testing.T) {
	for raw, want := range map[string]string{
		"/a%2fb/c": "/a%2Fb/c", "/a%20b": "/a b", "/a%2F%20b": "/a%2F b", "/x/..%2Fa": "/a",
	} {
		cleaned, ok := CleanPath(raw)
		if !ok {
			t.Fatal(raw)
		}
		if got := keepSlashes(raw, cleaned); got != want {
			t.Errorf("%q: got %q, want %q", raw, got, want)
		}
	}
}

func TestServletPath(t *testing.T) {
	tests := map[string]struct {
		path, want string
		bad        bool
	}{
		"parameters are dropped":                {path: "/a;x=1/b;y", want: "/a/b"},
		"a path without any is itself":          {path: "/a/b", want: "/a/b"},
		"a segment that becomes dots":           {path: "/a/..;x/b", bad: true},
		"an empty segment that is not the last": {path: "/;x/b", bad: true},
		"an empty last segment":                 {path: "/a/;x", want: "/a/"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, ok := servletPath(tt.path)
			if ok == tt.bad || ok && got != tt.want {
				t.Errorf("got %q, %v, want %q", got, ok, tt.want)
			}
		})
	}
}

func FuzzCleanPath(f *testing.F) {
	for _, s := range []string{"/", "/a/../b", "//", "/%2e/%2F", "/a%", "/\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, ok := CleanPath(raw)
		if !ok {
			return
		}
		if got == "" || got[0] != '/' {
			t.Fatalf("%q became %q", raw, got)
		}
		for i := 0; i+1 < len(got); i++ {
			if got[i] == '/' && got[i+1] == '/' {
				t.Fatalf("%q became %q", raw, got)
			}
		}
		// What is clean and has nothing escaped in it stays what it is.
		if again, ok := resolve(got); !ok || again != got {
			t.Fatalf("%q became %q, and then %q", raw, got, again)
		}
	})
}
