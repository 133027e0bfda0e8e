package openai

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/drivertest"
	"github.com/gosix/gosix/pkg/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRecordedAnswers(t *testing.T) { drivertest.Run(t, Providers()["openai"], "testdata/answers") }

func TestAnAnswerIsCollectedUpToALimit(t *testing.T) {
	// More than is held back before there is no way back, so that both parts are in it.
	const size = wholeLimit + 100
	text := strings.Repeat("0123456789", size/10+1)[:size]
	addr := provider(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, text))
	client := upstream.NewClient(upstream.Options{})
	defer client.Close()
	d := Providers()["openai"]
	for limit, fits := range map[int64]bool{size - 1: false, size: true, size + 1: true, 10: false} {
		call := drivertest.NewCall(t, &drivers.Instance{Target: &upstream.Target{Addr: addr, NoKeepAlive: true}, Host: "a"}, "/", hello)
		req, err := d.Request(call)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := d.Begin(t.Context(), res, call)
		if err != nil {
			t.Fatal(err)
		}
		body, err := reply.Body(limit)
		if (err == nil) != fits || fits && !bytes.Equal(body, []byte(text)) {
			t.Errorf("limit %d: got %d bytes, %v", limit, len(body), err)
		}
		reply.Close()
	}
}

// provider answers every request with the same bytes and returns its address.
func provider(t *testing.T, answer string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, answer)
		_ = c.Close()
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}
