package lua

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"testing"
	"time"
)

// silent is a server that takes connections and bytes and says nothing. It tells of the
// connections that ended.
func silent(t *testing.T) (addr *net.TCPAddr, ended chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended = make(chan struct{}, 10)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
				ended <- struct{}{}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().(*net.TCPAddr), ended
}

func TestCloseEndsWhatAScriptWaitsFor(t *testing.T) {
	addr, _ := silent(t)
	for name, chunk := range map[string]string{
		"a sleep":                 `ngx.log(ngx.WARN, "here") ngx.sleep(3600)`,
		"a sleep inside pcall":    `ngx.log(ngx.WARN, "here") pcall(ngx.sleep, 3600) ngx.sleep(3600)`,
		"a loop":                  `ngx.log(ngx.WARN, "here") while true do end`,
		"a loop of pcalls":        `ngx.log(ngx.WARN, "here") while true do pcall(error, "x") end`,
		"light threads":           `for i = 1, 3 do ngx.thread.spawn(ngx.sleep, 3600) end ngx.log(ngx.WARN, "here")`,
		"a thread that is waited": `local th = ngx.thread.spawn(ngx.sleep, 3600) ngx.log(ngx.WARN, "here") ngx.thread.wait(th)`,
		"a coroutine":             `local co = coroutine.wrap(function() coroutine.yield() end) co() ngx.log(ngx.WARN, "here") ngx.sleep(3600)`,
		"a socket": `local s = ngx.socket.tcp() s:connect("127.0.0.1", ` + portText(addr) + `)
			ngx.log(ngx.WARN, "here") s:settimeout(3600000) s:receive()`,
		"a request": `ngx.log(ngx.WARN, "here")
			require("resty.http").new():request_uri("http://127.0.0.1:` + portText(addr) + `/")`,
		"a command":                 `ngx.log(ngx.WARN, "here") os.execute("exec sleep 3600")`,
		"a command with a timeout":  `ngx.log(ngx.WARN, "here") require("resty.shell").run("exec sleep 3600", nil, 3600000)`,
		"the body of the request":   `ngx.log(ngx.WARN, "here") ngx.req.read_body()`,
		"a client that reads not":   `ngx.log(ngx.WARN, "here") ngx.say("x")`,
		"a timer, and then a sleep": `ngx.timer.at(0, function() ngx.log(ngx.WARN, "here") ngx.sleep(3600) end) ngx.sleep(3600)`,
	} {
		t.Run(name, func(t *testing.T) {
			here := make(chan struct{}, 10)
			rt := New(Options{Log: func(string, string) { here <- struct{}{} }})
			x, _ := newExchange("")
			gone := make(chan struct{})
			x.Abort = func() { close(gone) }
			x.Body = func() ([]byte, error) { <-gone; return nil, net.ErrClosed }
			x.Out = untilGone{gone}
			ended := make(chan error, 1)
			go func() { ended <- rt.Run(context.Background(), Content, "chunk", chunk, x, nil) }()
			<-here
			rt.Close()
			var interrupted *InterruptedError
			if err := <-ended; !errors.As(err, &interrupted) {
				t.Errorf("the run ended with %v", err)
			}
			if err := rt.Run(context.Background(), Content, "chunk", "return", x, nil); !errors.As(err, &interrupted) {
				t.Errorf("a run after Close ended with %v", err)
			}
			rt.Close() // does nothing
		})
	}
}

func portText(a *net.TCPAddr) string { return strconv.Itoa(a.Port) }

// untilGone is a client that takes nothing until it is gone.
type untilGone struct{ gone chan struct{} }

func (u untilGone) Write([]byte) (int, error) { <-u.gone; return 0, net.ErrClosed }
func (u untilGone) Flush() error              { return nil }
func (u untilGone) EOF() error                { return nil }

func TestCloseEndsTimersThatHaveNotCome(t *testing.T) {
	rt := New(Options{})
	x, _ := newExchange("")
	chunk := `ngx.timer.at(3600, function() end) ngx.timer.every(3600, function() end)`
	if err := rt.Run(t.Context(), Content, "chunk", chunk, x, nil); err != nil {
		t.Fatal(err)
	}
	rt.Close()
}

func TestCloseEndsTheSocketsThatScriptsLeft(t *testing.T) {
	addr, ended := silent(t)
	rt := New(Options{})
	x, _ := newExchange("")
	chunk := `local kept = ngx.socket.tcp() kept:connect("127.0.0.1", ` + portText(addr) + `) kept:setkeepalive()
		left = ngx.socket.tcp() left:connect("127.0.0.1", ` + portText(addr) + `, {pool = "other"})`
	if err := rt.Run(t.Context(), Content, "chunk", chunk, x, nil); err != nil {
		t.Fatal(err)
	}
	rt.Close()
	<-ended
	<-ended
}

func TestAContextThatEndsInterruptsAScript(t *testing.T) {
	rt := newRuntime(t, Options{})
	x, out := newExchange("")
	aborted := make(chan struct{})
	x.Abort = func() { close(aborted) }
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	err := rt.Run(ctx, Content, "chunk", `ngx.sleep(3600) ngx.say("done")`, x, nil)
	var interrupted *InterruptedError
	if !errors.As(err, &interrupted) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	<-aborted
	if got := out.String(); got != "" {
		t.Errorf("it answered %q", got)
	}
}

func TestAScriptThatEndsByItselfAbortsNobody(t *testing.T) {
	rt := newRuntime(t, Options{})
	for _, chunk := range []string{`ngx.say("a")`, `ngx.exit(403)`, `error("x")`, `ngx.thread.spawn(function() ngx.exit(200) end) ngx.sleep(3600)`} {
		x, _ := newExchange("")
		x.Abort = func() { t.Errorf("%s: aborted", chunk) }
		_ = rt.Run(t.Context(), Content, "chunk", chunk, x, nil)
	}
}
