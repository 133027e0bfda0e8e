//go:build linux

package socket_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/socket"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// pair returns both ends of a connection.
func pair(t *testing.T) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dialled := make(chan net.Conn, 1)
	go func() {
		c, _ := net.Dial("tcp", l.Addr().String())
		dialled <- c
	}()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	near, far = c.(*net.TCPConn), (<-dialled).(*net.TCPConn)
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, far
}

func TestAProbeSeesWithoutReading(t *testing.T) {
	near, far := pair(t)
	var p socket.Probe
	if p.Known() || p.Look() != socket.Quiet {
		t.Error("the zero value knows something")
	}
	p.Init(near)
	if got := p.Look(); !p.Known() || got != socket.Quiet {
		t.Errorf("nothing came, it saw %d", got)
	}
	see := func(want socket.State) {
		t.Helper()
		timetest.Until(t, fmt.Sprintf("it sees %d", want), func() bool { return p.Look() == want })
	}
	if _, err := io.WriteString(far, "x"); err != nil {
		t.Fatal(err)
	}
	see(socket.Pending)
	_ = far.CloseWrite()
	see(socket.Pending) // bytes come before the end
	if _, err := io.ReadFull(near, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	see(socket.Gone)
}

func TestAReaderHoldsNoMemoryWhileItWaits(t *testing.T) {
	near, far := pair(t)
	held, waits := make([]byte, 8), make(chan struct{}, 10)
	taken := 0
	r := socket.NewReader(socket.Raw(near), func() []byte { taken++; return held }, func() { taken--; waits <- struct{}{} })
	go func() {
		<-waits
		_, _ = io.WriteString(far, "hello")
	}()
	if n, err := r.Read(); n != 5 || err != nil || string(held[:n]) != "hello" || taken != 1 {
		t.Errorf("got %q, %v, holding %d", held[:n], err, taken)
	}
	_ = far.Close()
	if n, err := r.Read(); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
	_ = near.SetReadDeadline(time.Unix(1, 0))
	if _, err := r.Read(); err == nil || err == io.EOF {
		t.Errorf("behind its deadline: %v", err)
	}
}

func TestDeparturesAreTold(t *testing.T) {
	told := make(chan uint64, 10)
	d, err := socket.NewDepartures(func(token uint64) { told <- token })
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const first, second, third = 1<<40 | 7, 1<<63 | 8, 9
	before := map[uint64]bool{}
	for token, act := range map[uint64]func(c *net.TCPConn){
		first:  func(c *net.TCPConn) { _ = c.CloseWrite() },
		second: func(c *net.TCPConn) { _ = c.SetLinger(0); _ = c.Close() },
	} {
		near, far := pair(t)
		if err := d.Add(socket.Raw(near), token); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(far, "bytes are no departure")
		act(far)
		for got := <-told; got != token; got = <-told {
			if !before[got] { // which may be told of twice
				t.Errorf("told of %x, want %x", got, token)
			}
		}
		before[token] = true
	}
	// One that had left before is told of, too, and one that is not watched any more is not.
	near, far := pair(t)
	unwatched, alsoFar := pair(t)
	_ = far.Close()
	if err := d.Add(socket.Raw(unwatched), third+1); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(socket.Raw(unwatched)); err != nil {
		t.Fatal(err)
	}
	_ = alsoFar.Close()
	if err := d.Add(socket.Raw(near), third); err != nil {
		t.Fatal(err)
	}
	for got := <-told; got != third; got = <-told {
		if got == third+1 {
			t.Error("told of one that is not watched")
		}
	}
}

// readLater reads all of a connection once begin is closed.
func readLater(far net.Conn) (begin chan struct{}, got chan []byte) {
	begin, got = make(chan struct{}), make(chan []byte)
	go func() {
		<-begin
		p, _ := io.ReadAll(far)
		got <- p
	}()
	return begin, got
}

func TestAWriterWaitsForRoom(t *testing.T) {
	near, far := pair(t)
	text := make([]byte, 8<<20) // more than the kernel takes before somebody reads
	for i := range text {
		text[i] = byte(i / 7)
	}
	begin, got := readLater(far)
	w := socket.NewWriter(socket.Raw(near))
	n := 0
	timetest.Stretch(t, 20*time.Millisecond, func(limit time.Duration) (err error) {
		_ = near.SetWriteDeadline(time.Now().Add(limit))
		if n, err = w.Write(text); n == 0 {
			return err // the time was over before
		}
		if e, ok := err.(net.Error); n == len(text) || !ok || !e.Timeout() {
			t.Fatalf("while nobody reads: %d bytes, %v", n, err)
		}
		return nil
	})
	_ = near.SetWriteDeadline(time.Time{})
	close(begin)
	if m, err := w.Write(text[n:]); n+m != len(text) || err != nil {
		t.Errorf("it wrote %d bytes: %v", m, err)
	}
	_ = near.CloseWrite()
	if p := <-got; !bytes.Equal(p, text) {
		t.Errorf("%d bytes came, or others", len(p))
	}
	if n, err := w.Write([]byte("x")); n != 0 || err == nil {
		t.Errorf("behind the end: %d, %v", n, err)
	}
}

func TestCallsSayThatNothingIsThere(t *testing.T) {
	near, far := pair(t)
	see := func(do func(fd uintptr)) {
		t.Helper()
		if err := socket.Raw(near).Control(do); err != nil {
			t.Fatal(err)
		}
	}
	p := make([]byte, 64<<10)
	see(func(fd uintptr) {
		if n, err := socket.Receive(fd, p); n != 0 || err != syscall.EAGAIN {
			t.Errorf("nothing came, it read %d: %v", n, err)
		}
	})
	if _, err := far.Write(p); err != nil {
		t.Fatal(err)
	}
	for left := len(p); left > 0; {
		see(func(fd uintptr) {
			n, err := socket.Receive(fd, p)
			if err != nil && err != syscall.EAGAIN {
				t.Fatal(err)
			}
			left -= n
		})
	}
	_ = far.Close()
	see(func(fd uintptr) {
		for _, q := range [][]byte{p, p[:1]} {
			if n, err := socket.Receive(fd, q); n != 0 || err != nil {
				t.Errorf("at the end: %d, %v", n, err)
			}
		}
	})
}

func TestPartsGoOutInOrder(t *testing.T) {
	near, far := pair(t)
	var parts [][]byte
	want := ""
	for i := range socket.MaxParts + 3 {
		p := bytes.Repeat([]byte{byte('a' + i)}, i*5000) // the first one is empty
		parts = append(parts, p)
		want += string(p)
	}
	got := make(chan string)
	go func() {
		p := make([]byte, len(want))
		_, _ = io.ReadFull(far, p)
		got <- string(p)
	}()
	var err error
	for left := len(want); left > 0 && err == nil; {
		n := 0
		_ = socket.Raw(near).Write(func(fd uintptr) bool {
			n, err = socket.SendParts(fd, parts)
			if err == syscall.EAGAIN {
				err = nil
				return false
			}
			return true
		})
		left -= n
		for len(parts) > 0 && n >= len(parts[0]) {
			n -= len(parts[0])
			parts = parts[1:]
		}
		if len(parts) > 0 {
			parts[0] = parts[0][n:]
		}
	}
	if p := <-got; err != nil || p != want {
		t.Errorf("%d bytes came, or others: %v", len(p), err)
	}
}

func TestAReaderFillsWithWhatIsThere(t *testing.T) {
	near, far := pair(t)
	r := socket.NewReader(socket.Raw(near), nil, nil)
	p := make([]byte, 8)
	if n := r.Fill(p); n != 0 {
		t.Errorf("nothing came, it read %d", n)
	}
	if _, err := io.WriteString(far, "hello, world"); err != nil {
		t.Fatal(err)
	}
	_ = far.CloseWrite()
	got := ""
	timetest.Until(t, "all of it was read", func() bool { got += string(p[:r.Fill(p)]); return len(got) == 12 })
	if got != "hello, world" || r.Fill(p) != 0 {
		t.Errorf("it read %q", got)
	}
	_ = near.SetReadDeadline(time.Unix(1, 0))
	if n := r.Fill(p); n != 0 {
		t.Errorf("behind its deadline it read %d", n)
	}
}

func TestAReaderServesWhatComesWhileItServes(t *testing.T) {
	near, far := pair(t)
	memory, tries := make([]byte, 8), 0
	r := socket.NewReader(socket.Raw(near), func() []byte { tries++; return memory }, func() {})
	got := ""
	send := func(text string) {
		if _, err := io.WriteString(far, text); err != nil {
			t.Error(err)
		}
	}
	go send("first")
	n, err := r.Each(func(fd uintptr, n int) bool {
		if got += string(memory[:n]) + "|"; got == "first|" {
			send("second")
			var p [1]byte
			timetest.Until(t, "it has come", func() bool { return socket.Glance(fd, &p) == socket.Pending })
		}
		return got != "first|second|" // then it is over
	})
	if n != 6 || err != nil || got != "first|second|" {
		t.Errorf("it served %q, then %d, %v", got, n, err)
	}
	got = ""
	go send("more than the memory")
	_ = near.SetReadDeadline(time.Now().Add(timetest.Patience))
	if n, err := r.Each(func(_ uintptr, n int) bool {
		got += string(memory[:n])
		return got != "more than the memory"
	}); n == 0 || err != nil {
		t.Errorf("it served %q, then %d, %v", got, n, err)
	}
	_ = near.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := r.Each(func(uintptr, int) bool { return true }); n != 0 || err == nil || err == io.EOF {
		t.Errorf("at its deadline: %d, %v", n, err)
	}
	_ = near.SetReadDeadline(time.Time{})
	go func() {
		send("last")
		_ = far.CloseWrite()
	}()
	if n, err := r.Each(func(fd uintptr, _ int) bool {
		var p [1]byte
		timetest.Until(t, "the end has come", func() bool { return socket.Glance(fd, &p) == socket.Gone })
		socket.Wake(near)
		return true
	}); n != 0 || err != io.EOF {
		t.Errorf("at the end: %d, %v", n, err)
	}
}

// What was there has been read, so that a reader that has served waits without a try.
func TestAReaderDoesNotTryWhereNothingIs(t *testing.T) {
	near, far := pair(t)
	memory, tries := make([]byte, 8), 0
	r := socket.NewReader(socket.Raw(near), func() []byte { tries++; return memory }, func() {})
	served := make(chan struct{})
	const times = 5
	go func() {
		for range times {
			_, _ = io.WriteString(far, "hello")
			<-served
		}
	}()
	left := times
	if _, err := r.Each(func(uintptr, int) bool { served <- struct{}{}; left--; return left > 0 }); err != nil {
		t.Fatal(err)
	}
	if tries > times+1 { // the first may have come too early
		t.Errorf("it tried %d times to read %d messages", tries, times)
	}
}

func TestAWriterThatHoldsItsSocketWaitsForRoom(t *testing.T) {
	near, far := pair(t)
	text := bytes.Repeat([]byte("0123456789abcdef"), 512<<10)
	begin, got := readLater(far)
	w := socket.NewWriter(socket.Raw(near))
	n := 0
	if err := socket.Raw(near).Control(func(fd uintptr) {
		w.Hold(fd)
		defer w.Release()
		var err error
		timetest.Stretch(t, 20*time.Millisecond, func(limit time.Duration) error {
			_ = near.SetWriteDeadline(time.Now().Add(limit))
			if n, err = w.Write(text); n == 0 {
				return err // the time was over before
			}
			if n == len(text) || err == nil {
				t.Errorf("while nobody reads: %d bytes, %v", n, err)
			}
			return nil
		})
		_ = near.SetWriteDeadline(time.Time{})
		close(begin)
		var m int
		m, err = w.Write(text[n:])
		if n += m; n != len(text) || err != nil {
			t.Errorf("it wrote %d bytes: %v", n, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	_ = near.CloseWrite()
	if p := <-got; !bytes.Equal(p, text) {
		t.Errorf("%d bytes came, or others", len(p))
	}
}
