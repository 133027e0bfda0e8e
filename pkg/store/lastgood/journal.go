package lastgood

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/gosix/gosix/pkg/store"
)

// A journal is what changed since the sealed file of its number was written, so that keeping a
// change costs what it is and not what there is. It is a head in the clear and frames, each of
// one write:
//
//	head   magic (8 bytes) ‖ version (1 byte) ‖ salt (32 bytes)
//	frame  length (4 bytes, big-endian) ‖ so many bytes, sealed
//
// A frame is sealed as a chunk of a file is, under a key of the journal's own, with its number
// as nonce. Authenticated with it are the head, the salt of the file that it belongs to, and
// the prefix of the keys. Its content is that of a file, with the items that changed; one that
// is gone has no revisions and no value.
//
// Frames count up to the first that does not open, which is how a write ends that was cut
// short. What stands before it was the content at its revision.
const (
	journalMagic  = "GOSIXJNL"
	journalSuffix = ".journal"
	frameLength   = 4
	// journalFrom is the size of a file from which on it has a journal. Smaller ones are
	// written whole each time, which costs little and makes each generation a state of its own.
	journalFrom = 4 << 20
	// journalShare is the part of its file, one in so many, that a journal may grow to before
	// all is written anew.
	journalShare = 2
)

var errJournal = errors.New("the journal ends with what does not open")

// journal is one that is being written.
type journal struct {
	file *os.File
	aead cipher.AEAD
	data []byte
	n    uint64 // number of the next frame
	size int64
}

// journalData is what is authenticated with every frame.
func journalData(head, salt []byte, prefix string) []byte {
	return append(append(bytes.Clone(head), salt...), prefix...)
}

func (f *folder) journalName(n uint64) string { return f.name(n) + journalSuffix }

// newJournal begins the journal of a file that was sealed with salt.
func (f *folder) newJournal(n uint64, salt []byte) (*journal, error) {
	own := make([]byte, saltSize)
	_, _ = rand.Read(own) // documented never to fail
	aead, err := aeadOf(f.secrets[0], own)
	if err != nil {
		return nil, err
	}
	// One that is there is of a file of this number that was taken away.
	_ = os.Remove(f.journalName(n))
	file, err := os.OpenFile(f.journalName(n), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	head := append(append([]byte(journalMagic), version), own...)
	j := &journal{file: file, aead: aead, data: journalData(head, salt, f.prefix), size: int64(len(head))}
	_, err = file.Write(head)
	if err = errors.Join(err, f.sync()); err != nil {
		_ = file.Close()
		return nil, err
	}
	return j, nil
}

// append adds a frame, which is there after a power cut.
func (j *journal) append(rec *record) error {
	var plain bytes.Buffer
	if err := rec.encode(&plain); err != nil {
		return err
	}
	frame := make([]byte, frameLength, frameLength+plain.Len()+tagSize)
	binary.BigEndian.PutUint32(frame, uint32(plain.Len()+tagSize))
	frame = j.aead.Seal(frame, nonceOf(j.n, false), plain.Bytes(), j.data)
	if _, err := j.file.Write(frame); err != nil {
		return err
	}
	j.n++
	j.size += int64(len(frame))
	return j.file.Sync()
}

// replay brings a record, read from the file of that number and sealed with salt, up to date
// by its journal, if it has one. After an error it is as new as the frames before.
func (f *folder) replay(n uint64, salt []byte, rec *record) error {
	file, size, err := opened(f.journalName(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: %w", f.journalName(n), err)
	}
	defer func() { _ = file.Close() }()
	if err := f.replayFrom(file, size, salt, rec); err != nil {
		return fmt.Errorf("%s: after revision %d: %w", f.journalName(n), rec.revision, err)
	}
	return nil
}

func (f *folder) replayFrom(r io.Reader, size int64, salt []byte, rec *record) error {
	head := make([]byte, headSize)
	if _, err := io.ReadFull(r, head); err != nil || !bytes.HasPrefix(head, []byte(journalMagic)) || head[len(journalMagic)] != version {
		return errJournal
	}
	size -= int64(headSize)
	data := journalData(head, salt, f.prefix)
	var aead cipher.AEAD // the one that opened the first frame
	at := map[string]int{}
	for i := range rec.items {
		at[rec.items[i].Key] = i
	}
	defer rec.settle()
	var length [frameLength]byte
	for n := uint64(0); ; n++ {
		if _, err := io.ReadFull(r, length[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return errJournal
		}
		sealed := int64(binary.BigEndian.Uint32(length[:]))
		if size -= frameLength + sealed; size < 0 || sealed < tagSize {
			return errJournal
		}
		frame := make([]byte, sealed)
		if _, err := io.ReadFull(r, frame); err != nil {
			return errJournal
		}
		plain, err := f.openFrame(&aead, head[len(journalMagic)+1:], n, frame, data)
		if err != nil {
			return errJournal
		}
		change, err := decode(bytes.NewReader(plain), int64(len(plain)))
		if err != nil {
			return errJournal
		}
		rec.apply(change, at)
	}
}

// openFrame opens a frame by the key that opened the one before, the first by any.
func (f *folder) openFrame(aead *cipher.AEAD, salt []byte, n uint64, frame, data []byte) ([]byte, error) {
	if *aead != nil {
		return (*aead).Open(nil, nonceOf(n, false), frame, data)
	}
	for _, secret := range f.secrets {
		one, err := aeadOf(secret, salt)
		if err != nil {
			return nil, err
		}
		if plain, err := one.Open(nil, nonceOf(n, false), frame, data); err == nil {
			*aead = one
			return plain, nil
		}
	}
	return nil, errForeign
}

// apply makes a record of before one of after change; at is where each of its items is. What
// is gone stays, without revisions, until settle.
func (r *record) apply(change *record, at map[string]int) {
	r.revision, r.cluster, r.saved = change.revision, change.cluster, change.saved
	for _, it := range change.items {
		if i, ok := at[it.Key]; ok {
			r.items[i] = it
			continue
		}
		at[it.Key] = len(r.items)
		r.items = append(r.items, it)
	}
}

// settle takes away what is gone.
func (r *record) settle() {
	kept := r.items[:0]
	for _, it := range r.items {
		if it.Revision != 0 {
			kept = append(kept, it)
		}
	}
	clear(r.items[len(kept):])
	r.items = kept
}

// gone is how a journal says that a key was removed.
func gone(key string) store.Item { return store.Item{Key: key} }
