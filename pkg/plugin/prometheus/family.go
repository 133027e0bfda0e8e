package prometheus

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// label numbers what a series may be told apart by.
type label int

const (
	routeName label = iota // the label `route` where it is the name, whatever prefer_name says
	serviceName
	route
	routeID
	uri
	host
	service
	serviceID
	consumer
	node
	requestType
	requestModel
	model
	told // those before it are known while a request is under way
)

const (
	code = told + iota
	kind // the label `type`
	source
	labels
)

var labelNames = [labels]string{
	code: "code", kind: "type", source: "response_source", routeName: "route", serviceName: "service", route: "route", routeID: "route_id",
	uri: "matched_uri", host: "matched_host", service: "service", serviceID: "service_id", consumer: "consumer", node: "node",
	requestType: "request_type", requestModel: "request_llm_model", model: "llm_model",
}

// family is a metric: its series by their labels. It is safe for concurrent use.
type family struct {
	info
	expire time.Duration // a series that nobody adds to for so long goes; 0: none does
	extra  []int         // further labels: which of the configured variables
	names  []string      // of all labels, in their order
	bounds []int64       // of a histogram's buckets, in units
	starts *starts       // of bounds
	limit  int           // of series

	mu    sync.Mutex
	cells map[string]*cell // by their values, joined
	lost  *atomic.Int64    // counts requests that found no place
}

// info is what is known of a metric without any configuration.
type info struct {
	name, help string
	form       dto.MetricType
	labels     []label
	scale      float64 // units of a cell's numbers in one of the metric's
}

// cell is one series. Requests add to it without a lock.
type cell struct {
	pairs   []*dto.LabelPair
	n       atomic.Int64   // of a counter or gauge its value, of a histogram the sum
	buckets []atomic.Int64 // each without those below it, the last without a bound
	bounds  []int64
	starts  *starts
	used    atomic.Int64 // Unix seconds, where series expire
	expires bool
	gone    atomic.Bool
}

// add adds to a counter or gauge.
func (c *cell) add(n int64) {
	c.n.Add(n)
	if c.expires {
		c.touch()
	}
}

// observe adds one value, in units, to a histogram.
func (c *cell) observe(v int64) {
	v = max(v, 0)
	i := int(c.starts[bits.Len64(uint64(v))])
	for i < len(c.bounds) && c.bounds[i] < v {
		i++
	}
	c.buckets[i].Add(1)
	c.n.Add(v)
	if c.expires {
		c.touch()
	}
}

// starts says for each number of binary digits where among bounds the bucket of such values is
// looked for. Bounds mostly double, at the least, so that few are looked at.
type starts [65]uint8

func startsOf(bounds []int64) *starts {
	var s starts
	for digits := 1; digits < len(s); digits++ {
		i := int(s[digits-1])
		for i < min(len(bounds), math.MaxUint8) && uint64(bounds[i]) < 1<<(digits-1) {
			i++
		}
		s[digits] = uint8(i)
	}
	return &s
}

// touch notes that somebody added to a series that expires.
func (c *cell) touch() {
	if now := time.Now().Unix(); c.used.Load() != now {
		c.used.Store(now)
	}
}

// overflow is the value of the labels of a series that stands for all those which found no
// place.
const overflow = "overflow"

// cell returns the series of these values, made if there is room for one more. Values of
// more than a request could name are the same for all that find none.
func (f *family) cell(values []string) *cell {
	joined := strings.Join(values, "\xff") // which is in no valid text
	f.mu.Lock()
	defer f.mu.Unlock()
	if c := f.cells[joined]; c != nil {
		return c
	}
	if len(f.cells) >= f.limit {
		f.lost.Add(1)
		for i := range values {
			if i >= len(f.labels) || !bounded(f.labels[i]) {
				values[i] = overflow
			}
		}
		if joined = strings.Join(values, "\xff"); f.cells[joined] != nil {
			return f.cells[joined]
		}
	}
	c := &cell{bounds: f.bounds, starts: f.starts, expires: f.expire > 0}
	if f.bounds != nil {
		c.buckets = make([]atomic.Int64, len(f.bounds)+1)
	}
	for i := range values {
		c.pairs = append(c.pairs, &dto.LabelPair{Name: &f.names[i], Value: &values[i]})
	}
	c.touch()
	f.cells[joined] = c
	return c
}

// bounded are the labels whose values nobody outside can multiply.
func bounded(l label) bool { return l == code || l == kind || l == source || l == requestType }

// gather returns the metric with every series, and drops those that have expired; nil if
// none is left.
func (f *family) gather(prefix string, now time.Time) *dto.MetricFamily {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := metric(prefix+f.name, f.help, f.form)
	for _, joined := range slices.Sorted(maps.Keys(f.cells)) {
		c := f.cells[joined]
		if f.expire > 0 && now.Unix()-c.used.Load() > int64(f.expire/time.Second) {
			c.gone.Store(true)
			delete(f.cells, joined)
			continue
		}
		out.Metric = append(out.Metric, f.series(c))
	}
	if len(out.Metric) == 0 {
		return nil
	}
	return out
}

// series is a cell as the library writes it.
func (f *family) series(c *cell) *dto.Metric {
	m := &dto.Metric{Label: c.pairs}
	n := c.n.Load()
	switch f.form {
	case dto.MetricType_COUNTER:
		m.Counter = &dto.Counter{Value: ptr(float64(n))}
	case dto.MetricType_GAUGE:
		m.Gauge = &dto.Gauge{Value: ptr(float64(n))}
	default:
		h := &dto.Histogram{SampleSum: ptr(float64(n) / f.scale)}
		var below uint64
		for i := range f.bounds {
			below += uint64(c.buckets[i].Load())
			h.Bucket = append(h.Bucket, &dto.Bucket{CumulativeCount: ptr(below), UpperBound: ptr(float64(f.bounds[i]) / f.scale)})
		}
		h.SampleCount = ptr(below + uint64(c.buckets[len(f.bounds)].Load()))
		m.Histogram = h
	}
	return m
}

func metric(name, help string, form dto.MetricType) *dto.MetricFamily {
	return &dto.MetricFamily{Name: &name, Help: &help, Type: &form}
}

func ptr[T any](v T) *T { return &v }

// scaled are bounds in units.
func scaled(bounds []float64, scale float64) []int64 {
	out := make([]int64, len(bounds))
	for i, b := range bounds {
		out[i] = int64(math.Round(b * scale))
	}
	return out
}

// clean is a value as a label may have it: at most this many bytes of valid text.
func clean(s string) string {
	return strings.ToValidUTF8(strings.Clone(cut(s)), "")
}

const maxValue = 128 // bytes

func cut(s string) string {
	if len(s) > maxValue {
		return s[:maxValue]
	}
	return s
}

// codeText is a status as a label.
func codeText(status int) string { return strconv.Itoa(status) }
