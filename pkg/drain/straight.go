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
	into   []byte // of the read under way
	memory Memory // the same; into is asked of it if that is nil
}

// straightOf returns nil where that is not possible.
func straightOf(tcp *net.TCPConn) *straight {
	raw := socket.Raw(tcp)
	if raw == nil || !socket.Known {
		return nil
	}
	s := &straight{tcp: tcp, writer: socket.NewWriter(raw)}
	s.reader = socket.NewReader(raw, s.room, s.spare)
	return s
}

func (s *straight) room() []byte {
	if s.memory != nil {
		return s.memory.Room()
	}
	return s.into
}

func (s *straight) spare() {
	if s.memory != nil {
		s.memory.Spare()
	}
}

// read reads into p, or into m where p is nil.
func (s *straight) read(p []byte, m Memory) (int, error) {
	if s.into = p; p == nil {
		s.memory = m
	}
	n, err := s.reader.Read()
	s.into, s.memory = nil, nil
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
