package t

import (
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// image is a final stage of the Dockerfile.
type image struct {
	root    string // the folder that holds its files, once it is built
	env     []string
	user    string
	group   string
	workdir string
	cmd     []string
	copies  []copied
}

// copied is one COPY of an image.
type copied struct {
	stage       bool // from the stage that builds, else from the checkout
	from, to    string
	user, group string
}

// builder carries out the stage that builds, without its base image: in the checkout, with
// results below out.
type builder struct {
	t       *testing.T
	out     string
	env     []string
	context []string // what of the checkout was copied so far
	allowed []string // what .dockerignore lets in
}

// ofBase are the files that are taken from the base image.
var ofBase = map[string]bool{"/etc/ssl/certs/ca-certificates.crt": true}

// buildImages does what the Dockerfile says, in dir, and returns its final stages by name.
// An instruction that it does not know fails the test: it would mean something to an engine.
func buildImages(t *testing.T, dir string) map[string]*image {
	t.Helper()
	b := &builder{t: t, out: filepath.Join(dir, "build"), allowed: allowed(t)}
	images := readDockerfile(t, dir, b.do)
	for name, i := range images {
		i.assemble(t, b)
		if _, err := os.Stat(filepath.Join(i.root, i.workdir)); err != nil {
			t.Errorf("Dockerfile: %s: WORKDIR: %v", name, err)
		}
	}
	return images
}

// readDockerfile returns the final stages, and hands each instruction of the first one to
// build.
func readDockerfile(t *testing.T, dir string, build func(word, rest string)) map[string]*image {
	t.Helper()
	raw, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]*image{}
	var current *image
	first := true
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || line[0] == '#':
		case word == "FROM":
			base, name, ok := strings.Cut(rest, " AS ")
			switch parent := images[base]; {
			case !ok || strings.ContainsAny(base, "/@"):
				t.Fatalf("Dockerfile: %s: want a short name, and AS with one", line)
			case first && base == "golang:"+goVersion(t) && name == "build":
				first = false
			case base == "scratch":
				current = &image{}
			case parent != nil:
				inherited := *parent
				inherited.env = append([]string{}, parent.env...)
				inherited.copies = append([]copied{}, parent.copies...)
				current = &inherited
			default:
				t.Fatalf("Dockerfile: %s: an unknown base, or another Go than that of go.mod", line)
			}
			if current != nil {
				current.root = filepath.Join(dir, name)
				images[name] = current
			}
		case current == nil:
			build(word, rest)
		default:
			current.read(t, word, rest)
		}
	}
	return images
}

// goVersion is that of go.mod, as images are named: without the number of the patch.
func goVersion(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(raw)
	if m == nil {
		t.Fatal("go.mod names no version of Go")
	}
	return string(m[1])
}

// read takes an instruction of a final stage.
func (i *image) read(t *testing.T, word, rest string) {
	t.Helper()
	switch word {
	case "ENV":
		i.env = append(i.env, rest)
	case "USER":
		user, group, ok := strings.Cut(rest, ":")
		if n, err := strconv.Atoi(user); err != nil || n == 0 || !ok {
			t.Errorf("Dockerfile: USER %s: want numbers, and not root", rest)
		}
		i.user, i.group = user, group
	case "WORKDIR":
		i.workdir = rest
	case "CMD":
		if err := json.Unmarshal([]byte(rest), &i.cmd); err != nil {
			t.Errorf("Dockerfile: CMD %s: %v: an image without a shell takes a list", rest, err)
		}
	case "COPY":
		c := copied{}
		words := strings.Fields(rest)
		for ; strings.HasPrefix(words[0], "--"); words = words[1:] {
			key, value, _ := strings.Cut(words[0], "=")
			switch {
			case key == "--from" && value == "build":
				c.stage = true
			case key == "--chown":
				c.user, c.group, _ = strings.Cut(value, ":")
			default:
				t.Fatalf("Dockerfile: COPY %s: unknown option %s", rest, words[0])
			}
		}
		if len(words) != 2 {
			t.Fatalf("Dockerfile: COPY %s: want one source and one place", rest)
		}
		c.from, c.to = words[0], words[1]
		i.copies = append(i.copies, c)
	default:
		t.Fatalf("Dockerfile: this test does not know %s", word)
	}
}

// do carries out an instruction of the stage that builds.
func (b *builder) do(word, rest string) {
	b.t.Helper()
	switch word {
	case "WORKDIR":
		if rest != "/src" {
			b.t.Fatalf("Dockerfile: WORKDIR %s, want /src", rest)
		}
	case "ENV":
		b.env = append(b.env, rest)
	case "COPY":
		words := strings.Fields(rest)
		for _, from := range words[:len(words)-1] {
			b.fromCheckout(from)
			// The commands run in the checkout, so everything has to have its place.
			if to := words[len(words)-1]; to != from && path.Clean(to+"/"+from) != path.Clean(from) {
				b.t.Errorf("Dockerfile: COPY %s: %s would be elsewhere", rest, from)
			}
			b.context = append(b.context, from)
		}
	case "RUN":
		b.run(strings.Fields(rest))
	default:
		b.t.Fatalf("Dockerfile: this test does not know %s", word)
	}
}

