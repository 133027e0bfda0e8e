package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// coldStart is T2: a node starts while etcd is away, from files of every quality.
func coldStart(ctx context.Context, r *Run) error {
	if !r.has("last_good") {
		return notBuilt("nothing is kept on disk: there is no setting deployment.last_good")
	}
	const routes = 10_000
	w, err := r.NewWorld(ctx, Shape{Etcds: 1, Gateways: 1, Admins: 1, NoLoad: true})
	if err != nil {
		return err
	}
	g := w.Gateways[0]
	dir := filepath.Join(g.dir, "data/snapshots")
	write := func(version int) error {
		before := files(dir)
		if err := w.fill(ctx, routes, fmt.Sprint(version)); err != nil {
			return err
		}
		if _, err := w.Agree(ctx, settling); err != nil {
			return err
		}
		// Written soon after the first change and after the last, which may be one; then nothing
		// changes any more.
		_, err := within(ctx, settling, "a snapshot is written", func() bool {
			now := files(dir)
			return len(now) > 0 && (len(before) == 0 || now[len(now)-1] != before[len(before)-1])
		})
		if err != nil {
			return err
		}
		return w.settled(ctx, dir)
	}
	digests := make([]string, 2)
	for version := range digests {
		if err := write(version); err != nil {
			return err
		}
		s, err := g.State(ctx)
		if err != nil {
			return err
		}
		digests[version] = s.Digest
	}
	older := files(dir)
	stop := func() { g.Process.Stop(40 * time.Second) }
	w.Etcd.Kill()
	stop()
	keep := filepath.Join(r.Dir, "kept")
	if err := os.CopyFS(keep, os.DirFS(dir)); err != nil {
		return err
	}
	r.Note("files kept, and their size", fmt.Sprintf("%d, %s", len(older), sizes(dir, older)))

	newest := func(change func(path string) error) func() error {
		return func() error {
			all := files(dir)
			return change(filepath.Join(dir, all[len(all)-1]))
		}
	}
	none := ""
	for _, c := range []struct {
		about  string
		damage func() error
		want   func(digest string) bool // nil: it must not serve
	}{
		{"a good file", func() error { return nil }, func(d string) bool { return d == digests[1] }},
		{"a file that was cut", newest(func(path string) error { return os.Truncate(path, 5000) }), func(d string) bool { return d != none }},
		{"a file with one bit flipped", newest(flip), func(d string) bool { return d != none }},
		{"a file of somebody else", newest(func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("not ours", 9000)), 0o600) }), func(d string) bool { return d != none }},
		{"no file", func() error { return os.RemoveAll(dir) }, nil},
		{"another key", func() error { return g.rekey("another-keyring-") }, nil},
	} {
		if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(keep))); err != nil {
			return err
		}
		if err := c.damage(); err != nil {
			return err
		}
		began := time.Now()
		if err := g.Start(); err != nil {
			return err
		}
		if c.want == nil {
			if err := pause(ctx, 3*time.Second); err != nil {
				return err
			}
			var state struct {
				Waiting string `json:"waiting"`
			}
			_ = getJSON(ctx, "http://"+g.Control+"/v1/config", &state)
			ok := !g.Process.Ended() && !ready(g.Status) && !w.Probe(g, "/g7", "x") && state.Waiting != ""
			r.Check(c.about+": it runs, is not ready, serves nothing and says why", fmt.Sprintf("%q", state.Waiting), "", ok)
			stop()
			if err := g.rekey(keyring); err != nil {
				return err
			}
			continue
		}
		if _, err := within(ctx, settling, "it serves from "+c.about, func() bool { return w.Probe(g, fmt.Sprintf("/g%d", routes-1), "x") }); err != nil {
			return err
		}
		r.Quick(fmt.Sprintf("%s: %d routes served in", c.about, routes), time.Since(began), 2*time.Second, 20*time.Second)
		s, err := g.State(ctx)
		if err != nil {
			return err
		}
		refused := len(g.Process.Log.Since(began, "snapshot is refused"))
		good := c.want(s.Digest)
		if c.about == "a good file" {
			good = good && refused == 0
		} else {
			// The one before it: a whole state that once was in force, and the broken one is named.
			good = good && refused == 1 && s.Revision > 0
		}
		r.Check(c.about+": what is in force", fmt.Sprintf("%s at revision %d, %d files refused", short(s.Digest), s.Revision, refused), "a whole state", good)
		stop()
	}

	if err := errors.Join(os.RemoveAll(dir), os.CopyFS(dir, os.DirFS(keep))); err != nil {
		return err
	}
	if err := g.Start(); err != nil {
		return err
	}
	if err := g.Listens(ctx, settling); err != nil {
		return err
	}
	if err := w.Etcd.Up(); err != nil {
		return err
	}
	if err := w.Etcd.Accepts(ctx, 60*time.Second); err != nil {
		return err
	}
	accepted := time.Now()
	if err := w.Put(ctx, "/routes/back", w.route("/back", "")); err != nil {
		return err
	}
	if _, err := w.LiveEverywhere(ctx, "/back", settling); err != nil {
		return err
	}
	r.AtMost("a node that serves from disk has a change after etcd accepts again in", time.Since(accepted), time.Second)
	if err := w.diskFull(ctx, dir); err != nil {
		return err
	}
	w.Finish(ctx)
	return nil
}

