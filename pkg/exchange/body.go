package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/gosix/gosix/pkg/jsonedit"
)

// TooLargeError is a body above its limit. Sizes are in bytes.
type TooLargeError struct {
	Size int64 // announced, or read so far
	Max  int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("request size %d is greater than the maximum size %d allowed", e.Size, e.Max)
}

// ErrBodyTaken is a second reading of a body that was streamed.
var ErrBodyTaken = errors.New("request body was already streamed")

// Body is a request's body. It is either buffered once (Bytes, JSON) or streamed once
// (Reader). The zero value is an empty body.
type Body struct {
	source  io.Reader
	mem     *memory // what data is in, if it is the body's own
	length  int64   // -1: unknown
	data    []byte
	doc     *jsonedit.Doc
	docErr  error
	docFor  jsonedit.Options // what doc and docErr were made with
	indexed bool             // doc or docErr is there
	spare   *jsonedit.Doc    // memory for doc, of the requests before; nil: there is none yet
	partial bool             // data is only the beginning of the body
	taken   bool             // source was handed out
	changed bool
	memo    any
	err     error
}

// SetSource is called by the engine: the body follows from r and is length bytes long,
// -1 if unknown.
func (b *Body) SetSource(r io.Reader, length int64) {
	b.Release()
	if r != nil && length != 0 {
		b.source, b.length, b.partial = r, length, true
	}
}

// SetBytes is called by the engine instead where all of the body is there. p stays as it is
// until the exchange is over.
func (b *Body) SetBytes(p []byte) {
	b.Release()
	b.data = p
}

// Release empties the body and gives its memory back, but for that of an index. The engine
// calls it when the exchange is over, so that whoever keeps a part of the body longer copies it.
func (b *Body) Release() {
	if b.mem != nil {
		b.mem.free()
	}
	spare := b.spare
	if b.doc != nil {
		spare = b.doc
		spare.Forget()
	}
	*b = Body{spare: spare}
}

// Length is the body's size in bytes, -1 while unknown.
func (b *Body) Length() int64 {
	if b.partial {
		return b.length
	}
	return int64(len(b.data))
}

// Changed reports whether Set replaced what the client sent.
func (b *Body) Changed() bool { return b.changed }

// Buffered reports whether the whole body is in memory, so that it can be sent again.
func (b *Body) Buffered() bool { return !b.partial }

// Bytes reads the whole body once and returns it; later calls return the same bytes.
// limit is in bytes, 0 means none; above it the error is a *TooLargeError and an
// announced length is refused before anything is read. The bytes may not be changed.
func (b *Body) Bytes(limit int64) ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	if !b.partial {
		if limit > 0 && int64(len(b.data)) > limit {
			return nil, &TooLargeError{Size: int64(len(b.data)), Max: limit}
		}
		return b.data, nil
	}
	if b.taken {
		return nil, ErrBodyTaken
	}
	if size := max(b.length, int64(len(b.data))); limit > 0 && size > limit {
		return nil, &TooLargeError{Size: size, Max: limit}
	}
	if err := b.read(limit); err != nil {
		return nil, err
	}
	return b.data, nil
}

// read takes the rest of the source. An announced length is allocated in steps, so that a
// client that only announces cannot make the gateway allocate. What was read before a
// limit was reached stays: whoever asked may do without the body, and it is still to be
// streamed.
func (b *Body) read(limit int64) error {
	const step = 1 << 20
	if b.data == nil {
		size := 4 << 10
		if b.length >= 0 {
			size = int(min(b.length, step))
		}
		b.grow(size)
	}
	for {
		if len(b.data) == cap(b.data) {
			b.grow(2 * len(b.data))
		}
		n, err := b.source.Read(b.data[len(b.data):cap(b.data)])
		b.data = b.data[:len(b.data)+n]
		switch {
		case err == io.EOF:
			b.partial = false
		case err != nil:
			b.err = err
			return err
		}
		if size := int64(len(b.data)); limit > 0 && size > limit {
			return &TooLargeError{Size: size, Max: limit}
		}
		if !b.partial {
			return nil
		}
	}
}

// grow moves the body to memory for size bytes, and for one more with which its end is seen.
func (b *Body) grow(size int) {
	m := newMemory(size + 1)
	m.bytes = append(m.bytes[:0], b.data...)
	if b.mem != nil {
		b.mem.free()
	}
	b.mem, b.data = m, m.bytes
}

// JSON buffers the body and returns the one index of its top-level members that all who
// ask with the same options share. It is good as long as the exchange, or until somebody asks
// with other options or sets another body. The error is that of Bytes, or what jsonedit says
// of the text.
func (b *Body) JSON(limit int64, o jsonedit.Options) (*jsonedit.Doc, error) {
	p, err := b.Bytes(limit)
	if err != nil {
		return nil, err
	}
	// Who asked with laxer options must not answer for those who are strict.
	if !b.indexed || b.docFor != o {
		doc := b.spare
		if b.spare = nil; doc == nil || b.doc != nil {
			doc = new(jsonedit.Doc) // somebody may still read the other one
		}
		if b.docErr = doc.Reindex(p, o); b.docErr == nil {
			b.doc = doc
		} else {
			b.doc, b.spare = nil, doc
		}
		b.docFor, b.indexed = o, true
	}
	return b.doc, b.docErr
}

// Memo buffers the body and returns what parse makes of it, which is asked once per body
// for all who read it in that form. Package variable keeps decoded forms here.
func (b *Body) Memo(limit int64, parse func([]byte) any) (any, error) {
	p, err := b.Bytes(limit)
	if err != nil {
		return nil, err
	}
	if b.memo == nil {
		b.memo = parse(p)
	}
	return b.memo, nil
}

// Reader streams the body: what is buffered, then the source, which can be taken once.
func (b *Body) Reader() io.Reader {
	switch {
	case !b.partial:
		return bytes.NewReader(b.data)
	case b.taken:
		return errReader{ErrBodyTaken}
	case b.err != nil:
		return errReader{b.err}
	}
	b.taken = true
	if len(b.data) > 0 {
		return io.MultiReader(bytes.NewReader(b.data), b.source)
	}
	return b.source
}

// Interrupt makes a reading of the source fail that goes on in another goroutine, and those
// that follow, if the engine's source can do that.
func (b *Body) Interrupt() {
	if s, ok := b.source.(interface{ Interrupt() }); ok {
		s.Interrupt()
	}
}

// Set replaces the body. p belongs to the body from then on.
func (b *Body) Set(p []byte) { *b = Body{data: p, changed: true, mem: b.mem, spare: b.spare} } // p may have parts of what was

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }
