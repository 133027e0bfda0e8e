package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/exchange"
)

func logged(t *testing.T, format string, asJSON bool, x *exchange.Exchange) string {
	t.Helper()
	var out bytes.Buffer
	l, err := NewAccessLog("", &out, format, asJSON)
	if err != nil {
		t.Fatal(err)
	}
	l.Record(x)
	l.flush()
	return out.String()
}

func one() *exchange.Exchange {
	x := &exchange.Exchange{}
	x.Reset(context.Background(), nil)
	x.Request.Method, x.Request.Target, x.Request.Proto, x.Request.Host = "GET", "/a\"b", "HTTP/1.1", "h"
	x.Request.Header.Add("User-Agent", "a\\b\nc\x7fé")
	x.Response.Status, x.Response.Sent = 200, 5
	x.ID = "id"
	x.Facts.Attempts = []exchange.Attempt{{Addr: "a:1", Status: 502}, {Addr: "b:2", Status: 200}}
	return x
}

func TestAccessLogLines(t *testing.T) {
	tests := map[string]struct {
		format string
		want   string
	}{
		"text is escaped":              {`"$request" "$http_user_agent"`, `"GET /a\x22b HTTP/1.1" "a\x5Cb\x0Ac\x7F\xC3\xA9"` + "\n"},
		"what is absent is a dash":     {"$http_referer $consumer_name $no_such", "- - -\n"},
		"tries are a list":             {"$upstream_addr $upstream_status", "a:1, b:2 502, 200\n"},
		"braces and lone dollar signs": {"${status}x $ 5$", "200x $ 5$\n"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := logged(t, tt.format, false, one()); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("the default has all its fields", func(t *testing.T) {
		if got := logged(t, "", false, one()); strings.Count(got, `"`) != 10 || !strings.HasSuffix(got, "\"id\"\n") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("JSON is JSON", func(t *testing.T) {
		var line struct {
			Agent, Request string
			Status         int
		}
		if got := logged(t, "", true, one()); json.Unmarshal([]byte(got), &line) != nil || line.Status != 200 || line.Agent != "a\\b\nc\x7fé" {
			t.Errorf("got %q", got)
		}
	})
}

// Values are looked at several bytes at a time; what is escaped does not depend on where it
// stands.
func TestEachByteIsEscapedWhereverItStands(t *testing.T) {
	for length := range 20 {
		for at := range length {
			for c := range 256 {
				for _, around := range []string{"a", " ", "~"} {
					s := strings.Repeat(around, at) + string([]byte{byte(c)}) + strings.Repeat(around, length-at-1)
					if got, want := harmless([]byte(s)), !unsafeByte[c]; got != want {
						t.Fatalf("%q: got %v", s, got)
					}
				}
			}
		}
	}
}

func TestAccessLogIsReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "access.log")
	l, err := NewAccessLog(path, nil, "$status", false)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	l.Record(one())
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	timetest.Until(t, "it is opened again", func() bool {
		_, err := os.Stat(path)
		return err == nil
	})
	l.Record(one())
	l.Record(one())
	stop()
	running.Wait()
	old, _ := os.ReadFile(path + ".1")
	fresh, _ := os.ReadFile(path)
	if string(old) != "200\n" || string(fresh) != "200\n200\n" {
		t.Errorf("got %q and %q", old, fresh)
	}
}

func TestAccessLogIsBounded(t *testing.T) {
	var out bytes.Buffer
	l, err := NewAccessLog("", &out, strings.Repeat("x", 100<<10), false)
	if err != nil {
		t.Fatal(err)
	}
	for range logShards * 20 {
		l.Record(one())
	}
	if l.Dropped() == 0 {
		t.Error("nothing was dropped")
	}
	l.flush()
	if !strings.Contains(out.String(), " lines dropped\n") {
		t.Error("the log does not say so")
	}
}

// BenchmarkAccessLog is the line of an AI request.
func BenchmarkAccessLog(b *testing.B) {
	l, err := NewAccessLog("", nopWriter{}, "", false)
	if err != nil {
		b.Fatal(err)
	}
	a := asked{path: chatPath}
	a.fill(context.Background())
	x := &a.x
	x.End, x.ID, x.Response.Status, x.Response.Sent = x.Start.Add(time.Millisecond), strings.Repeat("0a", 16), 200, 1024
	f := &x.Facts
	f.UpstreamScheme, f.UpstreamHost, f.UpstreamURI = "http", "a.test", chatPath
	f.Attempts = append(f.Attempts, exchange.Attempt{Name: "a", Addr: "a.test:8000", Status: 200, Response: time.Millisecond})
	b.ReportAllocs()
	for b.Loop() {
		l.Record(x)
		if len(l.shards[0].lines) > shardFull {
			l.flush()
		}
	}
}

type nopWriter struct{}

func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }
