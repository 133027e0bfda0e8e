package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/gosix/gosix/internal/timetest"
)

// servers that answer wrongly, each in a way of its own.
func TestTheLoadDriverSeesEveryKindOfFailure(t *testing.T) {
	release := make(chan struct{})
	handler := map[string]http.HandlerFunc{
		"well": func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/v1/") {
				_, _ = io.WriteString(w, "data: {\"choices\":[]}\n\ndata: [DONE]\n\n")
				return
			}
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(append([]byte("echo "), body...))
		},
		"another status": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"another body":   func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "echo of somebody else") },
		"no terminator": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "data: {\"choices\":[]}\n\n")
		},
		"an error event": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "data: {\"error\":{\"message\":\"cut\"}}\n\ndata: [DONE]\n\n")
		},
		"a broken connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a cut body": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "echo ")
		},
	}
	defer close(release)
	for name, h := range handler {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(h)
			s.Config.ErrorLog = nil
			s.Start()
			defer s.Close()
			l := NewLoad(Target{"a", s.Listener.Addr().String()})
			for id := range uint64(6) {
				l.one(id, l.targets[0], id%2 == 0)
			}
			l.stop = func() {}
			records := l.Stop()
			if err := accounted(records, l.Sent()); err != nil {
				t.Error(err)
			}
			f := figures(records, time.Time{}, time.Now().Add(time.Hour))
			want := 6
			if name == "well" {
				want = 0
			}
			if f.Requests != 6 || f.Streams != 3 || len(f.Failed) != want {
				t.Errorf("%d requests, %d streams, %d failed, want 6, 3, %d: %v", f.Requests, f.Streams, len(f.Failed), want, f.Failed)
			}
		})
	}
}

func TestTheLoadDriverDoesNotRepeatARequest(t *testing.T) {
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(append([]byte("echo "), body...))
	}))
	defer s.Close()
	l := NewLoad(Target{"a", s.Listener.Addr().String()})
	l.one(1, l.targets[0], false)
	l.one(2, l.targets[0], false)
	if n := calls.Load(); n != 2 {
		t.Errorf("%d requests came, 2 were sent", n)
	}
	if len(l.records) != 2 || l.records[0].Failed() || !l.records[1].Failed() {
		t.Errorf("got %+v", l.records)
	}
}

// A node that ends may close a silent connection. What it read it has to answer, however long
// that takes it.
func TestARequestThatAServerReadAndDroppedHasFailed(t *testing.T) {
	// On a busy machine it may take longer than a second until a request is written.
	timetest.Stretch(t, time.Second, func(silence time.Duration) error {
		l := dropping(t, silence+silence/10, nil)
		l.silence = silence
		l.ends.Add(1)
		l.one(1, l.targets[0], false)
		if r := &l.records[0]; !r.Failed() || l.late.Load() != 0 {
			return fmt.Errorf("got %v, %d late, want a failure", r, l.late.Load())
		}
		return nil
	})
}

func TestWhatMeetsTheEndOfASilentConnectionIsSentAgainWhileANodeEnds(t *testing.T) {
	tests := map[string]struct {
		before, meanwhile int64 // ends and their beginnings
		again             bool
	}{
		"no node ends":              {},
		"one has ended":             {before: 2},
		"one is being ended":        {before: 1, again: true},
		"one begins to end":         {meanwhile: 1, again: true},
		"one that ends has ended":   {before: 1, meanwhile: 1, again: true},
		"one ends while it is sent": {meanwhile: 2, again: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var l *Load
			came := make(chan time.Time, 1)
			l = dropping(t, 0, func() {
				came <- time.Now()
				l.ends.Add(tt.meanwhile)
			})
			l.silence = 1 // every connection is silent for longer
			l.ends.Store(tt.before)
			l.one(1, l.targets[0], false)
			r := &l.records[0]
			if again := l.late.Load() == 1; again != tt.again || r.Failed() == again {
				t.Errorf("got %v, %d late, want that it is sent again: %v", r, l.late.Load(), tt.again)
			}
			if !r.At.Before(<-came) {
				t.Error("it counts since a later try than the first")
			}
		})
	}
}

// dropping returns a driver for a server that keeps the first request for so long and throws
// it away, and serves others.
func dropping(t *testing.T, keeps time.Duration, reads func()) *Load {
	t.Helper()
	var calls atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if calls.Add(1) == 1 {
			if reads != nil {
				reads()
			}
			time.Sleep(keeps)
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(append([]byte("echo "), body...))
	}))
	t.Cleanup(s.Close)
	return NewLoad(Target{"a", s.Listener.Addr().String()})
}

