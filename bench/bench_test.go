//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestBodiesAreChatsOfTheirLength(t *testing.T) {
	for _, b := range append(slices.Clone(bodies), streamsHeld) {
		t.Run(b.title, func(t *testing.T) {
			text := b.text()
			var chat struct {
				Messages []struct{ Role, Content string }
				Stream   bool
			}
			if err := json.Unmarshal([]byte(text), &chat); err != nil {
				t.Fatal(err)
			}
			if len(text) != b.bytes || len(chat.Messages) != 2 || chat.Stream != (b.events > 0) {
				t.Errorf("%d bytes, %d messages, a stream: %v", len(text), len(chat.Messages), chat.Stream)
			}
			if b.bytes > 2*len(prose) && !strings.Contains(chat.Messages[1].Content, "C:\\orders\\2024") {
				t.Errorf("there is no escape in %.200q", chat.Messages[1].Content)
			}
			request := string(b.request("h:1", "/p", []string{"apikey: k"}))
			if !strings.HasPrefix(request, "POST /p HTTP/1.1\r\nHost: h:1\r\n") || !strings.Contains(request, "\r\napikey: k\r\n\r\n{") {
				t.Errorf("the request begins %.300q", request)
			}
		})
	}
}

func TestFigures(t *testing.T) {
	tests := []struct {
		f      figure
		median float64
		text   string
	}{
		{nil, 0, "–"},
		{figure{3}, 3, "3.0"},
		{figure{3, 1}, 2, "2.0 (1.0–3.0)"},
		{figure{9, 1, 4}, 4, "4.0 (1.0–9.0)"},
	}
	for _, tt := range tests {
		if got := tt.f.median(); got != tt.median || tt.f.with("%.1f") != tt.text {
			t.Errorf("%v: got %v, %q", []float64(tt.f), got, tt.f.with("%.1f"))
		}
	}
}

func TestATableIsMarkdown(t *testing.T) {
	tab := &table{title: "T", notes: []string{"a note"}, rows: [][]string{{"A", "µs"}, {"one", "1"}}}
	var b strings.Builder
	if err := tab.write(&b); err != nil {
		t.Fatal(err)
	}
	const want = "\n### T\n\na note\n\n| A   | µs  |\n| --- | --- |\n| one | 1   |\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestWhatHasToBeReachedIsJudged(t *testing.T) {
	b := &bench{}
	b.judge("a", 1.4, 1.4, "")
	b.judge("b", 61, 60, " µs")
	got := b.verdicts().rows[1:]
	if got[0][3] != "yes" || got[1][3] != "**no**" || got[1][1] != "61 µs" {
		t.Errorf("got %q", got)
	}
}

// Every folder is what bench/README.md says.
func TestOtherGatewaysAreFolders(t *testing.T) {
	folders, err := filepath.Glob("gateways/*")
	if err != nil || len(folders) < 3 {
		t.Fatalf("%d folders: %v", len(folders), err)
	}
	b := &bench{}
	for _, dir := range folders {
		info, err := os.Stat(filepath.Join(dir, "start"))
		if err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s: no program start: %v", dir, err)
		}
		if path, _, err := b.readURL(filepath.Join(dir, "url"), "127.0.0.1:81", 81); err != nil || !strings.HasPrefix(path, "/") {
			t.Errorf("%s: url: %q, %v", dir, path, err)
		}
	}
	file := filepath.Join(t.TempDir(), "url")
	if err := os.WriteFile(file, []byte("http://127.0.0.1:$BENCH_PORT/a?b=c\napikey: k\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if path, headers, err := b.readURL(file, "127.0.0.1:81", 81); err != nil || path != "/a?b=c" || !slices.Equal(headers, []string{"apikey: k"}) {
		t.Errorf("got %q, %q, %v", path, headers, err)
	}
	if _, _, err := b.readURL(file, "127.0.0.1:82", 81); err == nil {
		t.Error("another address is taken")
	}
}

func TestTheCostIsMeasuredInShortRounds(t *testing.T) {
	for name, tt := range map[string]struct{ asked, want settings }{
		"the standard":  {settings{count: 5, window: 2 * time.Second, warm: time.Second}, settings{count: 50, window: slice, warm: slice / 2}},
		"a short one":   {settings{count: 3, window: 150 * time.Millisecond, warm: time.Second}, settings{count: 3, window: 150 * time.Millisecond, warm: time.Second}},
		"with profiles": {settings{count: 1, window: time.Second, profile: "p"}, settings{count: 1, window: time.Second}},
		"warm already":  {settings{count: 1, window: 400 * time.Millisecond, warm: time.Millisecond}, settings{count: 2, window: slice, warm: time.Millisecond}},
	} {
		if got := tt.asked.inSlices(); got.count != tt.want.count || got.window != tt.want.window || got.warm != tt.want.warm {
			t.Errorf("%s: %d rounds of %v after %v", name, got.count, got.window, got.warm)
		}
	}
}

func TestWhatIsWanted(t *testing.T) {
	tests := []struct {
		only string
		name string
		want bool
	}{
		{"", "ai@std", true},
		{"ai", "ai@std", true},
		{"ai", "ai-multi@std", false},
		{"ai@fast", "ai@std", false},
		{"ai@fast", "ai@fast", true},
		{"ai", "nginx", true},
		{"ai", "haproxy", false},
	}
	for _, tt := range tests {
		b := &bench{}
		if tt.only != "" {
			b.only = []string{tt.only}
		}
		if got := b.wanted(tt.name); got != tt.want {
			t.Errorf("-only %q: %s: got %v", tt.only, tt.name, got)
		}
	}
}

func TestFlags(t *testing.T) {
	s, err := readFlags([]string{"-work", "w", "-only", "ai,nginx", "-body", "1k", "-parts", "cost,cold", "-window", "1s"})
	if err != nil || !slices.Equal(s.only, []string{"ai", "nginx"}) || !slices.Equal(s.parts, []string{"cost", "cold"}) || s.window != time.Second || s.count != 5 || !filepath.IsAbs(s.work) {
		t.Errorf("got %+v, %v", s, err)
	}
	for wrong, args := range map[string][]string{
		"-work":  {},
		"-body":  {"-work", "w", "-body", "2k"},
		"-parts": {"-work", "w", "-parts", "costs"},
	} {
		if _, err := readFlags(args); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%q: got %v", args, err)
		}
	}
}

// A new process of the benchmark is on the processor that it was given.
func TestWhatIsStartedIsPinned(t *testing.T) {
	b := &bench{settings: settings{work: t.TempDir()}}
	t.Cleanup(func() {
		for _, f := range slices.Backward(b.ends) {
			f()
		}
	})
	if err := b.prepareCPUs(); err != nil {
		t.Skip(err)
	}
	p, err := b.start("pinned", b.cpus[1], b.work, nil, "sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(p.pid()), "status"))
	if err != nil {
		t.Fatal(err)
	}
	if got := after(string(raw), "Cpus_allowed_list"); got != strconv.Itoa(b.cpus[1]) {
		t.Errorf("it may run on %s, want %d", got, b.cpus[1])
	}
	if p.stop(); !p.ended() {
		t.Error("it did not end")
	}
}
