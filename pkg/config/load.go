package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Notice is something that a person should know of a file that was accepted: one line.
type Notice string

// Load reads the settings at path, or only the defaults when path is empty. env looks
// environment variables up; nil is an empty environment. An error names the file, the line
// and the key; several mistakes make one error of several lines.
func Load(path string, env func(string) (string, bool)) (*Config, []Notice, error) {
	if path == "" {
		return Decode("defaults", nil, env)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	return Decode(path, text, env)
}

// Decode is Load of a text; name stands in errors.
func Decode(name string, text []byte, env func(string) (string, bool)) (*Config, []Notice, error) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	l := newLoader(name, env, maxDepth)
	root, err := l.parse(text)
	if err != nil {
		return nil, nil, err
	}
	c := Default()
	if root != nil {
		l.substitute(root)
		l.set(root, reflect.ValueOf(c).Elem(), "", "")
		l.otherNames(c)
	}
	l.etcdHost(c)
	l.inherit(c)
	// What a check says of a value that could not be read would only confuse.
	if len(l.problems) == 0 {
		for _, i := range c.check() {
			l.fail(l.line(i.path), "%s: %s", i.path, i.text)
		}
	}
	if err := l.err(); err != nil {
		return nil, nil, err
	}
	l.warn(c)
	return c, l.notices, nil
}

// loader is one file on its way into a Config.
type loader struct {
	depth       int // that values converted to JSON may have
	name        string
	env         func(string) (string, bool)
	substituted map[*yaml.Node]bool // scalars that a variable was put into
	at          map[string]int      // the line of each key that the file has, by path
	other       []otherUse
	nodes       int // values of any kind converted to JSON
	problems    []problem
	notices     []Notice
}

func newLoader(name string, env func(string) (string, bool), depth int) *loader {
	return &loader{name: name, env: env, depth: depth, substituted: map[*yaml.Node]bool{}, at: map[string]int{}}
}

type problem struct {
	line int // 0: not in the file
	text string
}

func (l *loader) fail(line int, format string, args ...any) {
	l.problems = append(l.problems, problem{line, fmt.Sprintf(format, args...)})
}

func (l *loader) note(format string, args ...any) {
	l.notices = append(l.notices, Notice(fmt.Sprintf(format, args...)))
}

// noteKey is a note on a key of the file.
func (l *loader) noteKey(path, format string, args ...any) {
	where := ""
	if line := l.line(path); line > 0 {
		where = fmt.Sprintf("%s:%d: ", l.name, line)
	}
	l.note("%s%s: %s", where, path, fmt.Sprintf(format, args...))
}

// line returns where path, or what it is in, stands in the file; 0 if nowhere.
func (l *loader) line(path string) int {
	for path != "" {
		if line, ok := l.at[path]; ok {
			return line
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return 0
}

// err joins the problems, in the order of the file.
func (l *loader) err() error {
	slices.SortStableFunc(l.problems, func(a, b problem) int { return a.line - b.line })
	errs := make([]error, len(l.problems))
	for i, p := range l.problems {
		if p.line > 0 {
			errs[i] = fmt.Errorf("%s:%d: %s", l.name, p.line, p.text)
		} else {
			errs[i] = fmt.Errorf("%s: %s", l.name, p.text)
		}
	}
	return errors.Join(errs...)
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// parse returns the settings, nil if the text has none.
func (l *loader) parse(text []byte) (*yaml.Node, error) {
	root, err := l.document(text)
	if root != nil && root.Kind != yaml.MappingNode && root.ShortTag() != "!!null" {
		return nil, fmt.Errorf("%s:%d: settings must be an object, not %s", l.name, root.Line, shape(root))
	}
	return root, err
}

// document returns the value of the one document of a text, nil if the text has none.
func (l *loader) document(text []byte) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, l.yamlError(err)
	case len(doc.Content) == 0:
		return nil, nil
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		return nil, fmt.Errorf("%s:%d: a second document begins, settings are one", l.name, more.Line)
	case !errors.Is(err, io.EOF):
		return nil, l.yamlError(err)
	}
	return doc.Content[0], nil
}

// yamlError puts the line where the line of every other error stands.
func (l *loader) yamlError(err error) error {
	text := err.Error()
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		return fmt.Errorf("%s:%s: invalid YAML: %s", l.name, m[1], text[len(m[0]):])
	}
	return fmt.Errorf("%s: invalid YAML: %s", l.name, strings.TrimPrefix(text, "yaml: "))
}