func TestARequestThatWasNotRecordedIsMissed(t *testing.T) {
	if accounted([]Record{{ID: 1}}, 2) == nil {
		t.Error("one of two is missing, and nobody says so")
	}
	if accounted([]Record{{ID: 1}, {ID: 1}}, 2) == nil {
		t.Error("one came twice, and nobody says so")
	}
	if err := accounted([]Record{{ID: 1}, {ID: 2}}, 2); err != nil {
		t.Error(err)
	}
}

func sample(node string, life, epoch int, revision int64, digest string) Sample {
	return Sample{Node: node, Life: life, Epoch: epoch, State: State{Revision: revision, Digest: digest}}
}

func TestValidators(t *testing.T) {
	tests := map[string]struct {
		samples          []Sample
		digest, monotone int // faults
	}{
		"nodes at different revisions may differ": {samples: []Sample{sample("a", 1, 0, 1, "x"), sample("b", 1, 0, 2, "y"), sample("a", 1, 0, 2, "y")}},
		"nodes at one revision may not":           {samples: []Sample{sample("a", 1, 0, 1, "x"), sample("b", 1, 0, 1, "y")}, digest: 1},
		"nor a node and itself":                   {samples: []Sample{sample("a", 1, 0, 1, "x"), sample("a", 1, 0, 1, "y")}, digest: 1},
		"a revision may not go back":              {samples: []Sample{sample("a", 1, 0, 2, "x"), sample("a", 1, 0, 1, "y")}, monotone: 1},
		"it may with a new process":               {samples: []Sample{sample("a", 1, 0, 2, "x"), sample("a", 2, 0, 1, "y")}},
		"it may once after a restore":             {samples: []Sample{sample("a", 1, 0, 2, "x"), sample("a", 1, 1, 2, "x"), sample("a", 1, 1, 1, "y")}},
		"and not twice": {
			samples:  []Sample{sample("a", 1, 0, 9, "x"), sample("a", 1, 1, 5, "z"), sample("a", 1, 1, 1, "y")},
			monotone: 1,
		},
		"a restored store counts anew": {samples: []Sample{
			sample("a", 1, 0, 1, "v"), sample("a", 1, 0, 3, "x"), sample("b", 1, 0, 3, "x"),
			sample("a", 1, 1, 2, "w"), sample("b", 1, 1, 3, "x"), sample("a", 1, 1, 3, "y"), sample("b", 1, 1, 2, "w"), sample("b", 1, 1, 3, "y"),
		}},
		"and is held to it": {
			samples: []Sample{sample("a", 1, 0, 3, "x"), sample("b", 1, 0, 3, "x"), sample("a", 1, 1, 2, "w"), sample("b", 1, 1, 2, "v")},
			digest:  1,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := checkDigests(tt.samples); len(got) != tt.digest {
				t.Errorf("digests: got %v, want %d", got, tt.digest)
			}
			if got := checkMonotone(tt.samples); len(got) != tt.monotone {
				t.Errorf("revisions: got %v, want %d", got, tt.monotone)
			}
		})
	}
}

