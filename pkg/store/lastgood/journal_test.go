package lastgood

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gosix/gosix/pkg/store"
)

// journalled is a vault whose files have journals, however small.
func journalled(t *testing.T) *folder {
	t.Helper()
	f := vault(t)
	f.journalFrom = 1
	t.Cleanup(f.close)
	return f
}

func itemAt(key string, revision int64) store.Item {
	return store.Item{Key: testPrefix + key, CreateRevision: 1, Revision: revision, Value: fmt.Appendf(nil, "%s at %d", key, revision)}
}

// mustAppend adds what changed at a revision.
func (f *folder) mustAppend(t *testing.T, revision int64, items ...store.Item) {
	t.Helper()
	done, err := f.append(&record{revision: revision, cluster: 7, items: items})
	if err != nil || !done {
		t.Fatalf("revision %d: %v, %v", revision, done, err)
	}
}

// shown is a record as text.
func shown(r *record) string {
	var lines []string
	for _, it := range r.items {
		lines = append(lines, strings.TrimPrefix(it.Key, testPrefix)+"="+string(it.Value))
	}
	slices.Sort(lines)
	return fmt.Sprintf("%d: %s", r.revision, strings.Join(lines, ", "))
}

// history writes a file, changes, and returns what is read back after each.
func history(t *testing.T, f *folder) (states []string) {
	t.Helper()
	look := func() {
		rec, refused := f.newest()
		if rec == nil || refused != nil {
			t.Fatalf("got %v, refused %v", rec, refused)
		}
		states = append(states, shown(rec))
	}
	var many []store.Item // so that a journal of some changes is shorter than half of the file
	for i := range 40 {
		many = append(many, itemAt(fmt.Sprintf("routes/%02d", i), 1))
	}
	f.mustWrite(t, &record{revision: 1, cluster: 7, items: many})
	look()
	f.mustAppend(t, 2, itemAt("routes/00", 2))
	look()
	f.mustAppend(t, 3, itemAt("routes/99", 3), gone(testPrefix+"routes/01"))
	look()
	f.mustAppend(t, 4, gone(testPrefix+"routes/99"), itemAt("routes/01", 4))
	look()
	return states
}

func TestAJournalIsWhatChangedSinceTheFile(t *testing.T) {
	f := journalled(t)
	states := history(t, f)
	if last := states[3]; !strings.HasPrefix(last, "4: ") || !strings.Contains(last, "routes/00=routes/00 at 2") ||
		!strings.Contains(last, "routes/01=routes/01 at 4") || strings.Contains(last, "routes/99") || strings.Count(last, "=") != 40 {
		t.Errorf("got %s", last)
	}
	if strings.Contains(states[2], "routes/01") || !strings.Contains(states[2], "routes/99=routes/99 at 3") {
		t.Errorf("got %s", states[2])
	}
	info, err := os.Stat(f.journalName(1))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, mode %v, want 0600", err, info.Mode())
	}
	raw, err := os.ReadFile(f.journalName(1))
	if err != nil || bytes.Contains(raw, []byte("routes")) {
		t.Errorf("the journal shows what is in it: %v", err)
	}
	// Another process begins with a file of its own, and takes nothing from the journal.
	again := &folder{dir: f.dir, secrets: f.secrets, prefix: f.prefix, journalFrom: 1}
	if done, err := again.append(&record{revision: 5, cluster: 7}); done || err != nil {
		t.Errorf("got %v, %v, want that everything is to be written", done, err)
	}
}

