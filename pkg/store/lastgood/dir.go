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

// newest returns the newest file that is good, nil if there is none. refused says what is
// wrong with each that is newer.
func (f *folder) newest() (rec *record, refused []error) {
	numbers, err := f.numbers()
	if err != nil {
		return nil, []error{err}
	}
	for _, n := range numbers {
		rec, err := f.read(f.name(n))
		if err == nil {
			return rec, refused
		}
		refused = append(refused, fmt.Errorf("%s: %w", f.name(n), err))
	}
	return nil, refused
}

func (f *folder) read(path string) (*record, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		// To open a pipe is to wait for somebody who writes to it.
		return nil, errors.New("it is no file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return read(file, info.Size(), f.secrets, f.prefix)
}

// write makes the next file: whoever looks sees all of it or nothing, and after a power cut
// it is there. Older generations go afterwards, and what an earlier write left when it was
// cut short.
func (f *folder) write(rec *record) error {
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
	if err := errors.Join(f.fill(temp, rec), temp.Close()); err != nil {
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
		}
	}
	return f.sync()
}

func (f *folder) fill(file *os.File, rec *record) error {
	w := bufio.NewWriterSize(file, chunkSize)
	if err := rec.write(w, f.secrets[0], f.prefix); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return file.Sync()
}

// sync makes names last.
func (f *folder) sync() error {
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