// fromCheckout finds what is copied from the checkout, which is no more than .dockerignore
// lets in.
func (b *builder) fromCheckout(name string) string {
	b.t.Helper()
	file := filepath.Join("..", name)
	if _, err := os.Stat(file); err != nil {
		b.t.Errorf("Dockerfile: COPY: %v", err)
	}
	if !within(name, b.allowed) {
		b.t.Errorf("Dockerfile: COPY %s: .dockerignore leaves it out", name)
	}
	return file
}

// within tells whether a path is one of a list, or below one.
func within(name string, list []string) bool {
	for _, one := range list {
		if name == one || strings.HasPrefix(name, one+"/") {
			return true
		}
	}
	return false
}

// allowed reads .dockerignore: everything is left out but a list.
func allowed(t *testing.T) (list []string) {
	t.Helper()
	raw, err := os.ReadFile("../.dockerignore")
	if err != nil {
		t.Fatal(err)
	}
	all := false
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		name, in := strings.CutPrefix(line, "!")
		switch {
		case line == "" || line[0] == '#':
		case line == "*":
			all = true
		case in && all:
			list = append(list, name)
		default:
			t.Fatalf(".dockerignore: this test does not know %q", line)
		}
	}
	return list
}

func (b *builder) run(words []string) {
	b.t.Helper()
	// A profile only changes how fast the program is, and would have everything compiled once more.
	words = slices.DeleteFunc(words, func(word string) bool {
		profile, is := strings.CutPrefix(word, "-pgo=")
		if is && (!within(profile, b.context) || b.fromCheckout(profile) == "") {
			b.t.Errorf("Dockerfile: %s is not copied before", profile)
		}
		return is
	})
	switch command := strings.Join(words, " "); {
	case command == "go mod download":
	case strings.HasPrefix(command, "mkdir -p /"):
		for _, dir := range words[2:] {
			if err := os.MkdirAll(b.out+dir, 0o755); err != nil {
				b.t.Fatal(err)
			}
		}
	case strings.HasPrefix(command, "go build -trimpath -o /") && len(words) == 6:
		// Without -trimpath, which only changes what is told of files: it would compile
		// everything once more.
		target, to := words[5], words[4]
		if err := os.MkdirAll(filepath.Dir(b.out+to), 0o755); err != nil {
			b.t.Fatal(err)
		}
		b.command("go", "build", "-o", b.out+to, target)
		for dir := range strings.Lines(b.command("go", "list", "-deps", "-f", "{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}", target)) {
			root, err := filepath.Abs("..")
			if err != nil {
				b.t.Fatal(err)
			}
			name, err := filepath.Rel(root, strings.TrimSpace(dir))
			if err != nil || !within(filepath.ToSlash(name), b.context) {
				b.t.Errorf("Dockerfile: %s needs %s, which is not copied before", target, strings.TrimSpace(dir))
			}
		}
	default:
		b.t.Fatalf("Dockerfile: this test does not know RUN %s", command)
	}
}

// command runs a command in the checkout.
func (b *builder) command(words ...string) string {
	b.t.Helper()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), b.env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("Dockerfile: %s: %v\n%s", strings.Join(words, " "), err, &stderr)
	}
	return string(out)
}

// assemble lays out the files of an image.
func (i *image) assemble(t *testing.T, b *builder) {
	t.Helper()
	for _, c := range i.copies {
		from, to := b.out+c.from, i.root+c.to
		switch {
		case c.stage && ofBase[c.from]:
			from = filepath.Join(t.TempDir(), path.Base(c.from))
			if err := os.WriteFile(from, nil, 0o644); err != nil {
				t.Fatal(err)
			}
		case !c.stage:
			from = b.fromCheckout(c.from)
		}
		info, err := os.Stat(from)
		if err != nil {
			t.Fatalf("Dockerfile: COPY %s: %v", c.from, err)
		}
		if info.IsDir() {
			err = os.CopyFS(to, os.DirFS(from))
		} else {
			if strings.HasSuffix(to, "/") {
				to += filepath.Base(from)
			}
			err = copyFile(from, to)
		}
		if err == nil && c.user != "" && os.Geteuid() == 0 {
			err = exec.Command("chown", "-R", c.user+":"+c.group, to).Run()
		}
		if err != nil {
			t.Fatalf("Dockerfile: COPY %s: %v", c.from, err)
		}
	}
}

func copyFile(from, to string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, raw, 0o644)
}
