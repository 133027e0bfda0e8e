package prometheus

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
)

// everything is sources that tell of everything there is.
func everything(t *testing.T) *Sources {
	t.Helper()
	s := &Sources{
		Hostname: "h", Version: "v", Connections: func() Connections { return Connections{} }, Requests: func() int64 { return 1 },
		Reachable: func() bool { return true }, Revisions: func() map[string]int64 { return map[string]int64{"routes": 1} },
		Held: func() bool { return false }, Unsaved: func() int64 { return 0 },
		Upstreams: func(f func(name, ip, port string, healthy bool)) { f("/apisix/upstreams/1", "127.0.0.1", "80", true) },
	}
	v := reflect.ValueOf(*s)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			t.Fatalf("%s is not told: its metric would be compared with nothing", v.Type().Field(i).Name)
		}
	}
	return s
}

// The README's table is what there is: names, types, and the labels of what requests add to.
func TestTheREADMEHasEveryMetric(t *testing.T) {
	m, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	is, labels := map[string]string{}, map[string][]string{}
	for _, f := range m.families {
		is[f.name] = strings.ToLower(f.form.String())
		labels[f.name] = slices.Sorted(slices.Values(f.names))
	}
	for _, f := range m.told(everything(t)) {
		is[strings.TrimPrefix(f.GetName(), *m.settings.Prefix)] = strings.ToLower(f.GetType().String())
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(text), "\n## Metrics\n")
	table, _, ended := strings.Cut(table, "\n## ")
	if !found || !ended {
		t.Fatal("there is no table of metrics")
	}
	quoted := regexp.MustCompile("`([^`]+)`")
	said, saidLabels := map[string]string{}, map[string][]string{}
	var before []string // labels of the row before
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || !strings.Contains(cells[1], "`") {
			continue
		}
		form, _, _ := strings.Cut(strings.TrimSpace(cells[2]), ",")
		// Behind a label its values, or what it is, are in parentheses.
		plain := regexp.MustCompile(`\([^)]*\)`).ReplaceAllString(cells[3], "")
		var names []string
		switch of := regexp.MustCompile("those of `([^`]+)`").FindStringSubmatch(plain); {
		case of != nil:
			names = slices.Clone(saidLabels[of[1]])
			if without := regexp.MustCompile("without `([^`]+)`").FindStringSubmatch(plain); without != nil {
				names = slices.DeleteFunc(names, func(n string) bool { return n == without[1] })
			}
		case strings.Contains(plain, "the same"):
			names = slices.Clone(before)
		default:
			for _, n := range quoted.FindAllStringSubmatch(plain, -1) {
				names = append(names, n[1])
			}
		}
		slices.Sort(names)
		before = names
		for _, name := range quoted.FindAllStringSubmatch(cells[1], -1) {
			if _, twice := said[name[1]]; twice {
				t.Errorf("the README has %s twice", name[1])
			}
			said[name[1]], saidLabels[name[1]] = form, names
		}
	}
	for name, form := range is {
		switch got, there := said[name]; {
		case !there:
			t.Errorf("the README lacks %s, a %s", name, form)
		case got != form:
			t.Errorf("%s is a %s, the README says %s", name, form, got)
		case labels[name] != nil && !slices.Equal(labels[name], saidLabels[name]):
			t.Errorf("%s has the labels %v, the README says %v", name, labels[name], saidLabels[name])
		}
	}
	for name := range said {
		if _, there := is[name]; !there {
			t.Errorf("the README has %s, which there is not", name)
		}
	}
	if len(said) < int(families) || is["store_reset"] != strings.ToLower(dto.MetricType_GAUGE.String()) {
		t.Errorf("%d metrics were compared", len(said))
	}
}
