package lastgood

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// generations is how many files are kept: the newest may turn out to be damaged, and so may
// the one before it.
const generations = 3

const (
	filePrefix = "configuration-"
	fileSuffix = ".sealed"
	tempPrefix = ".new-"
)

// folder is where the files are. One process uses it at a time.
type folder struct {
	dir     string
	secrets []string // the first seals, all open
	prefix  string   // of the keys in the store

	journalFrom int64 // see the constant

	// Of the file that this process wrote last; nothing before the first, and after an error.
	base     uint64 // its number
	baseSize int64
	baseSalt []byte
	journal  *journal // nil: nothing changed since
}

// numbers are those of the files there are, the newest first.
func (f *folder) numbers() ([]uint64, error) {
	entries, err := os.ReadDir(f.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []uint64
	for _, e := range entries {
		middle := strings.TrimSuffix(strings.TrimPrefix(e.Name(), filePrefix), fileSuffix)
		// A number has one name.
		if n, err := strconv.ParseUint(middle, 10, 64); err == nil && e.Name() == filepath.Base(f.name(n)) {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	slices.Reverse(all)
	return all, nil
}

func (f *folder) name(n uint64) string {
	return filepath.Join(f.dir, fmt.Sprintf("%s%08d%s", filePrefix, n, fileSuffix))
}

// newest returns the newest file that is good, with what its journal adds, nil if there is
// none. refused says what is wrong with each that is newer, and with the end of the journal.
func (f *folder) newest() (rec *record, refused []error) {
	numbers, err := f.numbers()
	if err != nil {
		return nil, []error{err}
	}
	for _, n := range numbers {
		rec, salt, err := f.read(f.name(n))
		if err == nil {
			if err := f.replay(n, salt, rec); err != nil {
				refused = append(refused, err)
			}
			return rec, refused
		}
		refused = append(refused, fmt.Errorf("%s: %w", f.name(n), err))
	}
	return nil, refused
}

// opened is a file for reading, and its size.
func opened(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		// To open a pipe is to wait for somebody who writes to it.
		return nil, 0, errors.New("it is no file")
	}
	file, err := os.Open(path)
	return file, info.Size(), err
}

func (f *folder) read(path string) (rec *record, salt []byte, err error) {
	file, size, err := opened(path)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = file.Close() }()
	if rec, err = read(file, size, f.secrets, f.prefix); err != nil {
		return nil, nil, err
	}
	salt = make([]byte, saltSize)
	_, err = file.ReadAt(salt, int64(len(magic)+1))
	return rec, salt, err
}

// append adds what changed since the last write to its journal. Where that is nothing to
// begin with, or grew too long, it does nothing and reports false.
func (f *folder) append(changed *record) (done bool, err error) {
	if f.base == 0 || f.baseSize < f.journalFrom || f.journal != nil && f.journal.size > f.baseSize/journalShare {
		return false, nil
	}
	if f.journal == nil {
		if f.journal, err = f.newJournal(f.base, f.baseSalt); err != nil {
			f.forget()
			return false, err
		}
	}
	if err := f.journal.append(changed); err != nil {
		f.forget() // who reads it stops at what was half written
		return false, err
	}
	return true, nil
}

// forget makes the next write one of everything.
func (f *folder) forget() {
	f.close()
	f.base = 0
}

// close ends the journal.
func (f *folder) close() {
	if f.journal != nil {
		_ = f.journal.file.Close() // each frame was synced
		f.journal = nil
	}
}

// write makes the next file: whoever looks sees all of it or nothing, and after a power cut
// it is there. Older generations go afterwards, and what an earlier write left when it was
// cut short.
func (f *folder) write(rec *record) error {
	f.forget()
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return err
	}
	numbers, err := f.numbers()
	if err != nil {
		return err
	}
	next := uint64(1)
	if len(numbers) > 0 {
		next = numbers[0] + 1
	}
	if leftovers, err := filepath.Glob(filepath.Join(f.dir, tempPrefix+"*")); err == nil {
		for _, path := range leftovers {
			_ = os.Remove(path)
		}
	}
	temp, err := os.CreateTemp(f.dir, tempPrefix+"*") // for its owner alone
	if err != nil {
		return err
	}
	size, salt, err := f.fill(temp, rec)
	if err := errors.Join(err, temp.Close()); err != nil {
		_ = os.Remove(temp.Name())
		return err
	}
	if err := os.Rename(temp.Name(), f.name(next)); err != nil {
		_ = os.Remove(temp.Name())
		return err
	}
	for i, n := range numbers {
		if i >= generations-1 {
			_ = os.Remove(f.name(n)) // one too many does no harm
			_ = os.Remove(f.journalName(n))
		}
	}
	if err := f.sync(); err != nil {
		return err
	}
	f.base, f.baseSize, f.baseSalt = next, size, salt
	return nil
}

// fill also returns the size of the file.
func (f *folder) fill(file *os.File, rec *record) (size int64, salt []byte, err error) {
	w := bufio.NewWriterSize(file, chunkSize)
	if salt, err = rec.write(w, f.secrets[0], f.prefix); err != nil {
		return 0, nil, err
	}
	if err := w.Flush(); err != nil {
		return 0, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return 0, nil, err
	}
	return info.Size(), salt, file.Sync()
}

// sync makes names last.
func (f *folder) sync() error {
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
