package aiproxy

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/gosix/gosix/pkg/jsonedit"
	"github.com/gosix/gosix/pkg/plugin"
)

// hashKeys are the patterns of hash keys (spec/05 §1).
var hashKeys = map[string]*regexp.Regexp{
	"vars": regexp.MustCompile(`^((uri|server_name|server_addr|request_uri|remote_port|remote_addr|query_string|host|hostname|mqtt_client_id)` +
		`|arg_[0-9a-zA-z_-]+)$`),
	"header": regexp.MustCompile(`^[a-zA-Z0-9-_]+$`),
	"cookie": regexp.MustCompile(`^[a-zA-Z0-9-_]+$`),
}

// check says what the schema cannot of a balancer, in either generation.
func (b balance) check() error {
	if b.Algorithm != "chash" {
		return nil
	}
	switch {
	case b.HashOn == nil:
		return errors.New("must configure `hash_on` when balancer algorithm is chash")
	case *b.HashOn == "consumer":
		return nil
	case b.Key == nil:
		return errors.New("must configure `hash_key` when balancer `hash_on` is not set to cookie")
	case *b.HashOn == "vars_combinations":
		return nil
	}
	pattern := hashKeys[*b.HashOn]
	if pattern == nil {
		return errors.New("type is chash, err: invalid hash_on type " + *b.HashOn)
	}
	if !pattern.MatchString(*b.Key) {
		return fmt.Errorf("invalid configuration: failed to match pattern %q with %q", pattern, *b.Key)
	}
	return nil
}

// seedSingle and seedMulti are what the seed generation says before it looks at the schema.
// What is of the wrong type they leave to it.
func seedSingle(raw []byte) error {
	var c struct {
		Model struct {
			Provider *string `json:"provider"`
		} `json:"model"`
	}
	_ = plugin.Decode(raw, &c)
	return seedProvider(c.Model.Provider, "openai", "deepseek", "openai-compatible")
}

func seedMulti(raw []byte) error {
	var c struct {
		Providers []struct {
			Name *string `json:"name"`
		} `json:"providers"`
		Balancer balance `json:"balancer"`
	}
	_ = plugin.Decode(raw, &c)
	for _, p := range c.Providers {
		if err := seedProvider(p.Name, "openai", "deepseek"); err != nil {
			return err
		}
	}
	return c.Balancer.check()
}

func seedProvider(name *string, known ...string) error {
	if name == nil || slices.Contains(known, *name) {
		return nil
	}
	//lint:ignore ST1005 the reference's text
	return fmt.Errorf("provider: %s is not supported.", *name)
}

func (d Deps) checkSingle(raw []byte) error {
	c, err := readSingle(raw)
	if err != nil {
		return err
	}
	if err := c.Instances[0].check(); err != nil {
		return err
	}
	_, err = d.compile("ai-proxy", c)
	return err
}

func (d Deps) checkMulti(raw []byte) error {
	c, err := readMulti(raw)
	if err != nil {
		return err
	}
	list, places := c.rules.list, map[string]int{}
	for n := range c.Instances {
		i := &c.Instances[n]
		if first, twice := places[i.Name]; twice {
			return fmt.Errorf("duplicate instance name '%s' at %s[%d] and %s[%d]", i.Name, list, first, list, n+1)
		}
		places[i.Name] = n + 1
	}
	for n := range c.Instances {
		i := &c.Instances[n]
		if i.Override.Endpoint != "" && !c.rules.anyEndpoint && !endpointShape.MatchString(i.Override.Endpoint) {
			return errors.New("invalid endpoint")
		}
		if err := i.check(); err != nil {
			return fmt.Errorf("instance '%s': %w", i.Name, err)
		}
	}
	if c.Balancer.Algorithm == "semantic" {
		if err := checkSemantic(raw, c); err != nil {
			return err
		}
	}
	if err := c.Balancer.check(); err != nil {
		return err
	}
	_, err = d.compile("ai-proxy-multi", c)
	return err
}

// endpointShape is what an endpoint must look like (spec/06 §A2).
var endpointShape = regexp.MustCompile(`^(https?)://([^:/]+):?(\d*)/?.*$`)

// check says what the schema cannot of one account.
func (i *instance) check() error {
	if len(i.Auth.GCP) > 0 {
		var gcp struct {
			Account string `json:"service_account_json"`
		}
		if plugin.Decode(i.Auth.GCP, &gcp) == nil && gcp.Account != "" && !strings.HasPrefix(gcp.Account, "$") {
			if err := jsonedit.Check([]byte(gcp.Account), jsonedit.Options{}); err != nil {
				return fmt.Errorf("invalid gcp service_account_json: %w", err)
			}
		}
	}
	switch i.Provider {
	case "vertex-ai":
		if (i.Where.Project == "" || i.Where.Region == "") && i.Override.Endpoint == "" {
			return errors.New("vertex-ai requires either provider_conf (project_id + region) or override.endpoint")
		}
	case "bedrock":
		if i.Where.Region == "" {
			return errors.New("bedrock requires provider_conf.region")
		}
		if len(i.Auth.AWS) == 0 {
			return errors.New("bedrock requires auth.aws")
		}
	}
	return nil
}

func checkSemantic(raw []byte, c *conf) error {
	var own struct {
		Semantic *struct {
			Embeddings struct {
				Provider string `json:"provider"`
				Endpoint string `json:"endpoint"`
			} `json:"embeddings"`
			Fallback string `json:"fallback"`
		} `json:"semantic_opts"`
	}
	if err := plugin.Decode(raw, &own); err != nil {
		return err
	}
	s := own.Semantic
	if s == nil {
		return errors.New("must configure `semantic_opts.embeddings` when balancer algorithm is semantic")
	}
	e := s.Embeddings
	switch {
	case e.Endpoint != "" && !endpointShape.MatchString(e.Endpoint):
		return errors.New("invalid `semantic_opts.embeddings.endpoint`")
	case e.Provider == "azure-openai" && e.Endpoint == "":
		return errors.New("must configure `semantic_opts.embeddings.endpoint` when embeddings provider is azure-openai")
	case e.Provider == "azure-openai":
		if u, err := url.Parse(e.Endpoint); err != nil || strings.Trim(u.Path, "/") == "" {
			//lint:ignore ST1005 the reference's text
			return errors.New("`semantic_opts.embeddings.endpoint` for azure-openai must include the full deployment path, e.g. " +
				"https://{resource}.openai.azure.com/openai/deployments/{deployment}/embeddings?api-version=...")
		}
	}
	found := s.Fallback == ""
	for _, i := range c.Instances {
		if len(i.Examples) == 0 {
			return fmt.Errorf("instance '%s': must configure non-empty `examples` for the semantic algorithm", i.Name)
		}
		found = found || i.Name == s.Fallback
	}
	if !found {
		return fmt.Errorf("`semantic_opts.fallback` names unknown instance '%s'", s.Fallback)
	}
	return nil
}
