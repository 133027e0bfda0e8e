package prometheus

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/variable"
)

// settings are plugin_attr.prometheus (spec/08 §3).
type settings struct {
	Enable     *bool  `json:"enable_export_server"`
	ExportURI  string `json:"export_uri"`
	ExportAddr struct {
		IP   string `json:"ip"`
		Port *int   `json:"port"`
	} `json:"export_addr"`
	Prefix     *string                   `json:"metric_prefix"`
	Latency    []float64                 `json:"default_buckets"`     // ms
	LLMLatency []float64                 `json:"llm_latency_buckets"` // ms
	Prompt     []float64                 `json:"llm_prompt_tokens_buckets"`
	Completion []float64                 `json:"llm_completion_tokens_buckets"`
	Metrics    map[string]metricSettings `json:"metrics"`
	MaxSeries  int                       `json:"max_series"` // of a metric
}

type metricSettings struct {
	Expire int                 `json:"expire"` // seconds
	Extra  []map[string]string `json:"extra_labels"`
}

const (
	defaultURI    = "/apisix/prometheus/metrics"
	defaultPort   = 9091
	defaultSeries = 10000
)

var (
	latencyBuckets = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 30000, 60000} // ms
	tokenBuckets   = []float64{
		1, 10, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000,
	}
	metricName = regexp.MustCompile(`^[A-Za-z_:][A-Za-z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

// read reads the settings, nil for the defaults. An error begins with the setting's name.
func read(attr json.RawMessage) (s settings, err error) {
	if attr != nil {
		if err := plugin.Decode(attr, &s); err != nil {
			return s, err
		}
	}
	if s.ExportURI == "" {
		s.ExportURI = defaultURI
	}
	if s.ExportURI[0] != '/' {
		return s, fmt.Errorf("export_uri: %q does not begin with a slash", s.ExportURI)
	}
	if s.ExportAddr.IP == "" {
		s.ExportAddr.IP = "127.0.0.1"
	}
	if s.ExportAddr.Port == nil {
		s.ExportAddr.Port = ptr(defaultPort)
	}
	if p := *s.ExportAddr.Port; p < 0 || p > 65535 {
		return s, fmt.Errorf("export_addr.port: %d is not between 0 and 65535", p)
	}
	if s.Prefix == nil {
		s.Prefix = ptr("apisix_")
	}
	if *s.Prefix != "" && !metricName.MatchString(*s.Prefix) {
		return s, fmt.Errorf("metric_prefix: %q cannot begin a metric's name", *s.Prefix)
	}
	if s.MaxSeries == 0 {
		s.MaxSeries = defaultSeries
	}
	if s.MaxSeries < 1 {
		return s, fmt.Errorf("max_series: %d is below 1", s.MaxSeries)
	}
	for _, b := range []struct {
		name     string
		value    *[]float64
		defaults []float64
	}{
		{"default_buckets", &s.Latency, latencyBuckets},
		{"llm_latency_buckets", &s.LLMLatency, latencyBuckets},
		{"llm_prompt_tokens_buckets", &s.Prompt, tokenBuckets},
		{"llm_completion_tokens_buckets", &s.Completion, tokenBuckets},
	} {
		if len(*b.value) == 0 {
			*b.value = b.defaults
		}
		if err := ascending(*b.value); err != nil {
			return s, fmt.Errorf("%s: %w", b.name, err)
		}
	}
	return s, nil
}

func ascending(bounds []float64) error {
	const most = 1e12 // what is added up must not leave an integer
	last := 0.0
	for i, b := range bounds {
		if b <= last || b > most || math.IsNaN(b) {
			return fmt.Errorf("[%d] is %v, want more than %v and at most %v", i, b, last, most)
		}
		last = b
	}
	return nil
}

// address is where the exporter listens.
func (s *settings) address() string {
	return net.JoinHostPort(s.ExportAddr.IP, strconv.Itoa(*s.ExportAddr.Port))
}

// variables are those that further labels are filled from, each once.
type variables struct {
	names   []string
	getters []variable.Getter
}

// extra reads a metric's further labels: their names and which variables they are.
func (v *variables) extra(m metricSettings, taken []string) (names []string, which []int, err error) {
	for i, one := range m.Extra {
		if len(one) != 1 {
			return nil, nil, fmt.Errorf("extra_labels[%d]: has %d members, want one: a name and a variable", i, len(one))
		}
		for name, value := range one {
			switch from, ok := strings.CutPrefix(value, "$"); {
			case !labelName.MatchString(name) || strings.HasPrefix(name, "__") || name == "le":
				err = errors.New("cannot be a label's name")
			case contains(taken, name) || contains(names, name):
				err = errors.New("is a label already")
			case !ok || from == "":
				err = fmt.Errorf("%q is no variable, such as $host", value)
			default:
				names, which = append(names, name), append(which, v.index(from))
			}
			if err != nil {
				return nil, nil, fmt.Errorf("extra_labels[%d]: %s: %w", i, name, err)
			}
		}
	}
	return names, which, nil
}

// index is the number of a variable, which is noted if it is new.
func (v *variables) index(name string) int {
	for i, n := range v.names {
		if n == name {
			return i
		}
	}
	get, known := variable.Compile(name)
	if !known {
		get = nil
	}
	v.names, v.getters = append(v.names, name), append(v.getters, get)
	return len(v.names) - 1
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// lifetime is a setting in seconds as a duration.
func lifetime(seconds int) (time.Duration, error) {
	if seconds < 0 {
		return 0, fmt.Errorf("expire: %d is below 0", seconds)
	}
	return time.Duration(seconds) * time.Second, nil
}
