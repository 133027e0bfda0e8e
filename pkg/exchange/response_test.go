package exchange_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/exchange"
)

// recorder is a Sink that notes what an engine would send.
type recorder struct {
	calls   []string
	status  int
	header  []exchange.Field
	length  int64
	body    bytes.Buffer
	aborted bool
	broken  error // of everything that writes
}

func (r *recorder) WriteHead(status int, h *exchange.Header, length int64) error {
	r.calls = append(r.calls, "head")
	r.status, r.length = status, length
	r.header = append([]exchange.Field(nil), h.Fields()...)
	return r.broken
}

func (r *recorder) Write(p []byte) (int, error) {
	r.calls = append(r.calls, "write")
	if r.broken != nil {
		return 0, r.broken
	}
	return r.body.Write(p)
}

func (r *recorder) Flush() error {
	r.calls = append(r.calls, "flush")
	return r.broken
}

func (r *recorder) Abort() { r.aborted = true }

func (r *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, r.broken
}

func begin() (*exchange.Response, *recorder) {
	x, sink := new(exchange.Exchange), new(recorder)
	x.Reset(context.Background(), sink)
	return &x.Response, sink
}

type hook func()

func (h hook) BeforeHead() { h() }

// upper is a filter that puts an exclamation mark behind the last piece.
type upper struct{ fail error }

func (u upper) Filter(p []byte, last bool) ([]byte, error) {
	p = bytes.ToUpper(p)
	if last {
		return append(p, '!'), u.fail
	}
	return p, nil
}

func TestSendMakesAWholeAnswer(t *testing.T) {
	r, sink := begin()
	if err := r.Send(404, "text/plain", []byte("no")); err != nil {
		t.Fatal(err)
	}
	if sink.status != 404 || sink.length != 2 || sink.body.String() != "no" || r.Sent != 2 {
		t.Errorf("got %d, length %d, %q, %d sent", sink.status, sink.length, sink.body.String(), r.Sent)
	}
	if len(sink.header) != 1 || sink.header[0] != (exchange.Field{Name: "Content-Type", Value: "text/plain"}) {
		t.Errorf("header: got %v", sink.header)
	}
}

func TestSendKeepsATypeThatIsSet(t *testing.T) {
	r, _ := begin()
	r.Header.Set("content-type", "application/json")
	_ = r.Send(200, "text/plain", nil)
	if got := r.Header.Get("Content-Type"); got != "application/json" {
		t.Errorf("got %q", got)
	}
}

func TestTheHeadGoesOutOnce(t *testing.T) {
	r, sink := begin()
	hooks := 0
	r.SetHook(hook(func() { hooks++; r.Header.Set("Server", "s") }))
	for _, piece := range []string{"a", "", "b"} {
		if n, err := r.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Errorf("Write(%q): got %d, %v", piece, n, err)
		}
	}
	_ = r.Flush()
	_ = r.Finish()
	_ = r.Finish()
	if got := strings.Join(sink.calls, " "); got != "head write write flush" {
		t.Errorf("calls: got %q", got)
	}
	if hooks != 1 || sink.status != 200 || sink.length != -1 || len(sink.header) != 1 {
		t.Errorf("got %d hooks, status %d, length %d, header %v", hooks, sink.status, sink.length, sink.header)
	}
}

func TestAnInformationalAnswerIsNotTheAnswer(t *testing.T) {
	r, sink := begin()
	if err := r.Inform(103, header("Link", "x")); err != nil || r.Committed() || sink.status != 103 {
		t.Errorf("got %v, committed %v, status %d", err, r.Committed(), sink.status)
	}
	_ = r.Send(200, "", nil)
	if err := r.Inform(103, header()); err != nil || sink.status != 200 {
		t.Errorf("after the answer: got %v, status %d", err, sink.status)
	}
}

func TestSomeAnswersHaveNoBody(t *testing.T) {
	for _, status := range []int{204, 304, 200} {
		r, sink := begin()
		if status == 200 {
			r.NoBody() // to HEAD
		}
		if err := r.Send(status, "", []byte("text")); err != nil || sink.body.Len() != 0 || r.Sent != 0 {
			t.Errorf("%d: got %v, %q", status, err, sink.body.String())
		}
	}
}

func TestFiltersSeeEveryPieceAndTheEnd(t *testing.T) {
	r, sink := begin()
	r.Length = 2
	r.AddFilter(upper{})
	_, _ = r.Write([]byte("ab"))
	if err := r.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := sink.body.String(); got != "AB!" || sink.length != -1 || r.Sent != 3 {
		t.Errorf("got %q, length %d, %d sent", got, sink.length, r.Sent)
	}
}

