package lastgood

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"github.com/gosix/gosix/pkg/store"
)

// A sealed file is a head in the clear and chunks of AES-256-GCM:
//
//	head   magic (8 bytes) ‖ version (1 byte) ‖ salt (32 bytes)
//	chunk  64 KiB of the content, sealed; the last may be shorter
//
// The key of a file is HKDF-SHA256(secret, salt), so that no two files share one and a
// chunk's nonce may be its number; the last byte of the nonce marks the last chunk. The head
// and the prefix of the keys are authenticated with every chunk. So a chunk that is changed,
// missing, moved, added or of another file, and a file that ends early, do not open.
//
// The content is numbers as binary.AppendUvarint writes them, and bytes behind their length:
//
//	revision, cluster, saved (Unix ms), count, count × (key, create revision, revision, value)
const (
	magic      = "GOSIXCFG"
	version    = 1
	saltSize   = 32
	headSize   = len(magic) + 1 + saltSize
	chunkSize  = 64 << 10
	tagSize    = 16
	nonceSize  = 12
	keyPurpose = "gosix sealed snapshot v1"
)

// Reasons why a file is refused.
var (
	errForeign = errors.New("no key opens it: it is damaged, or of another key or prefix")
	errDamaged = errors.New("it is damaged or cut off")
	errFormat  = errors.New("it is no snapshot of a format that is known")
)

// aeadOf derives the key of a file.
func aeadOf(secret string, salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, []byte(secret), salt, keyPurpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonceOf is the nonce of a chunk.
func nonceOf(n uint64, last bool) []byte {
	nonce := make([]byte, nonceSize)
	binary.BigEndian.PutUint64(nonce, n)
	if last {
		nonce[nonceSize-1] = 1
	}
	return nonce
}

// sealer seals what is written to it. Close seals the rest; what it wraps stays open.
type sealer struct {
	w    io.Writer
	aead cipher.AEAD
	data []byte // authenticated with every chunk
	n    uint64
	buf  []byte // of the chunk in the making
	out  []byte
}

func newSealer(w io.Writer, secret, prefix string, salt []byte) (*sealer, error) {
	aead, err := aeadOf(secret, salt)
	if err != nil {
		return nil, err
	}
	head := append(append([]byte(magic), version), salt...)
	if _, err := w.Write(head); err != nil {
		return nil, err
	}
	return &sealer{
		w: w, aead: aead, data: append(head, prefix...),
		buf: make([]byte, 0, chunkSize), out: make([]byte, 0, chunkSize+tagSize),
	}, nil
}

func (s *sealer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		if len(s.buf) == chunkSize {
			if err := s.flush(false); err != nil {
				return 0, err
			}
		}
		n := min(chunkSize-len(s.buf), len(rest))
		s.buf, rest = append(s.buf, rest[:n]...), rest[n:]
	}
	return len(p), nil
}

func (s *sealer) flush(last bool) error {
	s.out = s.aead.Seal(s.out[:0], nonceOf(s.n, last), s.buf, s.data)
	s.n++
	s.buf = s.buf[:0]
	_, err := s.w.Write(s.out)
	return err
}

func (s *sealer) Close() error { return s.flush(true) }

// opener reads what a sealer wrote. What it returns before an error is authentic, but not
// all of the file.
type opener struct {
	r    *bufio.Reader
	aead cipher.AEAD
	data []byte
	n    uint64
	in   []byte
	buf  []byte // what is open and not read yet
	done bool
}

// newOpener finds the key of a file.
func newOpener(r io.Reader, secrets []string, prefix string) (*opener, error) {
	o := &opener{r: bufio.NewReaderSize(r, chunkSize+tagSize+1), in: make([]byte, chunkSize+tagSize)}
	head := make([]byte, headSize)
	if _, err := io.ReadFull(o.r, head); err != nil {
		return nil, errDamaged
	}
	if !bytes.HasPrefix(head, []byte(magic)) || head[len(magic)] != version {
		return nil, errFormat
	}
	o.data = append(head, prefix...)
	sealed, last, err := o.next()
	if err != nil {
		return nil, err
	}
	for _, secret := range secrets {
		aead, err := aeadOf(secret, head[len(magic)+1:headSize])
		if err != nil {
			return nil, err
		}
		if plain, err := aead.Open(nil, nonceOf(0, last), sealed, o.data); err == nil {
			o.aead, o.n, o.done, o.buf = aead, 1, last, plain
			return o, nil
		}
	}
	return nil, errForeign
}

