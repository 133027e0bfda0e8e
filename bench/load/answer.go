//go:build linux

package load

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// answer reads one answer of HTTP/1.1 as it comes, and counts the events in its body.
type answer struct {
	status int
	events int  // ends of events: empty lines
	close  bool // the connection ends with the answer

	state  state
	head   []byte // or the line of a chunk, which is not whole yet
	left   int64  // of the body, or of the chunk
	breaks int    // line feeds at the end of what was read of the body
}

type state uint8

const (
	inHead    state = iota
	inBody          // left bytes
	toTheEnd        // until the connection ends
	chunkLine       // how long the next chunk is
	inChunk         // left bytes
	chunkEnd        // the end of the line behind a chunk
	trailer         // lines until an empty one
	whole
)

const maxHead = 64 << 10

func (a *answer) reset() { *a = answer{head: a.head[:0]} }

// closed tells whether the end of the connection is the end of the answer.
func (a *answer) closed() bool { return a.state == toTheEnd }

// feed reads on. It tells whether the answer is whole; bytes behind it are an error.
func (a *answer) feed(in []byte) (over bool, err error) {
	for len(in) > 0 {
		switch a.state {
		case inHead:
			if in, err = a.readHead(in); err != nil {
				return false, err
			}
			if a.state == whole {
				break
			}
			continue
		case toTheEnd:
			a.count(in)
			return false, nil
		case inBody, inChunk:
			part := in[:min(int64(len(in)), a.left)]
			a.count(part)
			in = in[len(part):]
			if a.left -= int64(len(part)); a.left > 0 {
				return false, nil
			}
			if a.state++; a.state == toTheEnd {
				a.state = whole
			}
		default:
			if in, err = a.readLine(in); err != nil {
				return false, err
			}
		}
		if a.state == whole {
			if len(in) > 0 {
				return false, fmt.Errorf("%d bytes behind an answer", len(in))
			}
			return true, nil
		}
	}
	return a.state == whole, nil
}

func (a *answer) readHead(in []byte) (rest []byte, err error) {
	before := len(a.head)
	a.head = append(a.head, in...)
	end := bytes.Index(a.head, []byte("\r\n\r\n"))
	if end < 0 {
		if len(a.head) > maxHead {
			return nil, errors.New("a head without an end")
		}
		return nil, nil
	}
	rest = in[end+4-before:]
	lines := bytes.SplitSeq(a.head[:end], []byte("\r\n"))
	a.state, a.left = toTheEnd, -1
	for line := range lines {
		if a.status == 0 {
			if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
				return nil, fmt.Errorf("no line of a status: %.40q", line)
			}
			if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
				return nil, fmt.Errorf("no status: %.40q", line)
			}
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case is(name, "content-length") && a.state != chunkLine:
			if a.left, err = strconv.ParseInt(string(value), 10, 64); err != nil || a.left < 0 {
				return nil, fmt.Errorf("no length: %.40q", line)
			}
			a.state = inBody
		case is(name, "transfer-encoding"):
			if !is(value, "chunked") {
				return nil, fmt.Errorf("unknown: %.40q", line)
			}
			a.state = chunkLine
		case is(name, "connection"):
			a.close = is(value, "close")
		}
	}
	a.head = a.head[:0]
	switch {
	case a.status == 100:
		*a = answer{head: a.head}
	case a.status == 204 || a.status == 304 || a.state == inBody && a.left == 0:
		a.state = whole
	case a.state == toTheEnd:
		a.close = true
	}
	return rest, nil
}

// is compares without regard to case; want is small.
func is(got []byte, want string) bool {
	return len(got) == len(want) && bytes.EqualFold(got, []byte(want))
}

// readLine reads a line of the framing of chunks.
func (a *answer) readLine(in []byte) (rest []byte, err error) {
	i := bytes.IndexByte(in, '\n')
	if i < 0 {
		a.head = append(a.head, in...)
		if len(a.head) > maxHead {
			return nil, errors.New("a line without an end")
		}
		return nil, nil
	}
	line := in[:i]
	if len(a.head) > 0 {
		a.head = append(a.head, line...)
		line = a.head
		a.head = a.head[:0]
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	rest = in[i+1:]
	switch a.state {
	case chunkLine:
		digits, _, _ := bytes.Cut(line, []byte(";"))
		if a.left, err = strconv.ParseInt(string(bytes.TrimSpace(digits)), 16, 64); err != nil || a.left < 0 {
			return nil, fmt.Errorf("no length of a chunk: %.40q", line)
		}
		a.state = inChunk
		if a.left == 0 {
			a.state = trailer
		}
	case chunkEnd:
		if len(line) > 0 {
			return nil, fmt.Errorf("a chunk longer than it said: %.40q", line)
		}
		a.state = chunkLine
	case trailer:
		if len(line) == 0 {
			a.state = whole
		}
	}
	return rest, nil
}

// count finds empty lines, which end events.
func (a *answer) count(data []byte) {
	if a.breaks == 1 && len(data) > 0 && data[0] == '\n' {
		a.events++
		a.breaks = 0
		data = data[1:]
		if len(data) == 0 {
			return
		}
	}
	a.events += bytes.Count(data, []byte("\n\n"))
	a.breaks = 0
	// An odd number of line feeds at the end leaves one that may be half of an empty line.
	for i := len(data) - 1; i >= 0 && data[i] == '\n'; i-- {
		a.breaks ^= 1
	}
}