var (
	variable = regexp.MustCompile(`\$\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*(?::=(.*?))?\s*\}\}`)
	integer  = regexp.MustCompile(`^-?[0-9]+$`)
	decimal  = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?$`)
)

// substitute fills ${{NAME}} and ${{NAME:=default}} into keys and values (spec/08 §6.1). A
// value that is then a number or boolean is one.
func (l *loader) substitute(n *yaml.Node) {
	for _, child := range n.Content {
		l.substitute(child)
	}
	if n.Kind != yaml.ScalarNode || !strings.Contains(n.Value, "${{") {
		return
	}
	found := false
	n.Value = variable.ReplaceAllStringFunc(n.Value, func(m string) string {
		found = true
		parts := variable.FindStringSubmatch(m)
		if v, set := l.env(parts[1]); set {
			return v
		}
		if !strings.Contains(m, ":=") {
			l.fail(n.Line, "failed to handle configuration: can't find environment variable %s", parts[1])
		}
		return strings.TrimSpace(parts[2])
	})
	if !found {
		return
	}
	l.substituted[n] = true
	n.Style = 0
	switch {
	case integer.MatchString(n.Value):
		n.Tag = "!!int"
	case decimal.MatchString(n.Value):
		n.Tag = "!!float"
	case n.Value == "true" || n.Value == "false":
		n.Tag = "!!bool"
	default:
		n.Tag = "!!str"
	}
}

// etcdHost lets the one variable that needs no mention in the file replace the hosts.
func (l *loader) etcdHost(c *Config) {
	const name = "APISIX_DEPLOYMENT_ETCD_HOST"
	raw, set := l.env(name)
	if !set {
		return
	}
	var hosts []string
	err := json.Unmarshal([]byte(raw), &hosts)
	if err == nil && hosts == nil {
		err = errors.New("null is no array")
	}
	if err != nil {
		// The reference goes on with the file's hosts, too.
		l.note("parse ${%s} failed, error: %v; it is ignored", name, err)
		return
	}
	c.Deployment.Etcd.Host = hosts
	for path := range l.at {
		if strings.HasPrefix(path, "deployment.etcd.host") {
			delete(l.at, path)
		}
	}
	l.at["deployment.etcd.host"] = 0 // what is wrong with one stands nowhere in the file
}

// inherit fills what a value that the file has leaves out.
func (l *loader) inherit(c *Config) {
	for i := range c.Apisix.NodeListen {
		if _, set := l.at["apisix.node_listen["+strconv.Itoa(i)+"].enable_http2"]; !set {
			c.Apisix.NodeListen[i].HTTP2 = c.Apisix.HTTP2
		}
	}
	for i := range c.Apisix.SSL.Listen {
		at := "apisix.ssl.listen[" + strconv.Itoa(i) + "]"
		if _, set := l.at[at+".enable_http2"]; !set {
			c.Apisix.SSL.Listen[i].HTTP2 = c.Apisix.HTTP2
		}
		if _, set := l.at[at+".port"]; !set && c.Apisix.SSL.Listen[i].Port == 0 {
			c.Apisix.SSL.Listen[i].Port = sslPort
		}
	}
	if s := c.Apisix.Status; s != nil {
		if _, set := l.at["apisix.status.ip"]; !set {
			s.IP = "127.0.0.1"
		}
		if _, set := l.at["apisix.status.port"]; !set {
			s.Port = 7085
		}
	}
}
