package plugin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gosix/gosix/pkg/exchange"
)

// ExitError ends a request with an answer of the gateway's own.
type ExitError struct {
	Status int
	// Body goes to the client: nil makes the HTML error page for statuses from 400 (no
	// body below), string and []byte are sent verbatim as text, anything else as JSON
	// followed by a newline (spec/04 §2).
	Body   any
	Header []exchange.Field
	// Err is the cause, for the error log alone.
	Err error
	// Proxy marks an error of the proxying part (metric label response_source).
	Proxy bool
}

func (e *ExitError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("exit with status %d: %v", e.Status, e.Err)
	}
	return fmt.Sprintf("exit with status %d", e.Status)
}

// Unwrap returns the cause.
func (e *ExitError) Unwrap() error { return e.Err }

// Exit returns an ExitError with that status and body.
func Exit(status int, body any) *ExitError { return &ExitError{Status: status, Body: body} }

const plainText = "text/plain; charset=utf-8"

// Answer sends e to the client. It does nothing when an answer is already on its way.
func (e *ExitError) Answer(r *exchange.Response) {
	if r.Committed() {
		return
	}
	if e.Proxy {
		r.Origin = exchange.FromProxy
	}
	for _, f := range e.Header {
		r.Header.Add(f.Name, f.Value)
	}
	switch body := e.Body.(type) {
	case nil:
		if e.Status < 400 {
			_ = r.Send(e.Status, "", nil)
			return
		}
		_ = r.Send(e.Status, "text/html; charset=utf-8", ErrorPage(e.Status))
	case string:
		_ = r.Send(e.Status, plainText, []byte(body))
	case []byte:
		_ = r.Send(e.Status, plainText, body)
	default:
		p, err := json.Marshal(body)
		if err != nil {
			_ = r.Send(http.StatusInternalServerError, "text/html; charset=utf-8", ErrorPage(500))
			return
		}
		_ = r.Send(e.Status, plainText, append(p, '\n'))
	}
}

// ErrorPage is the body of a bare answer: a page whose title is the status line.
func ErrorPage(status int) []byte {
	line := strconv.Itoa(status)
	if text := statusText(status); text != "" {
		line += " " + text
	}
	return []byte("<html>\r\n<head><title>" + line + "</title></head>\r\n<body>\r\n<center><h1>" +
		line + "</h1></center>\r\n</body>\r\n</html>\r\n")
}

// statusText words a few statuses as the reference's server does.
func statusText(status int) string {
	switch status {
	case http.StatusFound:
		return "Found"
	case http.StatusRequestEntityTooLarge:
		return "Request Entity Too Large"
	case http.StatusRequestURITooLong:
		return "Request-URI Too Large"
	case http.StatusMethodNotAllowed:
		return "Not Allowed"
	case http.StatusServiceUnavailable:
		return "Service Temporarily Unavailable"
	case http.StatusGatewayTimeout:
		return "Gateway Time-out"
	}
	return http.StatusText(status)
}