func TestHistories(t *testing.T) {
	type op struct {
		from, to int64
		in       call
		out      outcome
	}
	put := func(v string) call { return call{opPut, "k", v} }
	get, del := call{opGet, "k", ""}, call{opDelete, "k", ""}
	is := func(v string) outcome { return outcome{Found: v != "", Value: v} }
	tests := map[string]struct {
		ops   []op
		wrong bool
	}{
		"a read sees the last write":              {ops: []op{{1, 2, put("a"), is("")}, {3, 4, get, is("a")}}},
		"an acknowledged write is lost":           {ops: []op{{1, 2, put("a"), is("")}, {3, 4, get, is("")}}, wrong: true},
		"an old value comes back":                 {ops: []op{{1, 2, put("a"), is("")}, {3, 4, put("b"), is("")}, {5, 6, get, is("a")}}, wrong: true},
		"of two at once either may be last":       {ops: []op{{1, 9, put("a"), is("")}, {2, 8, put("b"), is("")}, {10, 11, get, is("a")}}},
		"but not one and then the other":          {ops: []op{{1, 9, put("a"), is("")}, {2, 8, put("b"), is("")}, {10, 11, get, is("a")}, {12, 13, get, is("b")}}, wrong: true},
		"an unknown write may have happened":      {ops: []op{{1, 0, put("a"), outcome{Unknown: true}}, {3, 4, get, is("a")}}},
		"or happens later":                        {ops: []op{{1, 0, put("a"), outcome{Unknown: true}}, {3, 4, get, is("")}, {5, 6, get, is("a")}}},
		"or never":                                {ops: []op{{1, 0, put("a"), outcome{Unknown: true}}, {3, 4, get, is("")}, {5, 6, get, is("")}}},
		"but not twice":                           {ops: []op{{1, 0, put("a"), outcome{Unknown: true}}, {3, 4, get, is("a")}, {5, 6, put("b"), is("")}, {7, 8, get, is("a")}}, wrong: true},
		"what nobody wrote is read":               {ops: []op{{1, 2, get, is("a")}}, wrong: true},
		"a deletion found nothing where was some": {ops: []op{{1, 2, put("a"), is("")}, {3, 4, del, is("")}}, wrong: true},
		"a deleted key is gone":                   {ops: []op{{1, 2, put("a"), is("")}, {3, 4, del, is("x")}, {5, 6, get, is("")}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			h := newHistory()
			for i, o := range tt.ops {
				h.Add(i, o.from, o.in, o.out)
				if !o.out.Unknown {
					h.ops[i].Return = o.to
				}
			}
			bad, keys, decided := h.Check(10 * time.Second)
			if !decided || keys != 1 || len(bad) > 0 != tt.wrong {
				t.Errorf("got %v of %d keys, decided %v, want wrong %v\n%s", bad, keys, decided, tt.wrong, h.Describe("k"))
			}
		})
	}
}