// diskFull puts a small file system where snapshots are written, and changes something.
func (w *World) diskFull(ctx context.Context, dir string) error {
	g := w.Gateways[0]
	g.Process.Stop(40 * time.Second)
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700)); err != nil {
		return err
	}
	if err := command(ctx, "mount", "-t", "tmpfs", "-o", "size=256k,mode=700", "faultlab", dir); err != nil {
		w.Note("a full disk was not tried", err.Error())
		return g.Start()
	}
	w.Later(func() {
		g.Process.Stop(40 * time.Second)
		_ = command(context.Background(), "umount", dir)
	})
	if err := g.Start(); err != nil {
		return err
	}
	if err := g.Listens(ctx, settling); err != nil {
		return err
	}
	_, err := within(ctx, settling, "the disk is full", func() bool { return g.metric("snapshot_errors_total") > 0 })
	w.Check("a full disk: snapshots that could not be written are counted", fmt.Sprint(g.metric("snapshot_errors_total")), "≥ 1", err == nil)
	if err := w.Put(ctx, "/routes/full", w.route("/full", "")); err != nil {
		return err
	}
	took, err := w.LiveEverywhere(ctx, "/full", settling)
	if err != nil {
		return err
	}
	w.AtMost("a full disk: a change is live in", took, time.Second)
	return nil
}

// metric is a number that the node exposes, by the end of its name; -1 if there is none.
func (n *Node) metric(name string) float64 {
	res, err := small.Get("http://" + n.Metrics + "/apisix/prometheus/metrics")
	if err != nil {
		return -1
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(text)) {
		found, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && strings.HasSuffix(found, name) {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				return v
			}
		}
	}
	return -1
}

// settled waits until no file has changed for a while.
func (w *World) settled(ctx context.Context, dir string) error {
	last, since := "", time.Now()
	_, err := within(ctx, settling, "snapshots settle", func() bool {
		if now := sizes(dir, files(dir)); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 7*time.Second
	})
	return err
}

// files are the sealed files of a directory, oldest first.
func files(dir string) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".sealed") {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names
}

func sizes(dir string, names []string) string {
	var all []string
	for _, n := range names {
		if info, err := os.Stat(filepath.Join(dir, n)); err == nil {
			all = append(all, fmt.Sprintf("%s %d KiB", n, info.Size()>>10))
		}
	}
	return strings.Join(all, ", ")
}

// flip turns one bit in the middle of a file.
func flip(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	one := make([]byte, 1)
	if _, err := f.ReadAt(one, info.Size()/2); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	one[0] ^= 1
	_, err = f.WriteAt(one, info.Size()/2)
	return err
}

// rekey gives the node another keyring for its next start.
func (n *Node) rekey(key string) error {
	file := filepath.Join(n.dir, "conf.yaml")
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	from := strings.Index(string(raw), "keyring: [") + len("keyring: [")
	to := from + strings.IndexByte(string(raw[from:]), ']')
	return os.WriteFile(file, []byte(string(raw[:from])+key+string(raw[to:])), 0o600)
}
