package aiproxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/gcp"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/schema"
)

// gcpAuth is a service account of Google Cloud as configured.
type gcpAuth struct {
	Account string `json:"service_account_json"`
	MaxTTL  int64  `json:"max_ttl"`           // s
	Early   *int64 `json:"expire_early_secs"` // nil: 60
}

// awsAuth is keys for AWS as configured.
type awsAuth struct {
	ID     string `json:"access_key_id"`
	Secret string `json:"secret_access_key"`
	Token  string `json:"session_token"`
}

const defaultEarly = 60 // s

// object reads an object; an empty list stands for an empty one. It reports whether there is
// one.
func object(raw json.RawMessage, into any) (bool, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] == 'n' {
		return false, nil
	}
	if raw[0] != '{' {
		return true, nil
	}
	return true, plugin.Decode(raw, into)
}

var errNoTokens = errors.New("this program gets no access tokens")

// cloud compiles the credentials that change with time. Both are credentials of the
// instance's own, even where a service account is the program's default.
func (d Deps) cloud(out *drivers.Instance, a *auth) error {
	var g gcpAuth
	switch there, err := object(a.GCP, &g); {
	case err != nil:
		return err
	case there && d.Tokens == nil:
		out.Unreachable, out.Credentials = errNoTokens, true
	case there:
		early := int64(defaultEarly)
		if g.Early != nil {
			early = *g.Early
		}
		out.Credentials = true
		out.Tokens = d.Tokens.Account(gcp.Config{JSON: g.Account, MaxTTL: seconds(g.MaxTTL), Early: seconds(early)})
	}
	var keys awsAuth
	there, err := object(a.AWS, &keys)
	if there && keys.ID != "" {
		out.Credentials = true
		out.AWS = &drivers.AWS{AccessKeyID: keys.ID, SecretAccessKey: keys.Secret, SessionToken: keys.Token}
	}
	return err
}

// seconds turns a number of seconds into a duration, of at most a century.
func seconds(n int64) time.Duration { return time.Duration(min(n, 100*366*24*3600)) * time.Second }

// references reports whether a member of the credentials is a secret reference.
func (a *auth) references() bool {
	for _, f := range slices.Concat(a.Header, a.Query) {
		if schema.IsReference(f.Value) {
			return true
		}
	}
	var g gcpAuth
	var keys awsAuth
	_, _ = object(a.GCP, &g)
	_, _ = object(a.AWS, &keys)
	return slices.ContainsFunc([]string{g.Account, keys.ID, keys.Secret, keys.Token}, schema.IsReference)
}

// speak compiles the protocol that an instance is to be asked in.
func speak(out *drivers.Instance, id protocol.ID) error {
	native := out.Driver.Native()
	if id != "" && !slices.Contains(native, id) {
		names := make([]string, len(native))
		for n := range native {
			names[n] = string(native[n])
		}
		return fmt.Errorf("provider_conf.protocol: provider %s does not speak %s (it speaks %s)", out.Provider, id, strings.Join(names, ", "))
	}
	out.Speak = id
	return nil
}
