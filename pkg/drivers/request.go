package drivers

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/upstream"
)

// Shape is what of a provider's requests differs from those of others in the same protocol.
// The zero value is a provider without differences.
type Shape struct {
	// ChatLimit is the member that limits the answer of a chat; empty: max_tokens.
	ChatLimit string
	// NoModel: the body must not name a model.
	NoModel bool
}

// ErrNoPath is a call for which neither the instance nor the provider has a path.
var ErrNoPath = errors.New("could not resolve upstream path: ensure the route or request body specifies a model, " +
	"or that override.endpoint includes a path")

// Request builds the request of a prepared call (spec/06 §A5): a pure function of the
// client's bytes and the instance. path is the provider's, escaped, with the model in it
// where the provider wants it there; empty: it has none. An instance's own path wins.
func (s Shape) Request(c *Call, path string) (*upstream.Request, error) {
	i := c.Instance
	switch {
	case i.Path != "":
		path = i.Path
	case c.Target == protocol.Passthrough:
		path = (&url.URL{Path: c.Request.Path}).EscapedPath()
	}
	if path == "" {
		return nil, ErrNoPath
	}
	body, err := s.body(c)
	if err != nil {
		return nil, err
	}
	r := &c.room.request
	*r = upstream.Request{}
	r.Target, r.Timeouts, r.Method, r.Host, r.Header, r.Body = i.Target, i.Timeouts, http.MethodPost, i.Host, header(c), body
	query := i.Query
	if c.Target == protocol.Passthrough {
		r.Method, query = c.Request.Method, i.WithClientQuery(c.Request.RawQuery)
	}
	r.Lines, r.Path = i.lines, path
	if query != "" {
		r.Path += "?" + query
	}
	return r, nil
}
