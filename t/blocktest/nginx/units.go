package nginx

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// parseSize reads 8k, 30M, 1g.
func parseSize(s string) (int64, error) {
	digits, factor := s, int64(1)
	for suffix, f := range map[string]int64{"k": 1 << 10, "m": 1 << 20, "g": 1 << 30} {
		if rest, ok := strings.CutSuffix(strings.ToLower(s), suffix); ok {
			digits, factor = rest, f
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return 0, fmt.Errorf("invalid size %q", s)
	}
	return n * factor, nil
}

// units are the suffixes of times, the longer ones first.
var units = []struct {
	suffix string
	unit   time.Duration
}{
	{"ms", time.Millisecond},
	{"s", time.Second},
	{"m", time.Minute},
	{"h", time.Hour},
	{"d", 24 * time.Hour},
	{"w", 7 * 24 * time.Hour},
	{"M", 30 * 24 * time.Hour},
	{"y", 365 * 24 * time.Hour},
	{"", time.Second},
}

// parseTime reads 500ms, 5s, 10m, 1h30m; a number alone is seconds.
func parseTime(s string) (time.Duration, error) {
	rest, negative := strings.CutPrefix(s, "-")
	var total time.Duration
	for begun := false; rest != "" || !begun; begun = true {
		n := 0
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		value, err := strconv.ParseInt(rest[:n], 10, 32)
		if err != nil {
			return 0, fmt.Errorf("invalid time %q", s)
		}
		rest = rest[n:]
		for _, u := range units {
			if after, ok := strings.CutPrefix(rest, u.suffix); ok {
				rest, total = after, total+time.Duration(value)*u.unit
				break
			}
		}
	}
	if negative {
		total = -total
	}
	return total, nil
}
