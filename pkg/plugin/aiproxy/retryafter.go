package aiproxy

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/exchange"
)

// retryAfter is how long a provider asks not to be called: retry-after-ms, else
// Retry-After in seconds or as a date; 0: it does not.
func retryAfter(h *exchange.Header, now time.Time) time.Duration {
	if text := h.Get("retry-after-ms"); text != "" {
		if d, ok := times(text, time.Millisecond); ok {
			return d
		}
	}
	text := h.Get("Retry-After")
	if text == "" {
		return 0
	}
	if d, ok := times(text, time.Second); ok {
		return d
	}
	if date, err := http.ParseTime(strings.TrimSpace(text)); err == nil {
		return min(max(0, date.Sub(now)), year)
	}
	return 0
}

const year = 366 * 24 * time.Hour

// times reads a number of units that is not negative, and no more than a year of them.
func times(text string, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	if err != nil || !(n >= 0) {
		return 0, false
	}
	return time.Duration(min(n*float64(unit), float64(year))), true
}
