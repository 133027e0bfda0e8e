package gateway

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/variable"
)

// DefaultFormat is the access log's line unless configured (spec/08 §5).
const DefaultFormat = `$remote_addr - $remote_user [$time_local] $http_host "$request" $status $body_bytes_sent ` +
	`$request_time "$http_referer" "$http_user_agent" $upstream_addr $upstream_status $upstream_response_time ` +
	`"$upstream_scheme://$upstream_host$upstream_uri" "$apisix_request_id"`

// JSONFormat is the line when JSON escaping is chosen without a format.
const JSONFormat = `{"time":"$time_iso8601","remote_addr":"$remote_addr","host":"$http_host","request":"$request",` +
	`"status":$status,"bytes":$body_bytes_sent,"took":$request_time,"referer":"$http_referer","agent":"$http_user_agent",` +
	`"route":"$route_id","consumer":"$consumer_name","upstream_addr":"$upstream_addr","upstream_status":"$upstream_status",` +
	`"upstream_took":"$upstream_response_time","upstream":"$upstream_scheme://$upstream_host$upstream_uri",` +
	`"model":"$llm_model","attempts":"$llm_attempts","request_id":"$apisix_request_id"}`

const (
	logShards     = 16
	shardLimit    = 1 << 20 // bytes held back at the most per shard; more is dropped and counted
	shardFull     = 16 << 10
	flushInterval = time.Second
)

// AccessLog is one line per request, written by one goroutine: requests only append to
// one of a few buffers. It is safe for concurrent use.
type AccessLog struct {
	format  *variable.Line
	missing string // stands for what is absent or empty
	escape  func(b []byte, at int) []byte
	path    string // empty: out
	out     io.Writer
	file    *os.File
	shards  [logShards]logShard
	next    atomic.Uint32
	dropped atomic.Int64
	told    int64 // of dropped, what the log itself says; the writing goroutine's
	wake    chan struct{}
	reopen  chan struct{}
}

type logShard struct {
	mu    sync.Mutex
	lines []byte
	spare []byte
	_     [64]byte // shards on cache lines of their own
}

// NewAccessLog returns a log in that format (empty: the default for the escaping) to
// the file at path, or to out when path is empty. Run writes it.
func NewAccessLog(path string, out io.Writer, format string, json bool) (*AccessLog, error) {
	if format == "" {
		format = DefaultFormat
		if json {
			format = JSONFormat
		}
	}
	l := &AccessLog{
		format: variable.CompileLine(format), missing: "-", escape: escapePlain, path: path, out: out, // as in nginx's logs
		wake: make(chan struct{}, 1), reopen: make(chan struct{}, 1),
	}
	if json {
		l.missing, l.escape = "", escapeJSON
	}
	if path != "" {
		if err := l.open(); err != nil {
			return nil, fmt.Errorf("access log: %w", err)
		}
	}
	return l, nil
}

func (l *AccessLog) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file, l.out = f, f
	return nil
}

// Record adds the line of a finished exchange. It never waits for the disk.
func (l *AccessLog) Record(x *exchange.Exchange) {
	s := &l.shards[l.next.Add(1)%logShards]
	s.mu.Lock()
	if len(s.lines) > shardLimit {
		s.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	before := len(s.lines)
	s.lines = append(l.format.Append(s.lines, x, l.missing, l.escape), '\n')
	full := before < shardFull && len(s.lines) >= shardFull
	s.mu.Unlock()
	if full {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
}

// escapePlain escapes b[at:] as nginx's logs do.
func escapePlain(b []byte, at int) []byte {
	if harmless(b[at:]) {
		return b
	}
	return appendEscaped(b[:at], string(b[at:])) // few values need it, so that only they are copied
}

// escapeJSON makes b[at:] the inside of a JSON string.
func escapeJSON(b []byte, at int) []byte {
	if harmless(b[at:]) {
		return b
	}
	return appendJSON(b[:at], string(b[at:]))
}

// harmless reports whether no byte of p is one that appendEscaped escapes. It looks at eight
// at a time, at the end also at some that it has seen.
func harmless(p []byte) bool {
	if len(p) < 8 {
		for _, c := range p {
			if unsafeByte[c] {
				return false
			}
		}
		return true
	}
	for rest := p; len(rest) >= 8; rest = rest[8:] {
		if harmful(binary.LittleEndian.Uint64(rest)) {
			return false
		}
	}
	return !harmful(binary.LittleEndian.Uint64(p[len(p)-8:]))
}

// harmful reports whether one of eight bytes is to be escaped. Of those that come behind a
// harmful one, another may seem to be.
func harmful(w uint64) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	quote, slash, del := w^ones*'"', w^ones*'\\', w^ones*0x7f
	return (w|(w-ones*' ')&^w|(quote-ones)&^quote|(slash-ones)&^slash|(del-ones)&^del)&highs != 0
}

// unsafeByte marks what appendEscaped escapes.
var unsafeByte = func() (t [256]bool) {
	for c := range t {
		t[c] = c == '"' || c == '\\' || c < 0x20 || c >= 0x7f
	}
	return t
}()

const upperHex = "0123456789ABCDEF"

// appendEscaped writes what could break a line as \xXX: quotes, backslashes, and
// everything outside printable ASCII.
func appendEscaped(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\' || c < 0x20 || c >= 0x7f:
			b = append(b, '\\', 'x', upperHex[c>>4], upperHex[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

func appendJSON(b []byte, s string) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', upperHex[c>>4], upperHex[c&15])
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(s[i:])
			b = utf8.AppendRune(b, r) // an invalid byte becomes the replacement character
			i += size
			continue
		default:
			b = append(b, c)
		}
		i++
	}
	return b
}

// Reopen makes Run open the file again, after it was renamed.
func (l *AccessLog) Reopen() {
	select {
	case l.reopen <- struct{}{}:
	default:
	}
}

// Dropped is the number of lines lost since the start, because the disk did not keep up or
// refused them.
func (l *AccessLog) Dropped() int64 { return l.dropped.Load() }

// Run writes the log until ctx ends, then what is left, and closes the file.
func (l *AccessLog) Run(ctx context.Context) {
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.flush()
			if l.file != nil {
				_ = l.file.Close()
			}
			return
		case <-tick.C:
		case <-l.wake:
		case <-l.reopen:
			l.flush()
			if l.path != "" {
				_ = l.open() // the old file goes on being written if the new one cannot be
			}
			continue
		}
		l.flush()
	}
}

// flush writes every shard's lines with one write each. What a shard held is swapped
// for an empty buffer, so that requests wait for no disk.
func (l *AccessLog) flush() {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		lines := s.lines
		s.lines, s.spare = s.spare[:0], nil
		s.mu.Unlock()
		if len(lines) > 0 {
			if n, err := l.out.Write(lines); err != nil {
				l.dropped.Add(int64(bytes.Count(lines[n:], []byte{'\n'})))
			}
		}
		s.mu.Lock()
		s.spare = lines[:0]
		s.mu.Unlock()
	}
	if n := l.dropped.Load(); n > l.told {
		_, _ = io.WriteString(l.out, "# "+strconv.FormatInt(n-l.told, 10)+" lines dropped\n")
		l.told = n
	}
}
