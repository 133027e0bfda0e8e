package lastgood

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/store"
)

const (
	testSecret = "sixteen-bytes-01"
	testPrefix = "/apisix/"
)

// sampleOf is a record of n items, the first of which are odd.
func sampleOf(n int) *record {
	r := &record{revision: 900, cluster: 0xcdf818194e3a8c32, saved: time.UnixMilli(1_800_000_000_123)}
	r.items = []store.Item{{Key: "/apisix/routes/", Value: []byte("init_dir"), CreateRevision: 2, Revision: 2}, {Key: "/apisix/empty", CreateRevision: 3, Revision: 9}}
	for i := len(r.items); i < n; i++ {
		r.items = append(r.items, store.Item{
			Key: fmt.Sprintf("/apisix/routes/%d", i), Value: []byte(strings.Repeat("v", i%700)), CreateRevision: int64(i), Revision: int64(2 * i),
		})
	}
	r.items = r.items[:n]
	return r
}

// sealed is a file whose salt, and so every byte, is always the same.
func sealed(t testing.TB, r *record, secret, prefix string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := r.writeSalted(&b, secret, prefix, bytes.Repeat([]byte{7}, saltSize)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readBytes(raw []byte, prefix string, secrets ...string) (*record, error) {
	return read(bytes.NewReader(raw), int64(len(raw)), secrets, prefix)
}

func TestWhatWasSealedIsReadBack(t *testing.T) {
	// 1000 items take several chunks. The sizes around those of chunks are those of one long
	// value.
	records := map[string]*record{"nothing": sampleOf(0), "one item": sampleOf(1), "several chunks": sampleOf(1000)}
	for around := -40; around <= 2; around++ {
		r := sampleOf(1)
		r.items[0].Value = bytes.Repeat([]byte("x"), chunkSize+around)
		records[fmt.Sprintf("a chunk and %d", around)] = r
	}
	for name, want := range records {
		got, err := readBytes(sealed(t, want, testSecret, testPrefix), testPrefix, "another-key-of-ours", testSecret)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestAFileThatIsNotWhollyOursIsRefused(t *testing.T) {
	good := sealed(t, sampleOf(600), testSecret, testPrefix)
	other := sealed(t, sampleOf(599), testSecret, testPrefix)
	first := headSize + chunkSize + tagSize
	if len(good) < 2*first {
		t.Fatalf("the sample has %d bytes, want several chunks", len(good))
	}
	later := bytes.Clone(good)
	later[len(magic)] = version + 1
	tests := map[string]struct {
		raw  []byte
		want error
	}{
		"empty":                         {nil, errDamaged},
		"another file":                  {[]byte(strings.Repeat("{}", 100)), errFormat},
		"a later version":               {later, errFormat},
		"the head alone":                {good[:headSize], errDamaged},
		"cut within the first chunk":    {good[:headSize+99], errForeign},
		"cut after the first chunk":     {good[:first], errForeign},
		"cut within the second chunk":   {good[:first+chunkSize/2], errDamaged},
		"cut by a byte":                 {good[:len(good)-1], errDamaged},
		"a byte more":                   {append(bytes.Clone(good), 0), errDamaged},
		"chunks in another order":       {append(append(bytes.Clone(good[:headSize]), good[first:first+chunkSize+tagSize]...), good[headSize:first]...), errForeign},
		"the first chunk twice":         {append(bytes.Clone(good[:first]), good[headSize:]...), errDamaged},
		"the end of another generation": {append(bytes.Clone(good[:first]), other[first:]...), errDamaged},
	}
	for name, tt := range tests {
		if r, err := readBytes(tt.raw, testPrefix, testSecret); !errors.Is(err, tt.want) || r != nil {
			t.Errorf("%s: got %v, %v, want %v", name, r != nil, err, tt.want)
		}
	}
	if _, err := readBytes(good, "/other/", testSecret); !errors.Is(err, errForeign) {
		t.Errorf("of another prefix: got %v, want %v", err, errForeign)
	}
	if _, err := readBytes(good, testPrefix, "another-key-here"); !errors.Is(err, errForeign) {
		t.Errorf("of another key: got %v, want %v", err, errForeign)
	}
}

func TestEveryFlippedBitAndEveryCutIsNoticed(t *testing.T) {
	good := sealed(t, sampleOf(5), testSecret, testPrefix)
	for i := range good {
		raw := bytes.Clone(good)
		raw[i] ^= 1 << (i % 8)
		if _, err := readBytes(raw, testPrefix, testSecret); err == nil {
			t.Errorf("byte %d of %d can be changed", i, len(good))
		}
		if _, err := readBytes(good[:i], testPrefix, testSecret); err == nil {
			t.Errorf("the file can be cut to %d of %d bytes", i, len(good))
		}
	}
}

func TestNoSecretIsReadableInAFile(t *testing.T) {
	r := sampleOf(3)
	r.items[2].Value = []byte(`{"key":"CANARY-of-a-secret"}`)
	for _, words := range []string{"CANARY", "/apisix", "routes"} {
		if bytes.Contains(sealed(t, r, testSecret, testPrefix), []byte(words)) {
			t.Errorf("%q can be read", words)
		}
	}
}

func TestTwoFilesOfOneContentDiffer(t *testing.T) {
	var a, b bytes.Buffer
	for _, w := range []*bytes.Buffer{&a, &b} {
		if _, err := sampleOf(3).write(w, testSecret, testPrefix); err != nil {
			t.Fatal(err)
		}
	}
	if bytes.Equal(a.Bytes()[headSize:], b.Bytes()[headSize:]) {
		t.Error("both have the same bytes")
	}
}

// FuzzReadFile: nothing opens but what was sealed.
func FuzzReadFile(f *testing.F) {
	good := [][]byte{sealed(f, sampleOf(0), testSecret, testPrefix), sealed(f, sampleOf(5), testSecret, testPrefix)}
	for _, raw := range good {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := readBytes(raw, testPrefix, testSecret)
		if (err == nil) != (r != nil) {
			t.Fatalf("got %v and %v", r, err)
		}
		if err == nil && !bytes.Equal(raw, good[0]) && !bytes.Equal(raw, good[1]) {
			t.Fatalf("a file opens that was never sealed: %x", raw)
		}
	})
}

// FuzzDecode: what a seal would let through is bounded by the file's size, and what is read
// is written back the same.
func FuzzDecode(f *testing.F) {
	for _, n := range []int{0, 1, 5} {
		var b bytes.Buffer
		if err := sampleOf(n).encode(&b); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
		f.Add(b.Bytes()[:b.Len()/2])
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := decode(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := r.encode(&b); err != nil {
			t.Fatal(err)
		}
		again, err := decode(bytes.NewReader(b.Bytes()), int64(b.Len()))
		if err != nil {
			t.Fatalf("%v: %x became %x", err, raw, b.Bytes())
		}
		if diff := cmp.Diff(fmt.Sprintf("%+v", r), fmt.Sprintf("%+v", again)); diff != "" {
			t.Fatal(diff)
		}
	})
}

// vault is a folder of a test.
func vault(t *testing.T, secrets ...string) *folder {
	if len(secrets) == 0 {
		secrets = []string{testSecret}
	}
	return &folder{dir: filepath.Join(t.TempDir(), "snapshots"), secrets: secrets, prefix: testPrefix}
}

func (f *folder) mustWrite(t *testing.T, r *record) {
	t.Helper()
	if err := f.write(r); err != nil {
		t.Fatal(err)
	}
}

func TestThreeGenerationsAreKept(t *testing.T) {
	f := vault(t)
	for revision := range 7 {
		f.mustWrite(t, &record{revision: int64(revision), cluster: 1})
	}
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, mode %v, want 0600", e.Name(), err, info.Mode())
		}
		names = append(names, e.Name())
	}
	want := []string{"configuration-00000005.sealed", "configuration-00000006.sealed", "configuration-00000007.sealed"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(f.dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, mode %v, want 0700", err, info.Mode())
	}
	if rec, refused := f.newest(); rec == nil || rec.revision != 6 || refused != nil {
		t.Errorf("got %+v, refused %v, want revision 6", rec, refused)
	}
}

func TestAFileThatIsRefusedGivesWayToTheOneBefore(t *testing.T) {
	damage := map[string]func(path string) error{
		"it is cut off": func(path string) error { return os.Truncate(path, 100) },
		"it is empty":   func(path string) error { return os.Truncate(path, 0) },
		"a bit of it flipped": func(path string) error {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			raw[len(raw)-1] ^= 0x40
			return os.WriteFile(path, raw, 0o600)
		},
		"another key sealed it": func(path string) error {
			other := &folder{dir: filepath.Dir(path), secrets: []string{"some-other-key-x"}, prefix: testPrefix}
			return errors.Join(os.Remove(path), other.write(&record{revision: 77, cluster: 1}))
		},
		"it is of another prefix": func(path string) error {
			other := &folder{dir: filepath.Dir(path), secrets: []string{testSecret}, prefix: "/other/"}
			return errors.Join(os.Remove(path), other.write(&record{revision: 77, cluster: 1}))
		},
		"it is a pipe":      func(path string) error { return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)) },
		"it is a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	}
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			f := vault(t)
			f.mustWrite(t, &record{revision: 1, cluster: 1})
			f.mustWrite(t, &record{revision: 2, cluster: 1})
			if err := harm(f.name(2)); err != nil {
				t.Fatal(err)
			}
			rec, refused := f.newest()
			if rec == nil || rec.revision != 1 || len(refused) != 1 || !strings.Contains(refused[0].Error(), f.name(2)) {
				t.Fatalf("got %+v, refused %v, want revision 1", rec, refused)
			}
			if err := harm(f.name(1)); err != nil {
				t.Fatal(err)
			}
			if rec, refused := f.newest(); rec != nil || len(refused) < 2 {
				t.Errorf("got %+v, refused %v, want nothing", rec, refused)
			}
		})
	}
}

func TestARotatedKeyOpensWhatItSealed(t *testing.T) {
	f := vault(t, "the-old-key-0001")
	f.mustWrite(t, &record{revision: 1, cluster: 1})
	f.secrets = []string{"the-new-key-0001", "the-old-key-0001"}
	if rec, refused := f.newest(); rec == nil {
		t.Fatalf("refused: %v", refused)
	}
	f.mustWrite(t, &record{revision: 2, cluster: 1})
	f.secrets = f.secrets[:1]
	if rec, refused := f.newest(); rec == nil || rec.revision != 2 {
		t.Fatalf("got %+v, refused %v, want what the first key sealed", rec, refused)
	}
}

func TestWhatAWriteLeftWhenItWasCutShortGoes(t *testing.T) {
	f := vault(t)
	f.mustWrite(t, &record{revision: 1, cluster: 1})
	left := filepath.Join(f.dir, tempPrefix+"1234")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if rec, refused := f.newest(); rec == nil || refused != nil {
		t.Errorf("it is taken for a file: %+v, %v", rec, refused)
	}
	f.mustWrite(t, &record{revision: 2, cluster: 1})
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}
