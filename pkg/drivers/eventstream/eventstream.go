// Package eventstream finds the messages in an AWS event stream, however it was cut into
// pieces, and writes messages. It does not decode what they carry, and does not know the
// services that speak so.
//
// A message is a prelude of two lengths, the whole message's and its headers', and a CRC of
// both; then the headers, the payload and a CRC of all before it. Numbers are unsigned and
// big-endian. There is no terminator: what ends a stream is for its protocol to say.
package eventstream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// ContentType is what an answer in this framing says it is.
const ContentType = "application/vnd.amazon.eventstream"

// MaxMessage bounds a message, in bytes. A longer one is an error: unlike an event of
// server-sent events it means nothing without its end.
const MaxMessage = 16 << 20

const (
	preludeLen = 12
	crcLen     = 4
	minMessage = preludeLen + crcLen
)

var (
	errPrelude = errors.New("event stream: the prelude's checksum is wrong")
	errMessage = errors.New("event stream: a message's checksum is wrong")
	errHeaders = errors.New("event stream: headers end within a header")
)

// Types of messages, as the header :message-type names them.
const (
	Event     = "event"
	Exception = "exception" // the service failed, in a way that it has a name for
	Failure   = "error"     // it failed in another way; there is no payload
)

// Message is one message.
type Message struct {
	Type        string // Event, Exception, Failure; another one is possible
	Kind        string // :event-type, :exception-type or :error-code
	ContentType string // of the payload; empty: not said
	Text        string // :error-message
	Payload     []byte
}

// Splitter finds whole messages. Feed it pieces as they come: whatever the cuts, the
// messages are the same. The zero value is ready. Not safe for concurrent use.
type Splitter struct {
	tail []byte  // of a message whose end has not come
	out  []byte  // the memory of what Feed returned
	last Message // its texts are used again, for messages mostly repeat them
	err  error
}

// Feed takes the next piece and returns what can be passed on: everything up to the end of
// the last message that is complete, as it stands in the stream. message gets each of those.
// What is returned or handed out is valid until the next call, as long as p is not changed;
// the texts of a message stay. An error means that the stream is no event stream from there
// on, and comes with what was good before it; it is what every later call returns.
func (s *Splitter) Feed(p []byte, message func(Message)) (ready []byte, err error) {
	if s.err != nil {
		return nil, s.err
	}
	if len(s.tail) == 0 {
		end := s.messages(p, message)
		s.tail = append(s.tail, p[end:]...)
		return p[:end], s.err
	}
	s.tail = append(s.tail, p...)
	end := s.messages(s.tail, message)
	if end == 0 {
		return nil, s.err
	}
	s.out, s.tail = s.tail, append(s.out[:0], s.tail[end:]...)
	return s.out[:end], s.err
}

// Rest returns what is held back: the beginning of a message whose end has not come. A
// stream that ends where there is some was cut.
func (s *Splitter) Rest() []byte { return s.tail }

// messages hands out the whole messages at the beginning of p and returns where they end.
func (s *Splitter) messages(p []byte, message func(Message)) (end int) {
	for len(p)-end >= preludeLen {
		size, headers, err := prelude(p[end:])
		if err != nil {
			s.err = err
			return end
		}
		if len(p)-end < size {
			return end
		}
		m, err := s.message(p[end:end+size], headers)
		if err != nil {
			s.err = err
			return end
		}
		message(m)
		end += size
	}
	return end
}

// prelude reads and checks the lengths at the beginning of a message.
func prelude(p []byte) (size, headers int, err error) {
	total, of := binary.BigEndian.Uint32(p), binary.BigEndian.Uint32(p[4:])
	switch {
	case crc32.ChecksumIEEE(p[:8]) != binary.BigEndian.Uint32(p[8:]):
		return 0, 0, errPrelude
	case total > MaxMessage:
		return 0, 0, fmt.Errorf("event stream: message of %d bytes, at most %d are allowed", total, MaxMessage)
	case total < minMessage || of > total-minMessage:
		return 0, 0, fmt.Errorf("event stream: message of %d bytes with headers of %d", total, of)
	}
	return int(total), int(of), nil
}

// message reads a whole message. Its payload is a part of p.
func (s *Splitter) message(p []byte, headers int) (Message, error) {
	body := p[:len(p)-crcLen]
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(p[len(body):]) {
		return Message{}, errMessage
	}
	m := Message{Payload: body[preludeLen+headers:]}
	for rest := body[preludeLen : preludeLen+headers]; len(rest) > 0; {
		name, value, after, ok := header(rest)
		if !ok {
			return Message{}, errHeaders
		}
		rest = after
		switch string(name) {
		case ":message-type":
			m.Type = same(s.last.Type, value)
		case ":event-type", ":exception-type", ":error-code":
			m.Kind = same(s.last.Kind, value)
		case ":content-type":
			m.ContentType = same(s.last.ContentType, value)
		case ":error-message":
			m.Text = string(value)
		}
	}
	s.last = m
	s.last.Payload = nil
	return m, nil
}

// same returns value as a text: before, if that says the same.
func same(before string, value []byte) string {
	if before == string(value) {
		return before
	}
	return string(value)
}

// valueLens are the lengths of header values by their type, in bytes. Those of negative
// length say it themselves.
var valueLens = [...]int{
	0: 0, 1: 0, // true, false
	2: 1, 3: 2, 4: 4, 5: 8, // integers
	6: -1, textValue: -1, // bytes, text
	8: 8,  // timestamp
	9: 16, // UUID
}

const textValue = 7

// header reads the first header of p. A value that is no text has none.
func header(p []byte) (name, value, rest []byte, ok bool) {
	n := int(p[0])
	if len(p) < 1+n+1 {
		return nil, nil, nil, false
	}
	name, p = p[1:1+n], p[1+n:]
	kind := int(p[0])
	p = p[1:]
	if kind >= len(valueLens) {
		return nil, nil, nil, false
	}
	size := valueLens[kind]
	if size < 0 {
		if len(p) < 2 {
			return nil, nil, nil, false
		}
		size, p = int(binary.BigEndian.Uint16(p)), p[2:]
	}
	if len(p) < size {
		return nil, nil, nil, false
	}
	if kind == textValue {
		value = p[:size]
	}
	return name, value, p[size:], true
}

// AppendMessage appends a message. Texts of more than 65535 bytes are cut: a header cannot
// carry them.
func AppendMessage(dst []byte, m Message) []byte {
	from := len(dst)
	dst = append(dst, make([]byte, preludeLen)...)
	kind := ":event-type"
	switch m.Type {
	case Exception:
		kind = ":exception-type"
	case Failure:
		kind = ":error-code"
	}
	dst = appendHeader(dst, kind, m.Kind)
	dst = appendHeader(dst, ":content-type", m.ContentType)
	dst = appendHeader(dst, ":error-message", m.Text)
	dst = appendHeader(dst, ":message-type", m.Type)
	headers := len(dst) - from - preludeLen
	dst = append(dst, m.Payload...)
	head := dst[from:]
	binary.BigEndian.PutUint32(head, uint32(len(head)+crcLen))
	binary.BigEndian.PutUint32(head[4:], uint32(headers))
	binary.BigEndian.PutUint32(head[8:], crc32.ChecksumIEEE(head[:8]))
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(head))
}

// appendHeader appends a header with a text; an empty one is left out.
func appendHeader(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	value = value[:min(len(value), 1<<16-1)]
	dst = append(append(append(dst, byte(len(name))), name...), textValue)
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(value))), value...)
}
