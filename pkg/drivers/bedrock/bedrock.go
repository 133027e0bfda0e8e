// Package bedrock is the driver for Amazon Bedrock's Converse API: its place, its paths and
// the signature of its requests. It does not know what comes back.
package bedrock

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/upstream"
)

// service is what signatures call Bedrock.
const service = "bedrock"

// Providers returns the driver by its provider's name.
func Providers() map[string]drivers.Driver {
	return map[string]drivers.Driver{"bedrock": &driver{time.Now}}
}

type driver struct{ now func() time.Time }

var native = []protocol.ID{protocol.BedrockConverse}

func (d *driver) Native() []protocol.ID { return native }

func (d *driver) Endpoint(w drivers.Where) drivers.Endpoint {
	if w.Region == "" {
		return drivers.Endpoint{}
	}
	return drivers.Endpoint{Host: "bedrock-runtime." + w.Region + ".amazonaws.com"}
}

var shape = drivers.Shape{NoModel: true}

// Request builds a request whose path is encoded as it is signed: an endpoint may be
// configured with a ":" in its path.
func (d *driver) Request(c *drivers.Call) (*upstream.Request, error) {
	r, err := shape.Request(c, path(c))
	if err != nil {
		return nil, err
	}
	route, query, more := strings.Cut(r.Path, "?")
	if r.Path = segments(route, encodeOnce); more {
		r.Path += "?" + query
	}
	return r, nil
}

// path is where a model converses. The model, which may be an ARN, is one segment of it;
// "." and ".." could not be.
func path(c *drivers.Call) string {
	if c.Model == "" || c.Model == "." || c.Model == ".." {
		return ""
	}
	if c.Stream {
		return "/model/" + encode(c.Model) + "/converse-stream"
	}
	return "/model/" + encode(c.Model) + "/converse"
}

var errNoRegion = errors.New("missing region for AWS SigV4 signing (provider_conf.region required for bedrock)")

// Sign signs the request with the instance's keys. Without any it stays as it is.
func (d *driver) Sign(_ context.Context, c *drivers.Call, r *upstream.Request) error {
	i := c.Instance
	if i.AWS == nil {
		return nil
	}
	err := errNoRegion
	if i.Where.Region != "" {
		err = sign(r, i.AWS, scope{i.Where.Region, service}, d.now())
	}
	if err != nil {
		return &drivers.SignError{Text: "failed to sign AWS request: " + err.Error(), Err: err}
	}
	return nil
}
