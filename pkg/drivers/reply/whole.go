package reply

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/convert"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
)

const jsonType = "application/json"

// whole reads an answer that is no stream, as far as it may be held back. One that is
// converted is needed to its end.
func (r *Reply) whole() error {
	limit := r.call.Instance.Limits.Bytes
	if limit > 0 && r.res.Length > limit {
		return tooLarge("Content-Length "+strconv.FormatInt(r.res.Length, 10), limit)
	}
	// What came with the head lies in the memory of the client of upstreams until the answer is
	// closed. Of a short answer that is all.
	part, _ := r.res.Next()
	if r.out.Length = int64(len(part)); len(part) > 0 {
		r.out.FirstToken = r.begun
	}
	if _, err := r.res.Next(); err == io.EOF {
		r.head, r.end = part, io.EOF
	} else if err := r.hold(part, limit); err != nil {
		return err
	}
	if r.call.Answer != nil && r.encoding != "" {
		// An error, since no other answer gets here in an encoding.
		r.head, r.encoding = decoded(r.head, r.encoding), ""
	}
	if r.end == nil || r.encoding != "" {
		return nil
	}
	if r.status < 300 && r.call.Target != protocol.Passthrough {
		r.book.Whole(r.head)
	}
	return r.convertWhole()
}

// hold reads on behind a part of an answer, as far as that may be held back.
func (r *Reply) hold(part []byte, limit int64) error {
	size := int64(4 << 10)
	if r.res.Length >= 0 {
		size = min(r.res.Length, wholeLimit)
	}
	if r.head = r.space; int64(cap(r.head)) <= size {
		r.head = make([]byte, 0, size+1)
	}
	r.head = append(r.head, part...)
	for len(r.head) < wholeLimit || r.call.Answer != nil {
		if len(r.head) == cap(r.head) {
			grown := make([]byte, len(r.head), 2*cap(r.head))
			copy(grown, r.head)
			r.head = grown
		}
		r.space = r.head[:0]
		n, err := r.res.Read(r.head[len(r.head):cap(r.head)])
		if r.out.Length += int64(n); n > 0 && r.out.FirstToken.IsZero() {
			r.out.FirstToken = time.Now()
		}
		r.head = r.head[:len(r.head)+n]
		if limit > 0 && int64(len(r.head)) > limit {
			return tooLarge("body size", limit)
		}
		if err == io.EOF {
			r.end = io.EOF
			break
		}
		if err != nil {
			return err
		}
	}
	r.came = time.Now()
	return nil
}

// convertWhole brings a whole answer into the client's protocol. What is no JSON passes as
// it is (spec/06 §A6), but for errors, which a client must understand.
func (r *Reply) convertWhole() error {
	switch {
	case r.call.Answer == nil:
		return nil
	case r.status >= 300:
		r.head, r.kind = r.call.Answer.Error(r.status, r.head), jsonType
		return nil
	case jsonedit.Check(r.head, jsonedit.Options{MaxDepth: answerDepth}) != nil:
		return nil
	}
	body, err := r.call.Answer.Whole(r.head)
	if err != nil {
		f := &drivers.Failure{Status: 500, Err: err}
		var own *convert.Error
		if errors.As(err, &own) {
			f.Status, f.Body = own.Status, own.Text
		}
		return f
	}
	r.head, r.kind = body, jsonType
	return nil
}

// decoded is what can be read of an error in an encoding, for which nobody asked; nil:
// nothing.
func decoded(body []byte, encoding string) []byte {
	if !strings.EqualFold(encoding, "gzip") {
		return nil
	}
	z, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(z, wholeLimit))
	if err != nil {
		return nil
	}
	return text
}

// tailLen is how much of the end of a long answer is looked at: what was used stands there.
const tailLen = 4 << 10

// answerDepth bounds how deep a provider's answer is read; nothing else does.
const answerDepth = 1 << 10

// relayWhole passes on an answer that is no stream.
func (r *Reply) relayWhole(out *exchange.Response) error {
	out.Length = r.res.Length
	if r.end != nil {
		out.Length = int64(len(r.head))
	}
	if err := r.write(out, r.head, false); err != nil || r.end != nil {
		return err
	}
	buf := buffers.Get().(*[32 << 10]byte)
	defer buffers.Put(buf)
	counts := r.status < 300 && r.encoding == "" && r.call.Target != protocol.Passthrough
	var tail []byte
	for {
		n, err := r.res.Read(buf[:])
		r.out.Length += int64(n)
		if counts {
			tail = append(tail, buf[max(0, n-tailLen):n]...)
			tail = tail[:copy(tail, tail[max(0, len(tail)-tailLen):])]
		}
		if werr := r.write(out, buf[:n], false); werr != nil {
			return werr
		}
		switch limit := r.call.Instance.Limits.Bytes; {
		case err == io.EOF:
			r.book.Tail(tail)
			return nil
		case err != nil:
			return err
		case limit > 0 && r.out.Length > limit:
			return ErrTooLarge
		}
	}
}
