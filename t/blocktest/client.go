package blocktest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// A received answer is the raw bytes that came back, and whether waiting for more of them
// took too long.
type received struct {
	raw      []byte
	timedOut bool
	arrivals []arrival
}

// An arrival says how long after the request so many bytes had come.
type arrival struct {
	bytes int
	after time.Duration
}

// send writes a request and reads until the server closes, or says nothing for timeout.
// shutdown, when it is not negative, is how the connection is shut down behind the request:
// 0 for reading, 1 for writing, 2 for both.
func send(ctx context.Context, addr string, req outgoing, timeout time.Duration, shutdown int) (*received, error) {
	d := net.Dialer{Timeout: timeout}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })
	defer stop()

	began := time.Now()
	var written atomic.Int64 // how long after that the request was out; 0: not yet
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { written.Store(int64(time.Since(began))) }()
		if writePackets(ctx, conn, req.packets, timeout) == nil {
			shutDown(conn, shutdown)
		}
	}()
	got, err := readAll(ctx, conn, timeout, began, &written)
	conn.Close()
	<-done
	return got, err
}

// writePackets ends with the first write that fails: a server may answer and close before
// it read everything, which is no failure of the block.
func writePackets(ctx context.Context, conn net.Conn, packets []packet, timeout time.Duration) error {
	for i, p := range packets {
		if i > 0 && p.delay > 0 {
			if err := pause(ctx, p.delay); err != nil {
				return err
			}
		}
		if err := conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
			return err
		}
		if _, err := io.WriteString(conn, p.data); err != nil {
			return err
		}
	}
	return nil
}

func shutDown(conn net.Conn, how int) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	if how == 1 || how == 2 {
		tcp.CloseWrite()
	}
	if how == 0 || how == 2 {
		tcp.CloseRead()
	}
}

// readAll reads what comes. The silence that it bounds begins with the last bytes in either
// direction: while the request is being written, it is ours.
func readAll(ctx context.Context, conn net.Conn, timeout time.Duration, began time.Time, written *atomic.Int64) (*received, error) {
	got := &received{}
	buf := make([]byte, 32<<10)
	deadline := began.Add(timeout)
	for {
		sending := written.Load() == 0
		if err := conn.SetReadDeadline(deadline); err != nil {
			return got, nil // closed
		}
		n, err := conn.Read(buf)
		if n > 0 {
			got.raw = append(got.raw, buf[:n]...)
			got.arrivals = append(got.arrivals, arrival{len(got.raw), time.Since(began)})
		}
		switch {
		case err == nil:
			deadline = time.Now().Add(timeout)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.Is(err, os.ErrDeadlineExceeded):
			if sending {
				deadline = time.Now().Add(timeout)
				if out := written.Load(); out > 0 {
					deadline = began.Add(time.Duration(out) + timeout)
				}
				continue
			}
			got.timedOut = true
			return got, nil
		default:
			return got, nil // the end of the answer, in whichever way
		}
		if len(got.raw) > maxAnswer {
			return nil, fmt.Errorf("an answer of more than %d bytes", maxAnswer)
		}
	}
}

const maxAnswer = 256 << 20

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