func TestAFilterThatFailsBreaksTheAnswerOff(t *testing.T) {
	r, sink := begin()
	failed := errors.New("no")
	r.AddFilter(upper{fail: failed})
	_, _ = r.Write([]byte("ab"))
	if err := r.Finish(); !errors.Is(err, failed) {
		t.Errorf("got %v, want %v", err, failed)
	}
	if !sink.aborted || !r.Aborted() {
		t.Error("the client takes the answer for complete")
	}
}

func TestAbort(t *testing.T) {
	r, sink := begin()
	_, _ = r.Write([]byte("a"))
	r.Abort()
	if !sink.aborted || !r.Aborted() {
		t.Fatal("not aborted")
	}
	if _, err := r.Write([]byte("b")); !errors.Is(err, exchange.ErrAborted) {
		t.Errorf("Write: got %v", err)
	}
	if err := r.Flush(); !errors.Is(err, exchange.ErrAborted) {
		t.Errorf("Flush: got %v", err)
	}
	if err := r.Finish(); err != nil || sink.body.String() != "a" {
		t.Errorf("Finish: got %v, body %q", err, sink.body.String())
	}
}

func TestACompleteAnswerCannotBeBrokenOff(t *testing.T) {
	r, sink := begin()
	_ = r.Send(200, "", []byte("a"))
	r.Abort()
	if sink.aborted || r.Aborted() {
		t.Error("a complete answer was aborted")
	}
}

func TestTheFirstErrorOfWritingIsKept(t *testing.T) {
	gone := errors.New("gone")
	t.Run("of the head", func(t *testing.T) {
		r, sink := begin()
		sink.broken = gone
		if _, err := r.Write([]byte("a")); !errors.Is(err, gone) || !errors.Is(r.Err(), gone) {
			t.Errorf("got %v, Err %v", err, r.Err())
		}
		if got := strings.Join(sink.calls, " "); got != "head" {
			t.Errorf("calls: got %q, want the head alone", got)
		}
	})
	t.Run("of the body", func(t *testing.T) {
		r, sink := begin()
		_ = r.Commit()
		sink.broken = gone
		_, _ = r.Write([]byte("a"))
		sink.broken = nil
		if err := r.Finish(); !errors.Is(err, gone) || r.Sent != 0 {
			t.Errorf("got %v, %d sent", err, r.Sent)
		}
	})
	t.Run("of a flush", func(t *testing.T) {
		r, sink := begin()
		_ = r.Commit()
		sink.broken = gone
		if err := r.Flush(); !errors.Is(err, gone) || !errors.Is(r.Err(), gone) {
			t.Errorf("got %v, Err %v", err, r.Err())
		}
	})
}

func TestHijackEndsTheAnswer(t *testing.T) {
	r, sink := begin()
	if _, _, err := r.Hijack(); err != nil || !r.Committed() {
		t.Errorf("got %v, committed %v", err, r.Committed())
	}
	if err := r.Finish(); err != nil || len(sink.calls) != 0 {
		t.Errorf("Finish: got %v, calls %v", err, sink.calls)
	}
	r, sink = begin()
	sink.broken = errors.New("not possible")
	if _, _, err := r.Hijack(); err == nil || r.Committed() {
		t.Errorf("a hijack that failed: got %v, committed %v", err, r.Committed())
	}
}

func TestResetForgetsTheLastExchange(t *testing.T) {
	x, sink := new(exchange.Exchange), new(recorder)
	x.Reset(context.Background(), sink)
	x.ID = "1"
	x.Request.Header.Add("A", "1")
	x.Request.Body.Set([]byte("body"))
	x.Request.PostLimit = 5
	x.Facts.RouteID = "r"
	x.Facts.Params = append(x.Facts.Params, exchange.Param{Name: "a", Value: "b"})
	x.Facts.Attempts = append(x.Facts.Attempts, exchange.Attempt{Addr: "a"})
	x.Response.AddFilter(upper{})
	*x.Slot(2) = "kept"
	_ = x.Response.Send(200, "text/plain", []byte("a"))

	sink = new(recorder)
	x.Reset(context.Background(), sink)
	if x.ID != "" || x.Request.Header.Len() != 0 || x.Request.Body.Length() != 0 || x.Request.PostLimit != 0 || x.Facts.RouteID != "" ||
		len(x.Facts.Params) != 0 || len(x.Facts.Attempts) != 0 || *x.Slot(2) != nil || x.Facts.RequestType != "traditional_http" {
		t.Error("something of the last request is left")
	}
	if x.Response.Committed() || x.Response.Header.Len() != 0 || x.Response.Sent != 0 || x.Response.Length != -1 {
		t.Error("something of the last answer is left")
	}
	_ = x.Response.Send(200, "", []byte("a"))
	if got := sink.body.String(); got != "a" {
		t.Errorf("the last answer's filter is left: got %q", got)
	}
}
