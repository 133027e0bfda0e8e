package lua

import (
	"net"
	"testing"
)

func TestASocketIsClosedOnceAfterItsServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = c.Write([]byte("a line\nrest"))
		_ = c.Close()
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	check(t, newRuntime(t, Options{}), []snippet{{"what was sent is read, and then it is closed", `
		local s = ngx.socket.tcp()
		s:connect("127.0.0.1", ` + portText(l.Addr().(*net.TCPAddr)) + `)
		ngx.say(s:receive())
		ngx.say(s:receive())
		ngx.say(s:receive())
		ngx.say(s:setkeepalive())
		ngx.say(s:close())
		ngx.say(s:close())`, "a line\nnilclosedrest\nnilclosed\nnilclosed\n1\nnilclosed"}})
}
