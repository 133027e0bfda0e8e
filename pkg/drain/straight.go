package drain

import (
	"errors"
	"io"
	"net"

	"github.com/gosix/gosix/pkg/socket"
)

// straight reads and writes the socket of a connection with less ado than package net, by one
// goroutine at a time for each direction.
type straight struct {
	tcp    *net.TCPConn
	reader *socket.Reader
	writer *socket.Writer
	into   []byte
}

// straightOf returns nil where that is not possible.
func straightOf(tcp *net.TCPConn) *straight {
	raw := socket.Raw(tcp)
	if raw == nil || !socket.Known {
		return nil
	}
	s := &straight{tcp: tcp, writer: socket.NewWriter(raw)}
	s.reader = socket.NewReader(raw, func() []byte { return s.into }, func() {})
	return s
}

func (s *straight) read(p []byte) (int, error) {
	s.into = p
	n, err := s.reader.Read()
	s.into = nil
	return n, s.asNet("read", err)
}

func (s *straight) write(p []byte) (int, error) {
	n, err := s.writer.Write(p)
	return n, s.asNet("write", err)
}

// asNet makes an error one of package net: net/http knows what ended a connection by how it
// says what it was about.
func (s *straight) asNet(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	if e, ok := errors.AsType[*net.OpError](err); ok {
		err = e.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: s.tcp.LocalAddr(), Addr: s.tcp.RemoteAddr(), Err: err}
}
