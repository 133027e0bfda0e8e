package adminapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/store"
)

// refusal is an error that a client gets as an answer.
type refusal struct {
	status int
	text   string // of error_msg
}

func (r *refusal) Error() string { return r.text }

func badRequest(text string) error { return &refusal{http.StatusBadRequest, text} }

// errKeyNotFound has a member name of its own in the reference.
var errKeyNotFound = errors.New("Key not found") //nolint:staticcheck // the reference's text

func quoted(s string) string {
	return string(jsonedit.AppendQuote(nil, strings.ToValidUTF8(s, "\uFFFD")))
}

// json sends an object: like the reference's, it ends with a newline.
func (a *API) json(c *gin.Context, status int, body []byte) {
	// Clipped: a schema belongs to everybody.
	c.Data(status, "application/json", append(slices.Clip(body), '\n'))
	c.Abort()
}

func (a *API) fail(c *gin.Context, status int, text string) {
	a.json(c, status, []byte(`{"error_msg":`+quoted(text)+`}`))
}

// failed answers with an error from any depth.
func (a *API) failed(c *gin.Context, err error) {
	var r *refusal
	switch {
	case errors.As(err, &r):
		a.fail(c, r.status, r.text)
	case errors.Is(err, errKeyNotFound):
		a.json(c, http.StatusNotFound, []byte(`{"message":"Key not found"}`))
	case errors.Is(err, store.ErrTooLarge):
		a.fail(c, http.StatusBadRequest, err.Error())
	case errors.Is(err, store.ErrUnknownOutcome):
		a.complain(c, err)
		// Whoever sends it again without a look may do it twice.
		a.storeFailed(c, http.StatusGatewayTimeout, err, "outcome_unknown", false)
	case errors.Is(err, store.ErrUnavailable):
		a.complain(c, err)
		a.storeFailed(c, http.StatusServiceUnavailable, err, "config_store_unavailable", true)
	default:
		a.complain(c, err)
		a.fail(c, http.StatusServiceUnavailable, err.Error())
	}
}

// storeFailed is fail with what a program can go by.
func (a *API) storeFailed(c *gin.Context, status int, err error, code string, retryable bool) {
	a.json(c, status, fmt.Appendf(nil, `{"error_msg":%s,"error":%q,"retryable":%t}`, quoted(err.Error()), code, retryable))
}

// complaints limits the lines about a store that fails: every request would have one.
type complaints struct {
	mu     sync.Mutex
	last   time.Time
	silent int // since then
}

const complainEvery = time.Minute

// complain logs that the store failed, once a minute.
func (a *API) complain(c *gin.Context, err error) {
	a.complaints.mu.Lock()
	defer a.complaints.mu.Unlock()
	now := a.o.Clock.Now()
	if !a.complaints.last.IsZero() && now.Sub(a.complaints.last) < complainEvery {
		a.complaints.silent++
		return
	}
	a.o.Log.Warn().Err(err).Str("path", c.Request.URL.Path).Str("method", c.Request.Method).Int("not_logged", a.complaints.silent).
		Msg("configuration store failed")
	a.complaints.last, a.complaints.silent = now, 0
}

// page sends a bare HTML answer.
func (a *API) page(c *gin.Context, status int) {
	c.Data(status, "text/html; charset=utf-8", plugin.ErrorPage(status))
	c.Abort()
}

func (a *API) bare(status int) gin.HandlerFunc {
	return func(c *gin.Context) { a.page(c, status) }
}

// plain sends a text that the reference writes without wrapping it.
func (a *API) plain(c *gin.Context, status int, text string) {
	c.Data(status, "application/json", []byte(text))
	c.Abort()
}

func revision(c *gin.Context, r store.Result) {
	c.Header("X-Gosix-Revision", strconv.FormatInt(r.Revision, 10))
}

// readLimited reads a body of up to limit bytes. A longer one is reported by its size,
// as announced or as far as it was read.
func readLimited(r *http.Request, limit int64) (body []byte, size int64, err error) {
	if r.ContentLength > limit {
		return nil, r.ContentLength, nil
	}
	body, err = io.ReadAll(io.LimitReader(r.Body, limit+1))
	return body, int64(len(body)), err
}
