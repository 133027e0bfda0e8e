package fakellm

import (
	"net/url"
	"slices"
	"strconv"
	"time"
)

// script is what the query of a request asks for. Numbers of events count from 1.
type script struct {
	status     int           // of an answer that is an error; 200: none
	kind       string        // of the error, in place of what fits the status
	retryAfter string        // header of an error
	reset      bool          // the connection is broken before the head
	silent     time.Duration // before the first byte; negative: for ever
	gap        time.Duration // between events
	drip       time.Duration // between bytes
	words      int           // of the answer; negative: as many as it has
	endless    bool          // words until the client leaves
	cut        int           // the connection is broken before this event; 0: not
	cutByte    int           // the connection is broken after so many bytes of the body; negative: not
	stall      int           // nothing more comes from this event on; 0: not
	malformed  int           // this event is not JSON; 0: none
	broken     int           // this event reports a failure, and is the last; 0: none
	empty      bool          // 200 without a body
	html       bool          // 200 with a page
	gzip       bool          // the body is compressed, asked for or not
	long       bool          // the head announces more than comes
	tool       bool          // the first tool that is offered is called
	think      bool          // thoughts come before the answer
	noUsage    bool          // a chat's stream says nothing of its usage
	noEnd      bool          // the protocol's last event is missing, the framing ends well
}

// forever is longer than any test.
const forever = time.Hour

func scriptOf(q url.Values) script {
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(q.Get(name)); err == nil {
			return n
		}
		return otherwise
	}
	pause := func(name string) time.Duration {
		ms := number(name, 0)
		if ms < 0 {
			return forever
		}
		return time.Duration(ms) * time.Millisecond
	}
	s := script{
		status: number("status", 200), kind: q.Get("kind"), retryAfter: q.Get("retry_after"), reset: q.Has("reset"),
		silent: pause("silent_ms"), gap: pause("gap_ms"), drip: pause("drip_ms"),
		words: number("words", -1), endless: q.Has("endless"),
		cutByte: number("cut_byte", -1), stall: number("stall", 0), malformed: number("malformed", 0), broken: number("error", 0),
		empty: q.Has("empty"), html: q.Has("html"), gzip: q.Has("gzip"), long: q.Has("long"),
		tool: q.Has("tool"), think: q.Has("think"), noEnd: q.Has("no_end"), noUsage: q.Has("no_usage"),
	}
	if n := number("cut", -1); n >= 0 {
		s.cut = n + 1
	}
	return s
}

// Scenario is a named script. Where others name the same fault, the name is theirs.
type Scenario struct{ Name, About, Query string }

// Scenarios are the faults that a client of providers has to live with.
func Scenarios() []Scenario { return slices.Clone(scenarios) }

var scenarios = []Scenario{
	{"S01", "all is well", ""},
	{"S02", "too many requests, with the time to wait", "status=429&retry_after=1"},
	{"S03", "an internal error", "status=500"},
	{"S04", "overloaded", "status=529"},
	{"S05", "the connection is reset before the head", "reset"},
	{"S06", "nothing ever comes", "silent_ms=-1"},
	{"S07", "the first byte comes late", "silent_ms=200"},
	{"S08", "the connection breaks in the middle", "cut=3"},
	{"S09", "the stream stalls", "stall=3"},
	{"S10", "an event is malformed", "malformed=2"},
	{"S11", "the first event is an error", "error=1"},
	{"S12", "the second event is an error", "error=2"},
	{"S13", "the thirtieth event is an error", "error=30&words=60"},
	{"S14", "an empty 200", "empty"},
	{"S15", "a page in place of an answer", "html"},
	{"S16", "a compressed answer that nobody asked for", "gzip"},
	{"S17", "a length that is too long", "long"},
	{"S18", "an answer without an end", "endless"},
	{"S19", "one byte a second", "drip_ms=1000"},
	{"S20", "the last event is missing", "no_end"},
}