// Counted in another way, with big numbers.
func TestDigest(t *testing.T) {
	items := map[string]StoredItem{}
	sum := new(big.Int)
	for i := range 50 {
		key, it := fmt.Sprint("/apisix/routes/", i), StoredItem{[]byte(strings.Repeat("v", i)), int64(i) << 20}
		items[key] = it
		one := sha256.Sum256(append(binary.BigEndian.AppendUint64([]byte(key), uint64(it.Revision)), it.Value...))
		sum.Add(sum, new(big.Int).SetBytes(one[:]))
	}
	sum.Mod(sum, new(big.Int).Lsh(big.NewInt(1), 256))
	if got, want := digest(items), hex.EncodeToString(sum.FillBytes(make([]byte, 32))); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestLagCountsFromTheOldestChangeThatIsMissing(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	commits := []Commit{{5, at(10)}, {6, at(20)}, {7, at(30)}}
	samples := []Sample{{At: at(9), State: State{Revision: 4}}, {At: at(25), State: State{Revision: 4}}, {At: at(25), State: State{Revision: 5}}, {At: at(40), State: State{Revision: 7}}}
	got := lags(samples, commits)
	if want := []time.Duration{0, 0, 5 * time.Second, 15 * time.Second}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestPlan(t *testing.T) {
	all := []*scenario{{name: "T5"}, {name: "T5-wipe"}, {name: "T50"}, {name: "T7", parts: 3}}
	old := []regression{{scenario: "T7", seed: 12}, {scenario: "T5", seed: 1}}
	tests := map[string]struct {
		seeds []int64
		long  bool
		only  []string
		want  string
	}{
		"several seeds come one after the other, the regressions once": {
			seeds: []int64{2, 3}, only: []string{"T5", "T7"},
			want: "T5#2 T5#1 T5-wipe#2 T7#2 T7#12 T5#3 T5-wipe#3 T7#3",
		},
		"a regression whose seed is run anyway is not run twice": {seeds: []int64{1, 12}, only: []string{"T7"}, want: "T7#1 T7#12"},
		"a short run has each once, and the regressions":         {want: "T5#1 T5-wipe#1 T50#1 T7#1 T7#12"},
		"a long run has every part":                              {long: true, only: []string{"T7"}, want: "T7/0#1 T7/1#1 T7/2#1"},
		"a name is also that of its variants":                    {only: []string{"T5"}, want: "T5#1 T5-wipe#1"},
		"a name that is none":                                    {only: []string{"T"}, want: ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, u := range plan(all, old, append(tt.seeds, []int64{1}[min(len(tt.seeds), 1):]...), tt.long, tt.only) {
				got = append(got, fmt.Sprintf("%s#%d", u.ID(), u.Seed))
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
		})
	}
}

func TestSeeds(t *testing.T) {
	for text, want := range map[string]string{"1": "[1]", "1,2, 3": "[1 2 3]", "4,4,-5": "[4 -5]"} {
		if got, err := parseSeeds(text); err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: got %v %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1,", "x", "1;2"} {
		if _, err := parseSeeds(text); err == nil {
			t.Errorf("%q counts as seeds", text)
		}
	}
}

// What stands in a document is the worst of all runs, and of a unit that was run twice the last.
func TestTableOfTheWorst(t *testing.T) {
	slow := func(v Verdict, seconds float64) Line {
		return Line{What: "slow", Got: fmt.Sprintf("%.2f s", seconds), Limit: "≤ 1.00 s", Verdict: v, Timed: true, Value: seconds}
	}
	none := func(bad, of int) Line {
		return Line{What: "failed requests", Got: "as it says", Limit: "0", Verdict: verdict(bad == 0), Value: float64(bad), Of: of}
	}
	outcome := func(unit string, seed int64, lines ...Line) Outcome {
		scenario, _, _ := strings.Cut(unit, "/")
		return Outcome{Unit: unit, Scenario: scenario, Seed: seed, Code: "c", Rate: 300, CPUs: 2, Verdict: Held, Lines: lines, Machine: float64(seed), Stolen: float64(seed) / 50}
	}
	all := []Outcome{
		outcome("T4", 1, slow(Failed, 7)), // and once more
		outcome("T4", 1, slow(Held, 0.5), none(0, 1000), Line{What: "gateway-0: memory", Got: "1.1", Limit: "≤ 1.5", Verdict: Held, Value: 1.1}, Line{What: "gateway-1: memory", Got: "1.3", Limit: "≤ 1.5", Verdict: Held, Value: 1.3}),
		outcome("T4", 2, slow(Held, 0.9), none(0, 700), Line{What: everywhere[0], Verdict: Held, Of: 5}),
		outcome("T3/0", 2, Line{What: "why", Got: "a | b", Verdict: Held}, Line{What: everywhere[0], Verdict: Held, Of: 6}),
		outcome("T3/1", 2, Line{What: "why", Got: "c", Verdict: Failed}),
		{Unit: "T5", Scenario: "T5", Seed: 1, Code: "d", Verdict: NotRun, Reason: "no root"},
	}
	var b bytes.Buffer
	markdown(&b, all)
	want := `**Short runs.** Seeds 1, 2, the worst of them, counts added up; 300 requests a second; 2 processors, whose load was 0.0 to 2.0 when a scenario began; code c, d, 0001-01-01; other machines of the host had up to 4 % of the processors' time.

| | What | Measured | Limit |
|---|---|---|---|
| T3 | why | **FAILED** c |  |
| T4 | slow | 0.90 s | ≤ 1.00 s |
|  | failed requests | 0 of 1,700 | 0 |
|  | a gateway: memory | 1.3 | ≤ 1.5 |
| T5 | seed 1 | **not run** no root |  |
| all | same revision, other digest | 0 of 11 |  |

`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	doc, book := filepath.Join(t.TempDir(), "doc.md"), filepath.Join(t.TempDir(), "results.jsonl")
	raw, _ := json.Marshal(all[2])
	if err := errors.Join(os.WriteFile(doc, []byte("before <!-- figures -->old<!-- /figures --> after"), 0o644), os.WriteFile(book, raw, 0o644)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it can be put in again
		if err := printTable(io.Discard, book, doc); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := os.ReadFile(doc)
	if s := string(text); !strings.HasPrefix(s, "before <!-- figures -->\n\n**Short") || !strings.HasSuffix(s, "|\n\n<!-- /figures --> after") || strings.Contains(s, "old") {
		t.Errorf("got %s", s)
	}
	if err := os.WriteFile(doc, []byte("no place"), 0o644); err != nil || printTable(io.Discard, book, doc) == nil {
		t.Error("a document without a place for them is written to")
	}
}

func TestTheBookIsTakenUpWhereItWasLeft(t *testing.T) {
	file := filepath.Join(t.TempDir(), "results.jsonl")
	b, err := openBook(file)
	if err != nil {
		t.Fatal(err)
	}
	u := Unit{Scenario: &scenario{name: "T1"}, Seed: 7}
	for _, o := range []Outcome{
		{Unit: "T1", Seed: 7, Code: "c", Long: true, Verdict: Held},
		{Unit: "T2", Seed: 7, Code: "c", Long: true, Verdict: Failed},
		{Unit: "T3", Seed: 7, Code: "c", Long: true, Verdict: NotBuilt},
	} {
		if err := b.Append(o); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.file.WriteString(`{"unit":"T4","verdict":"o`); err != nil { // the machine went down
		t.Fatal(err)
	}
	_ = b.Close()
	if b, err = openBook(file); err != nil {
		t.Fatal(err)
	}
	if err := b.Append(Outcome{Unit: "T5", Seed: 7, Code: "c", Long: true, Verdict: Held}); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	if b, err = openBook(file); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	if _, ok := b.Held(u, "c", true); !ok {
		t.Error("what held is run again")
	}
	for why, ok := range map[string]bool{
		"other code": has(b, u, "d", true), "a short run": has(b, u, "c", false), "another seed": has(b, Unit{Scenario: u.Scenario, Seed: 8}, "c", true),
		"what failed": has(b, Unit{Scenario: &scenario{name: "T2"}, Seed: 7}, "c", true), "what is not built": has(b, Unit{Scenario: &scenario{name: "T3"}, Seed: 7}, "c", true),
		"a line that was cut": has(b, Unit{Scenario: &scenario{name: "T4"}, Seed: 7}, "c", true),
	} {
		if ok {
			t.Errorf("%s counts as held", why)
		}
	}
	if !has(b, Unit{Scenario: &scenario{name: "T5"}, Seed: 7}, "c", true) {
		t.Error("the line after one that was cut is lost")
	}
}

func has(b *Book, u Unit, code string, long bool) bool {
	_, ok := b.Held(u, code, long)
	return ok
}

func TestOnlyWhatHeldPasses(t *testing.T) {
	lab := &Lab{Work: t.TempDir(), Out: io.Discard}
	do := func(f func(r *Run) error) Outcome {
		return lab.Do(t.Context(), Unit{Scenario: &scenario{name: "X", run: func(_ context.Context, r *Run) error { return f(r) }}, Seed: 1})
	}
	tests := map[string]struct {
		run  func(r *Run) error
		want Verdict
		code int
	}{
		"a line that held":        {func(r *Run) error { r.AtMost("x", time.Second, time.Second); return nil }, Held, 0},
		"a line that did not":     {func(r *Run) error { r.AtMost("x", 2*time.Second, time.Second); return nil }, Failed, 1},
		"none of none":            {func(r *Run) error { r.None("x", nil, 0); return nil }, Failed, 1},
		"an error":                {func(*Run) error { return errors.New("no port") }, Failed, 1},
		"a feature that is not":   {func(*Run) error { return notBuilt("x") }, NotBuilt, 0},
		"a tool that is not":      {func(*Run) error { return notRun("x") }, NotRun, 0},
		"not built, after a fail": {func(r *Run) error { r.None("x", []string{"y"}, 1); return notBuilt("x") }, Failed, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			o := do(tt.run)
			var out bytes.Buffer
			if code := summary(&out, []Outcome{o}); o.Verdict != tt.want || code != tt.code {
				t.Errorf("got %s and code %d, want %s and %d\n%s", o.Verdict, code, tt.want, tt.code, &out)
			}
		})
	}
}

func TestAProcessEndsWithItsScenario(t *testing.T) {
	lab := &Lab{Work: t.TempDir(), Out: io.Discard}
	var p *Process
	o := lab.Do(t.Context(), Unit{Seed: 1, Scenario: &scenario{name: "X", run: func(ctx context.Context, r *Run) (err error) {
		if p, err = r.Start("sh", "", true, "sh", "-c", "echo one; echo two; while :; do sleep 0.05; done"); err != nil {
			return err
		}
		if _, err = within(ctx, 10*time.Second, "a line", func() bool { return len(p.Log.Since(time.Time{}, "two")) == 1 }); err != nil {
			return err
		}
		p.Signal(hang) // a process that hangs must not hold up the end
		return os.Remove(filepath.Join(r.Dir, "sh.log"))
	}}})
	if o.Verdict != Held || !p.Ended() {
		t.Errorf("%+v, ended %v", o, p.Ended())
	}
}

func TestOnlyLimitsOfTimeAreAReasonForASecondRun(t *testing.T) {
	slow := Line{What: "slow", Verdict: Failed, Timed: true}
	wrong := Line{What: "wrong", Verdict: Failed}
	held := Line{What: "held", Verdict: Held, Timed: true}
	for name, tt := range map[string]struct {
		outcome Outcome
		want    bool
	}{
		"all held":                     {Outcome{Lines: []Line{held}}, false},
		"late":                         {Outcome{Verdict: Failed, Lines: []Line{held, slow}}, true},
		"late and wrong":               {Outcome{Verdict: Failed, Lines: []Line{slow, wrong}}, false},
		"late, and it could not go on": {Outcome{Verdict: Failed, Lines: []Line{slow}, Reason: "no etcd"}, false},
	} {
		if got := tt.outcome.Late(); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

func TestAThiefTakesNoMoreThanItIsToldTo(t *testing.T) {
	answer := func(keys ...string) []byte {
		res := &pb.WatchResponse{Header: &pb.ResponseHeader{Revision: 7}}
		for _, key := range keys {
			res.Events = append(res.Events, &mvccpb.Event{Kv: &mvccpb.KeyValue{Key: []byte(key)}})
		}
		raw, err := proto.Marshal(res)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	tests := map[string]struct {
		prey      string
		sent, got []byte
		stolen    int
	}{
		"nothing is stolen":                     {"", answer("/a", "/b"), answer("/a", "/b"), 0},
		"nothing of what it wants is there":     {"/c", answer("/a"), answer("/a"), 0},
		"a sign of life stays one":              {"/a", answer(), answer(), 0},
		"one of two":                            {"/a", answer("/a", "/b"), answer("/b"), 1},
		"of an answer that was all prey":        {"/a", answer("/a", "/a1"), nil, 2},
		"what only looks like it is left alone": {"/a1", answer("/a", "/a10"), answer("/a"), 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			thief := &Thief{}
			thief.Steal(tt.prey)
			got, err := thief.take(tt.sent)
			if err != nil || (got == nil) != (tt.got == nil) || thief.Stolen() != tt.stolen {
				t.Fatalf("got %q %v, %d stolen, want %q, %d", got, err, thief.Stolen(), tt.got, tt.stolen)
			}
			var a, b pb.WatchResponse
			if err := errors.Join(proto.Unmarshal(got, &a), proto.Unmarshal(tt.got, &b)); err != nil || !proto.Equal(&a, &b) {
				t.Errorf("got %v, want %v: %v", &a, &b, err)
			}
		})
	}
}

func TestSpeedHasOtherLimitsWhereOthersUseTheMachine(t *testing.T) {
	for busy, want := range map[bool]Verdict{false: Failed, true: Held} {
		lab := &Lab{Work: t.TempDir(), Out: io.Discard, Busy: busy}
		for what, f := range map[string]func(r *Run){
			"a time":   func(r *Run) { r.Quick("x", 2*time.Second, time.Second, 3*time.Second) },
			"a figure": func(r *Run) { r.Most("x", "%.1f", 2, 1, 3) },
		} {
			o := lab.Do(t.Context(), Unit{Scenario: &scenario{name: "X", run: func(_ context.Context, r *Run) error { f(r); return nil }}, Seed: 1})
			if o.Verdict != want || o.Late() != (want == Failed) {
				t.Errorf("%s, busy %v: got %s, late %v, want %s", what, busy, o.Verdict, o.Late(), want)
			}
		}
	}
}

func TestTheStoreIsNotReplacedBeforeANodeWasSeen(t *testing.T) {
	var replaced atomic.Bool
	var after atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		// A node has the old store in force for a while after its replacement.
		if replaced.Load() && after.Add(1) > 2 {
			_, _ = io.WriteString(w, `{"revision":51,"digest":"b"}`)
			return
		}
		_, _ = io.WriteString(w, `{"revision":60,"digest":"a"}`)
	}))
	defer s.Close()
	n := &Node{Name: "n", Control: s.Listener.Addr().String()}
	o := newObserver(5*time.Millisecond, n)
	o.Replaced()
	replaced.Store(true)
	if _, err := within(t.Context(), 10*time.Second, "the new store is in force", func() bool {
		seen := o.Seen("n", time.Time{})
		return len(seen) > 0 && seen[len(seen)-1].Revision == 51
	}); err != nil {
		t.Fatal(err)
	}
	if bad := checkMonotone(o.Stop()); len(bad) > 0 {
		t.Error(bad)
	}
}
