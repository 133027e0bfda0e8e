package health

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
)

// Check is a compiled `checks` (spec/05 §8). It is immutable.
type Check struct {
	active  active
	passive *limits // nil: what requests meet says nothing
	raw     string  // what it was compiled from: equal ones are the same check
}

// active says how servers are probed.
type active struct {
	kind        string // http, https or tcp
	timeout     time.Duration
	concurrency int
	host        string // of the Host header and of TLS; empty: the target's
	port        string // empty: the target's
	path        string
	method      string
	body        string
	verify      bool
	header      []exchange.Field
	healthy     time.Duration // between probes of a healthy server; 0: it is not probed
	unhealthy   time.Duration
	limits
}

// limits say what counts, and how much of it changes a verdict.
type limits struct {
	good, bad                          []int // statuses
	successes                          int
	httpFailures, tcpFailures, timeout int // 0: they do not count
}

// Parse compiles the member `checks`, whose present objects have their defaults filled in.
// An absent one means that servers of that state are not probed.
func Parse(raw json.RawMessage) (*Check, error) {
	var doc map[string]any // not a struct: names are obeyed letter by letter
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("checks: %w", err)
	}
	a := object(doc["active"])
	healthy, unhealthy := object(a["healthy"]), object(a["unhealthy"])
	c := &Check{raw: string(raw), active: active{
		kind: text(a["type"], "http"), timeout: seconds(a["timeout"], 1), concurrency: max(1, whole(a["concurrency"], 10)),
		host: text(a["host"], ""), path: text(a["http_path"], "/"), method: text(a["http_method"], "GET"), body: text(a["http_req_body"], ""),
		verify: a["https_verify_certificate"] != false, healthy: seconds(healthy["interval"], 0), unhealthy: seconds(unhealthy["interval"], 0),
		limits: limits{
			good: statuses(healthy["http_statuses"], 200, 302), successes: whole(healthy["successes"], 2),
			bad:          statuses(unhealthy["http_statuses"], 429, 404, 500, 501, 502, 503, 504, 505),
			httpFailures: whole(unhealthy["http_failures"], 5), tcpFailures: whole(unhealthy["tcp_failures"], 2), timeout: whole(unhealthy["timeouts"], 3),
		},
	}}
	if port := whole(a["port"], 0); port > 0 {
		c.active.port = fmt.Sprint(port)
	}
	lines, _ := a["req_headers"].([]any)
	for _, line := range lines {
		if name, value, ok := strings.Cut(text(line, ""), ":"); ok {
			c.active.header = append(c.active.header, exchange.Field{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
		}
	}
	if _, ok := doc["passive"]; ok {
		p := object(doc["passive"])
		healthy, unhealthy := object(p["healthy"]), object(p["unhealthy"])
		c.passive = &limits{
			good:         statuses(healthy["http_statuses"], 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 306, 307, 308),
			bad:          statuses(unhealthy["http_statuses"], 429, 500, 503),
			successes:    whole(healthy["successes"], 5),
			httpFailures: whole(unhealthy["http_failures"], 5), tcpFailures: whole(unhealthy["tcp_failures"], 2), timeout: whole(unhealthy["timeouts"], 7),
		}
	}
	return c, nil
}

func object(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func text(v any, otherwise string) string {
	if s, ok := v.(string); ok {
		return s
	}
	return otherwise
}

func whole(v any, otherwise int) int {
	if n, ok := v.(float64); ok {
		return int(n)
	}
	return otherwise
}

func seconds(v any, otherwise float64) time.Duration {
	n, ok := v.(float64)
	if !ok {
		n = otherwise
	}
	return time.Duration(n * float64(time.Second))
}

func statuses(v any, otherwise ...int) (list []int) {
	values, ok := v.([]any)
	if !ok {
		return otherwise
	}
	for _, s := range values {
		list = append(list, whole(s, 0))
	}
	return list
}

// judge says what a status counts as.
func (l *limits) judge(status int) outcome {
	switch {
	case slices.Contains(l.good, status):
		return success
	case slices.Contains(l.bad, status):
		return httpFailure
	}
	return nothing
}

// outcome is what a probe or a request says of a server.
type outcome uint8

const (
	nothing outcome = iota
	success
	httpFailure
	tcpFailure
	timeout
	outcomes
)

var outcomeWords = [outcomes]string{success: "SUCCESS", httpFailure: "HTTP", tcpFailure: "TCP", timeout: "TIMEOUT"}

func (l *limits) of(o outcome) int {
	return [outcomes]int{success: l.successes, httpFailure: l.httpFailures, tcpFailure: l.tcpFailures, timeout: l.timeout}[o]
}