// next reads a chunk, and whether it is the last.
func (o *opener) next() (sealed []byte, last bool, err error) {
	n, err := io.ReadFull(o.r, o.in)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF):
		last = true
	case err != nil:
		return nil, false, err
	default:
		_, err := o.r.Peek(1)
		if last = errors.Is(err, io.EOF); err != nil && !last {
			return nil, false, err
		}
	}
	if n < tagSize {
		return nil, false, errDamaged
	}
	return o.in[:n], last, nil
}

func (o *opener) Read(p []byte) (int, error) {
	for len(o.buf) == 0 {
		if o.done {
			return 0, io.EOF
		}
		sealed, last, err := o.next()
		if err != nil {
			return 0, err
		}
		if o.buf, err = o.aead.Open(sealed[:0], nonceOf(o.n, last), sealed, o.data); err != nil {
			return 0, errDamaged
		}
		o.n++
		o.done = last
	}
	n := copy(p, o.buf)
	o.buf = o.buf[n:]
	return n, nil
}

// record is the content of a file.
type record struct {
	revision int64
	cluster  uint64
	saved    time.Time // in ms
	items    []store.Item
}

// write seals a record, with a salt of its own.
func (r *record) write(w io.Writer, secret, prefix string) (salt []byte, err error) {
	salt = make([]byte, saltSize)
	_, _ = rand.Read(salt) // documented never to fail
	return salt, r.writeSalted(w, secret, prefix, salt)
}

func (r *record) writeSalted(w io.Writer, secret, prefix string, salt []byte) error {
	s, err := newSealer(w, secret, prefix, salt)
	if err != nil {
		return err
	}
	if err := r.encode(s); err != nil {
		return err
	}
	return s.Close()
}

// encode writes the record in the clear.
func (r *record) encode(w io.Writer) error {
	b := binary.AppendUvarint(nil, uint64(r.revision))
	b = binary.AppendUvarint(b, r.cluster)
	b = binary.AppendUvarint(b, uint64(r.saved.UnixMilli()))
	b = binary.AppendUvarint(b, uint64(len(r.items)))
	if _, err := w.Write(b); err != nil {
		return err
	}
	for i := range r.items {
		it := &r.items[i]
		b = binary.AppendUvarint(b[:0], uint64(len(it.Key)))
		b = append(b, it.Key...)
		b = binary.AppendUvarint(b, uint64(it.CreateRevision))
		b = binary.AppendUvarint(b, uint64(it.Revision))
		b = binary.AppendUvarint(b, uint64(len(it.Value)))
		if _, err := w.Write(b); err != nil {
			return err
		}
		if _, err := w.Write(it.Value); err != nil {
			return err
		}
	}
	return nil
}

// read opens a file of size bytes: all of it, or an error.
func read(r io.Reader, size int64, secrets []string, prefix string) (*record, error) {
	o, err := newOpener(r, secrets, prefix)
	if err != nil {
		return nil, err
	}
	return decode(o, size)
}

// decode reads a record in the clear that has no more than size bytes.
func decode(r io.Reader, size int64) (*record, error) {
	d := &decoder{r: bufio.NewReader(r), left: size}
	rec := &record{revision: int64(d.number()), cluster: d.number(), saved: time.UnixMilli(int64(d.number()))}
	count := d.number()
	if d.err == nil && (rec.revision < 0 || rec.cluster == 0 || count > uint64(size)/itemSize) {
		return nil, errDamaged
	}
	if d.err == nil {
		rec.items = make([]store.Item, 0, count)
	}
	for ; count > 0 && d.err == nil; count-- {
		it := store.Item{Key: string(d.bytes()), CreateRevision: int64(d.number()), Revision: int64(d.number()), Value: d.bytes()}
		rec.items = append(rec.items, it)
	}
	if d.err != nil {
		return nil, d.err
	}
	if _, err := d.r.ReadByte(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = errDamaged // something follows
		}
		return nil, err
	}
	return rec, nil
}

// itemSize is the least that an item takes, so that no count asks for more memory than
// there can be items.
const itemSize = 4

// decoder reads the parts of a record. After an error everything is 0.
type decoder struct {
	r    *bufio.Reader
	left int64 // bytes that may still come
	err  error
}

func (d *decoder) number() uint64 {
	if d.err != nil {
		return 0
	}
	n, err := binary.ReadUvarint(d.r)
	if err != nil {
		d.fail(err)
		return 0
	}
	d.left--
	return n
}

func (d *decoder) bytes() []byte {
	n := d.number()
	if d.err != nil || n == 0 {
		return nil
	}
	if d.left < 0 || n > uint64(d.left) {
		d.err = errDamaged
		return nil
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(d.r, b); err != nil {
		d.fail(err)
		return nil
	}
	d.left -= int64(n)
	return b
}

// fail keeps the first error; an early end is damage.
func (d *decoder) fail(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errDamaged
	}
	d.err = err
}
