package t

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// life is what connections go through: clients that are slow, that leave, that ask for much
// at once.
func (w *wireWorld) life() {
	for name, run := range map[string]func(*wireWorld){
		"who half-closes has left":                    (*wireWorld).halfClose,
		"a body may come slowly once it is asked for": (*wireWorld).expect,
		"bursts are answered in order":                (*wireWorld).bursts,
		"a slow client is served":                     (*wireWorld).slow,
		"a client that is too slow is cut":            (*wireWorld).tooSlow,
		"who leaves takes nobody's answer along":      (*wireWorld).leavers,
		"a malformed chunk is the client's fault":     (*wireWorld).blame,
	} {
		w.t.Run(name, func(t *testing.T) {
			w := w.on(t)
			run(w)
			for _, complaint := range w.up.complaints() {
				t.Error(complaint)
			}
		})
	}
}

// await waits for a signal of the provider.
func (w *wireWorld) await(c chan struct{}, what string) {
	w.t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		w.t.Fatalf("it did not come to pass: %s", what)
	}
}

// A FIN behind a request means that nobody waits for the answer, whatever there is of it.
func (w *wireWorld) halfClose() {
	for i, request := range []string{
		"GET " + pathHold + " HTTP/1.1\r\nHost: wire.test\r\nX-Tag: TAG\r\n\r\n",
		"POST " + pathHold + " HTTP/1.1\r\nHost: wire.test\r\nX-Tag: TAG\r\nContent-Length: 5\r\n\r\nhello",
		"POST " + pathHold + " HTTP/1.1\r\nHost: wire.test\r\nX-Tag: TAG\r\n" + chunked + "\r\n" + oneChunk,
		"GET " + pathHalf + " HTTP/1.1\r\nHost: wire.test\r\nX-Tag: TAG\r\n\r\n",
		"POST " + pathHalf + " HTTP/1.1\r\nHost: wire.test\r\nX-Tag: TAG\r\nContent-Length: 5\r\n\r\nhello",
	} {
		tag := fmt.Sprintf("half%d", i)
		c := w.dial()
		if _, err := io.WriteString(c, strings.Replace(request, "TAG", tag, 1)); err != nil {
			w.t.Fatal(err)
		}
		w.await(w.up.signal(w.up.held, tag), "the provider has the request")
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		w.await(w.up.signal(w.up.left, tag), "the provider learns that the client has left")
		// What there was may have been sent; there is no whole answer.
		if rest, err := io.ReadAll(c.r); strings.HasSuffix(string(rest), "world") || strings.Contains(string(rest), "Content-Length: 0") {
			w.t.Errorf("%s got %q, %v", tag, rest, err)
		}
		_ = c.Close()
	}
	w.well("after.half")
}

func (w *wireWorld) expect() {
	for i, framing := range []string{"Content-Length: 5\r\n", chunked} {
		tag := fmt.Sprintf("expect%d", i)
		c := w.dial()
		if _, err := io.WriteString(c, "POST /wire/x HTTP/1.1\r\nHost: wire.test\r\nX-Tag: "+tag+"\r\nExpect: 100-continue\r\n"+framing+"\r\n"); err != nil {
			w.t.Fatal(err)
		}
		if a, err := c.next("POST"); err != nil || a.status != http.StatusContinue {
			w.t.Fatalf("got %v, %v, want 100", a, err)
		}
		body := "hello"
		if framing == chunked {
			body = oneChunk
		}
		for i := range len(body) {
			if _, err := io.WriteString(c, body[i:i+1]); err != nil {
				w.t.Fatal(err)
			}
		}
		if a, err := c.next("POST"); err != nil || a.to != tag || a.body != digest("POST", "/wire/x", "hello") {
			w.t.Errorf("got %v %q, %v", a, a.body, err)
		}
		// The connection is as any other.
		if _, err := io.WriteString(c, last(tag)); err != nil {
			w.t.Fatal(err)
		}
		if all, err := c.rest(); err != nil || len(all) != 2 || all[0].to != tag+".last" || all[1].to != tag+".end" {
			w.t.Errorf("then got %v, %v", all, err)
		}
	}
	// Nobody is asked for a body that nobody will read, and what comes of it all the same is
	// not taken for a request.
	c := w.dial()
	if _, err := io.WriteString(c, fmt.Sprintf("POST /none HTTP/1.1\r\nHost: wire.test\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", len(smuggled))); err != nil {
		w.t.Fatal(err)
	}
	a, err := c.next("POST")
	if err != nil || a.status != http.StatusNotFound {
		w.t.Fatalf("got %v, %v, want 404 at once", a, err)
	}
	sent := c.write(smuggled)
	if !a.closes {
		sent.Wait()
		_ = c.Conn.(*net.TCPConn).CloseWrite()
	}
	if all, _ := c.rest(); len(all) > 0 {
		w.t.Errorf("the body was answered: %v", all)
	}
	_ = c.Close()
	sent.Wait()
}

