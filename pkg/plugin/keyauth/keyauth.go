// Package keyauth is the plugin key-auth: it identifies a consumer by a key in a header or
// an argument. Where consumers come from it does not know.
package keyauth

import (
	_ "embed"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/variable"
)

//go:embed schema.json
var schema []byte

const consumerSchema = `{"type":"object","properties":{"key":{"type":"string"}},"required":["key"]}`

// Definition is the plugin.
func Definition() plugin.Definition {
	return plugin.Definition{
		Name: "key-auth", Version: "0.1", Priority: 2500, Auth: true,
		Schema: schema, ConsumerSchema: []byte(consumerSchema),
		ConsumerKey: "key", ConsumerSecrets: []string{"key"},
		New: build,
	}
}

// conf is a configuration with its defaults.
type conf struct {
	Header    string `json:"header"`
	Query     string `json:"query"`
	Hide      bool   `json:"hide_credentials"`
	Realm     string `json:"realm"`
	Anonymous string `json:"anonymous_consumer"`

	challenge []exchange.Field
}

func build(b *plugin.Build) (plugin.Phases, error) {
	c := &conf{}
	if err := plugin.Decode(b.Conf, c); err != nil {
		return plugin.Phases{}, err
	}
	c.challenge = []exchange.Field{{Name: "WWW-Authenticate", Value: fmt.Sprintf("apikey realm=%q", c.Realm)}}
	return plugin.Phases{Rewrite: c.rewrite}, nil
}

var (
	errMissing = errors.New("missing API key in request")
	errInvalid = errors.New("invalid API key in request")
)

type message struct {
	Message string `json:"message"`
}

func (c *conf) rewrite(x *plugin.Context) error {
	key, inHeader := c.key(x)
	if key == "" {
		return c.otherwise(x, "Missing API key in request", errMissing)
	}
	id := x.Consumers().Find("key-auth", key)
	if id == nil {
		return c.otherwise(x, "Invalid API key in request", errInvalid)
	}
	if c.Hide {
		c.hide(x, inHeader)
	}
	x.Attach(id)
	return nil
}

// key is what the client presents; the header comes first.
func (c *conf) key(x *plugin.Context) (key string, inHeader bool) {
	if h := x.Request.Header.Get(c.Header); h != "" {
		return h, true
	}
	return variable.QueryValue(x.Request.RawQuery, c.Query).String(), false
}

// otherwise attaches the anonymous consumer if there is one, or refuses.
func (c *conf) otherwise(x *plugin.Context, text string, cause error) error {
	if c.Anonymous != "" {
		if consumer := x.Consumers().ByName(c.Anonymous); consumer != nil {
			x.Attach(&plugin.Identity{Consumer: consumer})
			return nil
		}
		cause = fmt.Errorf("%w, and there is no consumer %q", cause, c.Anonymous)
	}
	return &plugin.ExitError{Status: http.StatusUnauthorized, Body: message{text}, Header: c.challenge, Err: cause}
}

// hide takes the key out of what the upstream sees.
func (c *conf) hide(x *plugin.Context, inHeader bool) {
	if inHeader {
		x.Request.Header.Del(c.Header)
		return
	}
	var kept []string
	for pair := range strings.SplitSeq(x.Request.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if name != c.Query {
			kept = append(kept, pair)
		}
	}
	path, _, _ := strings.Cut(x.Request.Target, "?")
	x.Request.RawQuery = strings.Join(kept, "&")
	x.Request.Target = path
	if x.Request.RawQuery != "" {
		x.Request.Target += "?" + x.Request.RawQuery
	}
}