func TestAJournalCountsUpToWhatDoesNotOpen(t *testing.T) {
	f := journalled(t)
	states := history(t, f)
	whole, err := os.ReadFile(f.journalName(1))
	if err != nil {
		t.Fatal(err)
	}
	look := func(what string, raw []byte, most int) {
		t.Helper()
		if err := os.WriteFile(f.journalName(1), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		rec, _ := f.newest()
		if rec == nil || !slices.Contains(states[:most+1], shown(rec)) {
			t.Fatalf("%s: got %v, want one of the first %d states", what, rec, most+1)
		}
	}
	for n := range whole {
		look(fmt.Sprintf("cut off after %d bytes", n), whole[:n], 2)
		flipped := bytes.Clone(whole)
		flipped[n] ^= 0x10
		look(fmt.Sprintf("byte %d flipped", n), flipped, 2)
	}
	look("something behind it", append(bytes.Clone(whole), whole[headSize:]...), 3)
	if _, refused := f.newest(); len(refused) != 1 || !errors.Is(refused[0], errJournal) || !strings.Contains(refused[0].Error(), "after revision 4") {
		t.Errorf("refused %v", refused)
	}
	look("as it was", whole, 3)
	if rec, refused := f.newest(); shown(rec) != states[3] || refused != nil {
		t.Errorf("got %v, refused %v", shown(rec), refused)
	}
}

func TestAJournalBelongsToItsFile(t *testing.T) {
	f := journalled(t)
	states := history(t, f)
	other := journalled(t)
	history(t, other)
	raw, err := os.ReadFile(other.journalName(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.journalName(1), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if rec, refused := f.newest(); shown(rec) != states[0] || len(refused) != 1 {
		t.Errorf("got %s, refused %v, want what the file holds", shown(rec), refused)
	}
}

func TestAJournalGoesWithItsFile(t *testing.T) {
	f := journalled(t)
	history(t, f)
	for revision := range int64(generations) {
		f.mustWrite(t, &record{revision: 10 + revision, cluster: 7, items: []store.Item{itemAt("routes/1", 10)}})
		if revision == 0 { // the file and its journal are kept as the ones before
			if err := os.Truncate(f.name(2), 10); err != nil {
				t.Fatal(err)
			}
			if rec, refused := f.newest(); rec == nil || rec.revision != 4 || len(refused) != 1 {
				t.Errorf("got %v, refused %v, want revision 4", rec, refused)
			}
		}
	}
	if _, err := os.Stat(f.journalName(1)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestAJournalThatGrewTooLongEnds(t *testing.T) {
	f := journalled(t)
	history(t, f)
	for revision := int64(5); ; revision++ {
		done, err := f.append(&record{revision: revision, cluster: 7, items: []store.Item{itemAt("routes/00", revision)}})
		if err != nil || revision > 1000 {
			t.Fatalf("at revision %d: %v", revision, err)
		}
		if !done {
			break
		}
	}
	file, err := os.Stat(f.name(1))
	if err != nil {
		t.Fatal(err)
	}
	if j, err := os.Stat(f.journalName(1)); err != nil || j.Size() < file.Size()/journalShare || j.Size() > file.Size() {
		t.Errorf("%v: the journal has %d bytes, the file %d", err, j.Size(), file.Size())
	}
	small := vault(t)
	small.journalFrom = journalFrom
	small.mustWrite(t, &record{revision: 1, cluster: 7})
	if done, err := small.append(&record{revision: 2, cluster: 7}); done || err != nil {
		t.Errorf("a small file: got %v, %v, want that it is written whole", done, err)
	}
}

func TestAJournalThatCannotBeWrittenIsNoMore(t *testing.T) {
	f := journalled(t)
	history(t, f)
	_ = f.journal.file.Close()
	if done, err := f.append(&record{revision: 5, cluster: 7}); done || err == nil {
		t.Errorf("got %v, %v, want an error", done, err)
	}
	if done, err := f.append(&record{revision: 6, cluster: 7}); done || err != nil {
		t.Errorf("got %v, %v, want that everything is to be written", done, err)
	}
}

// A node that keeps changes in a journal starts from all of them.
func TestANodeStartsFromAFileAndItsJournal(t *testing.T) {
	w := newWorld(t)
	w.change, w.journals = patient, true
	var many []store.Op
	for i := range 100 {
		many = append(many, set(fmt.Sprintf("routes/%03d", i), "first"))
	}
	w.commit(many...)
	w.start()
	w.reset(store.Start, 100)
	saved := func(n int64) {
		t.Helper()
		w.until(fmt.Sprintf("%d writes", n), func() bool { return w.source.Status().Writes >= n })
	}
	saved(1)
	w.commit(set("routes/000", "second"), del("routes/001"))
	w.next()
	saved(2)
	w.commit(set("routes/new", "third"))
	last := w.next()
	saved(3)
	want := fmt.Sprint(w.force)
	w.stop()
	files, err := filepath.Glob(filepath.Join(w.dir, "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("got %v, %v, want a file and a journal", files, err)
	}

	w.store.SetDown(true)
	w.change = nil
	w.start()
	if b := w.reset(store.Disk, 100); b.Revision != last.Revision || fmt.Sprint(w.force) != want {
		t.Errorf("got %v at %d, want %v at %d", w.force, b.Revision, want, last.Revision)
	}
}