// bursts are many requests in one write.
func (w *wireWorld) bursts() {
	const number = 300
	var text strings.Builder
	type want struct{ tag, method, digest string }
	var wants []want
	for i := range number {
		tag := fmt.Sprintf("burst%d", i)
		head := " /wire/x?" + tag + " HTTP/1.1\r\nHost: wire.test\r\nX-Tag: " + tag + "\r\n"
		body := strings.Repeat("b", i)
		target := "/wire/x?" + tag
		switch i % 4 {
		case 0:
			text.WriteString("GET" + head + "\r\n")
			wants = append(wants, want{tag, "GET", digest("GET", target, "")})
		case 1:
			fmt.Fprintf(&text, "POST%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
			wants = append(wants, want{tag, "POST", digest("POST", target, body)})
		case 2:
			fmt.Fprintf(&text, "PUT%s%s\r\n%x\r\n%s\r\n0\r\n\r\n", head, chunked, len(body), body)
			wants = append(wants, want{tag, "PUT", digest("PUT", target, body)})
		case 3:
			text.WriteString("HEAD" + head + "\r\n")
			wants = append(wants, want{tag, "HEAD", ""})
		}
	}
	c := w.dial()
	sent := c.write(text.String() + last("burst"))
	for i, want := range wants {
		a, err := c.next(want.method)
		if err != nil || a.status != 200 || a.to != want.tag || a.body != want.digest {
			w.t.Fatalf("answer %d is %v %q, %v, want that to %v", i, a, a.body, err, want)
		}
	}
	if all, err := c.rest(); err != nil || len(all) != 2 {
		w.t.Errorf("then got %v, %v", all, err)
	}
	_ = c.Close()
	sent.Wait()
}

// slow sends byte by byte, each in a write of its own.
func (w *wireWorld) slow() {
	var clients sync.WaitGroup
	for i, rest := range []string{
		"Content-Length: 5\r\n\r\nhello",
		chunked + "\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nX-Late: canary\r\n\r\n",
		chunked + "\r\n5\r\nhello\r\n0\r\n\r\n",
	} {
		tag := fmt.Sprintf("slow%d", i)
		c := w.dial()
		clients.Go(func() {
			text := "POST /wire/x HTTP/1.1\r\nHost: wire.test\r\nX-Tag: " + tag + "\r\n" + rest + last(tag)
			for i := range len(text) {
				if _, err := io.WriteString(c, text[i:i+1]); err != nil {
					w.t.Errorf("%s: after %d bytes: %v", tag, i, err)
					return
				}
			}
			all, err := c.rest()
			if err != nil || len(all) != 3 || all[0].to != tag || all[0].body != digest("POST", "/wire/x", "hello") || all[2].to != tag+".end" {
				w.t.Errorf("%s: got %v, %v", tag, all, err)
			}
		})
	}
	clients.Wait()
}

// tooSlow has a gateway of its own, which waits for nobody.
func (w *wireWorld) tooSlow() {
	const unread = 20 // times that a head may come too late itself, where the machine is busy
	n := start(w.t, "gosix", wireSettings(w.engine, "  limits: {header_timeout: 0.3, body_timeout: 0.3, idle_timeout: 0.3}\n"))
	w.routes(n)
	const head = "POST /wire/x HTTP/1.1\r\nHost: wire.test\r\nX-Tag: "
	for name, tt := range map[string]struct {
		text string
		drip string // what comes on and on
		told bool   // 408, else the connection may just end
	}{
		"silence":                     {"", "", false},
		"a part of a request line":    {"POST /wi", "", false},
		"a part of a head":            {head, "", false},
		"a head that comes and comes": {head + "drip\r\n", "X-A: b\r\n", false},
		"a part of a body":            {head + "toolate.length\r\nContent-Length: 50\r\n\r\nhe", "", true},
		"a part of a chunk":           {head + "toolate.chunk\r\n" + chunked + "\r\n5\r\nhe", "", true},
		"a part of a chunk's size":    {head + "toolate.size\r\n" + chunked + "\r\n5", "", true},
		"chunks without a last one":   {head + "toolate.last\r\n" + chunked + "\r\n5\r\nhello\r\n", "", true},
		"no chunk at all":             {head + "toolate.none\r\n" + chunked + "\r\n", "", true},
	} {
		w.t.Run(name, func(t *testing.T) {
			w := w.on(t)
			try := func() ([]wireAnswer, error) {
				c := w.dialTo(n)
				_, _ = io.WriteString(c, tt.text)
				if tt.drip != "" {
					gone := make(chan struct{})
					defer func() { <-gone }()
					go func() {
						defer close(gone)
						for range time.Tick(10 * time.Millisecond) {
							if _, err := io.WriteString(c, tt.drip); err != nil {
								return
							}
						}
					}()
				}
				all, err := c.rest()
				_ = c.Close()
				return all, err
			}
			all, err := try()
			for range unread {
				if !tt.told || err != nil || len(all) > 0 {
					break
				}
				all, err = try()
			}
			if err != nil || len(all) > 1 || tt.told && len(all) == 0 ||
				len(all) == 1 && (!all[0].closes || !slices.Contains([]int{400, 408, 431}, all[0].status) || tt.told && all[0].status != 408) {
				t.Errorf("got %v, %v", all, err)
			}
		})
	}
	for _, tag := range []string{"drip", "toolate.length", "toolate.chunk", "toolate.size", "toolate.last", "toolate.none"} {
		if took := w.up.tagged(tag); len(took) > 0 {
			w.t.Errorf("the provider took the whole of %s", tag)
		}
	}
	// A connection without a request ends by itself.
	var all []wireAnswer
	var err error
	for range unread {
		c := w.dialTo(n)
		_, _ = io.WriteString(c, "GET /wire/x HTTP/1.1\r\nHost: wire.test\r\nX-Tag: idle\r\n\r\n")
		if all, err = c.rest(); err != nil || len(all) > 0 {
			break
		}
	}
	if err != nil || len(all) != 1 || all[0].to != "idle" {
		w.t.Errorf("got %v, %v, want an answer and an end", all, err)
	}
	// Its requests are not those of the other gateway's log.
	w.up.mu.Lock()
	delete(w.up.took, "idle")
	w.up.mu.Unlock()
}

// leavers break off in the middle of answers, while others ask.
func (w *wireWorld) leavers() {
	var all sync.WaitGroup
	for worker := range 4 {
		all.Go(func() {
			for round := range 15 {
				tag := fmt.Sprintf("leave%d.%d", worker, round)
				path := []string{pathHalf, pathLate, pathBig}[round%3]
				conn, err := net.DialTimeout("tcp", w.node.Gateway[0], patience)
				if err != nil {
					w.t.Error(err)
					return
				}
				_ = conn.SetDeadline(time.Now().Add(patience))
				_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: wire.test\r\nX-Tag: "+tag+"\r\n\r\n")
				if _, err := io.ReadFull(conn, make([]byte, 20)); err != nil {
					w.t.Errorf("%s: %v", tag, err)
				}
				if round%2 == 0 {
					_ = conn.(*net.TCPConn).SetLinger(0)
				}
				_ = conn.Close()
				if path == pathLate {
					close(w.up.signal(w.up.left, tag))
				}
				for i := range 3 {
					w.wellDone(fmt.Sprintf("%s.%d", tag, i))
				}
			}
		})
	}
	all.Wait()
}

// wellDone is well for other goroutines than the test's.
func (w *wireWorld) wellDone(tag string) {
	conn, err := net.DialTimeout("tcp", w.node.Gateway[0], patience)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer func() { _ = conn.Close() }()
	w.check(conn, tag)
}

// blame sends bodies that are no chunks to an upstream that one failure makes unhealthy.
func (w *wireWorld) blame() {
	other := newStrict(w.t)
	n := w.node
	n.must("PUT", "/routes/blame", `{"uri":"/wire/blame","upstream":{"nodes":{"`+w.up.addr+`":1,"`+other.addr+`":1},
		"checks":{"active":{"type":"tcp","healthy":{"interval":60},"unhealthy":{"interval":60}},"passive":{"type":"tcp","unhealthy":{"tcp_failures":1,"timeouts":1}}}}}`)
	defer n.must("DELETE", "/routes/blame", "")
	request := func(tag, rest string) ([]wireAnswer, error) {
		return w.exchange("POST /wire/blame HTTP/1.1\r\nHost: wire.test\r\nX-Tag: " + tag + "\r\nConnection: close\r\n" + rest)
	}
	long := strings.Repeat("x", 100<<10)
	bad := []string{
		chunked + "\r\nxyz\r\nhello\r\n0\r\n\r\n",
		chunked + "\r\n5\r\nhelloX\r\n0\r\n\r\n",
		chunked + "\r\n5\r\nhello\r\nfffffffffffffffffff\r\n",
		chunked + "\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(long), long) + "-1\r\n\r\n", // a part is on its way
	}
	for round := range 5 {
		for i, rest := range bad {
			tag := fmt.Sprintf("blame%d.%d", round, i)
			all, err := request(tag, rest)
			if err != nil || len(all) != 1 || all[0].status != http.StatusBadRequest || !all[0].closes {
				w.t.Errorf("%.40q got %v, %v, want 400", rest, all, err)
			}
			if len(w.up.tagged(tag))+len(other.tagged(tag)) > 0 {
				w.t.Errorf("a provider took the whole of %.40q", rest)
			}
		}
	}
	const number = 10
	for i := range number {
		if all, err := request(fmt.Sprintf("fine%d", i), "Content-Length: 5\r\n\r\nhello"); err != nil || len(all) != 1 || all[0].status != 200 {
			w.t.Errorf("got %v, %v", all, err)
		}
	}
	shares := func(p *strict) (share int) {
		for i := range number {
			share += len(p.tagged(fmt.Sprintf("fine%d", i)))
		}
		return share
	}
	if a, b := shares(w.up), shares(other); a == 0 || b == 0 {
		w.t.Errorf("of %d requests one provider has %d, the other %d: a client made one unhealthy", number, a, b)
	}
	for _, complaint := range other.complaints() {
		w.t.Error(complaint)
	}
	// What the other took counts as this one's, when all is compared with the log.
	other.mu.Lock()
	defer other.mu.Unlock()
	w.up.mu.Lock()
	defer w.up.mu.Unlock()
	for tag, took := range other.took {
		w.up.took[tag] = append(w.up.took[tag], took...)
	}
}

// ceilings are what one client may ask for without that others notice.
func (w *wireWorld) ceilings() {
	ai := func(body, more string) string {
		return fmt.Sprintf("POST /ai HTTP/1.1\r\nHost: wire.test\r\nX-Tag: ceiling\r\nContent-Type: application/json\r\nConnection: close\r\n%sContent-Length: %d\r\n\r\n%s", more, len(body), body)
	}
	get := func(fields string) string {
		return "GET /wire/x HTTP/1.1\r\nHost: wire.test\r\nX-Tag: ceiling\r\nConnection: close\r\n" + fields + "\r\n"
	}
	var bomb bytes.Buffer
	z, _ := gzip.NewWriterLevel(&bomb, gzip.BestCompression)
	_, _ = z.Write(make([]byte, 32<<20))
	_ = z.Close()
	const depth = 100_000
	for name, tt := range map[string]struct {
		text   string
		status int
	}{
		"5,000 fields":                       {get(many(5000, "X-%d: a\r\n")), 431},
		"5,000 fields of one name":           {get(strings.Repeat("X: a\r\n", 5000)), 431},
		"a field of 64 KiB":                  {get("X: " + strings.Repeat("a", 64<<10) + "\r\n"), 431},
		"10,000 cookies":                     {get("Cookie: " + many(10_000, "a%d=b; ") + "\r\n"), 431},
		"a target of 64 KiB":                 {strings.Replace(get(""), "/wire/x", "/wire/"+strings.Repeat("a", 64<<10), 1), 0},
		"JSON 100,000 deep":                  {ai(strings.Repeat("[", depth)+strings.Repeat("]", depth), ""), 0},
		"JSON 100,000 deep in a member":      {ai(`{"model":"allowed","messages":[{"role":"user","content":"hi"}],"x":`+strings.Repeat(`{"a":`, depth)+"1"+strings.Repeat("}", depth)+"}", ""), 0},
		"JSON without an end":                {ai(`{"model":"allowed","messages":`+strings.Repeat("[", depth), ""), 0},
		"3 MiB of empty objects":             {ai("["+strings.Repeat("{},", 1<<20)+"{}]", ""), 0},
		"a member 10,000 times":              {ai(`{"model":"allowed","messages":[{"role":"user","content":"hi"}]`+strings.Repeat(`,"a":1`, 10_000)+"}", ""), 0},
		"a gzip bomb of 32 MiB":              {ai(bomb.String(), "Content-Encoding: gzip\r\n"), 0},
		"a body that is announced, and huge": {"POST /ai HTTP/1.1\r\nHost: wire.test\r\nContent-Length: 99999999999\r\n\r\n{", 0},
	} {
		w.t.Run(name, func(t *testing.T) {
			w := w.on(t)
			all, err := w.exchange(tt.text)
			switch {
			case err != nil || len(all) != 1 || all[0].to != "" || all[0].status < 400 || all[0].status >= 500:
				t.Errorf("got %v, %v", all, err)
			case tt.status != 0 && all[0].status != tt.status:
				t.Errorf("got %d, want %d", all[0].status, tt.status)
			}
			w.well("ceiling." + strings.ReplaceAll(name, " ", "-"))
		})
	}
	// Whoever does not look into a body passes it on as it is.
	w.t.Run("a gzip bomb passes as it came", func(t *testing.T) {
		w := w.on(t)
		all, err := w.exchange(fmt.Sprintf("POST /wire/x HTTP/1.1\r\nHost: wire.test\r\nX-Tag: bomb\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", bomb.Len(), bomb.String()))
		if err != nil || len(all) != 1 || all[0].body != digest("POST", "/wire/x", bomb.String()) {
			t.Errorf("got %v, %v", all, err)
		}
	})
	w.t.Run("5,000 fields over HTTP/2", func(t *testing.T) {
		w := w.on(t)
		f := w.dialH2()
		defer func() { _ = f.Close() }()
		var more [][2]string
		for i := range 5000 {
			more = append(more, [2]string{fmt.Sprintf("x-%d", i), "a"})
		}
		id := f.open(asked("GET", "/wire/x", "fields2", more...), true)
		if a, err := f.await(id); err == nil && a.reset == "" && a.status != 431 {
			t.Errorf("got %d", a.status)
		}
		if len(w.up.tagged("fields2")) > 0 {
			t.Error("it was served")
		}
		w.well("fields2.after")
	})
	w.t.Run("hostile", func(t *testing.T) { w.on(t).hostile() })
	w.node.alive()
	const most = 256 << 20
	if got := w.node.resident(); got > most {
		w.t.Errorf("the gateway took %d MiB, want at most %d", got>>20, most>>20)
	}
	for _, complaint := range w.up.complaints() {
		w.t.Error(complaint)
	}
}
