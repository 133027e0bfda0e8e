package bedrock

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/drivertest"
	"github.com/gosix/gosix/pkg/drivers/protocol"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/jsonedit"
)

func testDriver() *driver { return &driver{func() time.Time { return moment }} }

func instance() *drivers.Instance {
	return &drivers.Instance{
		Provider: "bedrock", Driver: testDriver(), Where: drivers.Where{Region: "us-east-1"}, Host: "bedrock-runtime.us-east-1.amazonaws.com",
		AWS: &keys,
	}
}

func model(name string) []jsonedit.Edit {
	return []jsonedit.Edit{{Name: "model", Value: jsonedit.AppendQuote(nil, name)}}
}

func TestRequests(t *testing.T) {
	const sonnet = "anthropic.claude-3-5-sonnet-20241022-v2:0"
	tests := map[string]struct {
		change     func(*drivers.Instance)
		body       string
		path, want string // of the request to the provider
	}{
		"the model is in the path and not in the body": {
			nil, `{"model":"` + sonnet + `","messages":[]}`, "/model/anthropic.claude-3-5-sonnet-20241022-v2%3A0/converse", `{"messages":[]}`,
		},
		"a stream is another path": {
			nil, `{"model":"m","messages":[],"stream":true}`, "/model/m/converse-stream", `{"messages":[]}`,
		},
		"no stream is asked for": {
			nil, `{"model":"m","stream":false,"messages":[]}`, "/model/m/converse", `{"messages":[]}`,
		},
		"the configured model wins": {
			func(i *drivers.Instance) { i.Options = model("own") }, `{"model":"m","messages":[]}`, "/model/own/converse", `{"messages":[]}`,
		},
		"a configured model alone changes nothing in the body": {
			func(i *drivers.Instance) { i.Options = model("own") }, `{ "messages" : [] }`, "/model/own/converse", `{ "messages" : [] }`,
		},
		"an ARN is one segment": {
			func(i *drivers.Instance) {
				i.Options = model("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/x")
			}, `{"messages":[]}`,
			"/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Aapplication-inference-profile%2Fx/converse", `{"messages":[]}`,
		},
		"what is no name stays one segment": {
			nil, `{"model":"../x?a=b#ä","messages":[]}`, "/model/..%2Fx%3Fa%3Db%23%C3%A4/converse", `{"messages":[]}`,
		},
		"an endpoint's path wins and is encoded as it is signed": {
			func(i *drivers.Instance) { i.Path, i.Query = "/model/a:b%3Ac%2Fd/converse", "x=y" }, `{"messages":[]}`,
			"/model/a%3Ab%3Ac%2Fd/converse?x=y", `{"messages":[]}`,
		},
		"the limit of tokens is a member of inferenceConfig": {
			func(i *drivers.Instance) { i.MaxTokens = []byte("9") },
			`{"model":"m","messages":[],"inferenceConfig":{"temperature":1.0,"maxTokens":5}}`, "/model/m/converse",
			`{"messages":[],"inferenceConfig":{"temperature":1.0,"maxTokens":9}}`,
		},
		"which is made where there is none": {
			func(i *drivers.Instance) { i.MaxTokens = []byte("9") }, `{"model":"m","messages":[]}`, "/model/m/converse",
			`{"messages":[],"inferenceConfig":{"maxTokens":9}}`,
		},
		"a configured body is merged": {
			func(i *drivers.Instance) {
				i.Bodies = map[protocol.ID][]byte{protocol.BedrockConverse: []byte(`{"inferenceConfig":{"topP":0.5,"maxTokens":1}}`)}
			}, `{"model":"m","messages":[],"inferenceConfig":{"maxTokens":5}}`, "/model/m/converse",
			`{"messages":[],"inferenceConfig":{"maxTokens":5,"topP":0.5}}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			i := instance()
			if tt.change != nil {
				tt.change(i)
			}
			c := drivertest.NewCall(t, i, "/x/converse", tt.body)
			r, err := i.Driver.Request(c)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]string{tt.path, tt.want}, []string{r.Path, string(jsonedit.Join(r.Body))}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWithoutAModelThereIsNoPath(t *testing.T) {
	for _, body := range []string{`{"messages":[]}`, `{"model":"","messages":[]}`, `{"model":".","messages":[]}`, `{"model":"..","messages":[]}`} {
		i := instance()
		if _, err := i.Driver.Request(drivertest.NewCall(t, i, "/x/converse", body)); !errors.Is(err, drivers.ErrNoPath) {
			t.Errorf("%s: got %v", body, err)
		}
	}
}

func TestEndpoint(t *testing.T) {
	d := testDriver()
	for region, want := range map[string]string{"": "", "eu-west-1": "bedrock-runtime.eu-west-1.amazonaws.com"} {
		if got := d.Endpoint(drivers.Where{Region: region}).Host; got != want {
			t.Errorf("%q: got %q, want %q", region, got, want)
		}
	}
}

func TestARequestIsSignedAsItIsSent(t *testing.T) {
	i := instance()
	c := drivertest.NewCall(t, i, "/x/converse", `{"model":"anthropic.claude-3-5-sonnet-20241022-v2:0",`+hi[1:])
	c.Request.Header.Add("Authorization", "Bearer client")
	r, err := i.Driver.Request(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := drivers.Sign(context.Background(), c, r); err != nil {
		t.Fatal(err)
	}
	// That of the test vector for this request.
	const want = "Signature=8f9e855c2282691e91cc847079f75f914d1d62c3939187d6b7419506176856b2"
	if got := r.Header.Joined("Authorization"); !strings.HasSuffix(got, want) {
		t.Errorf("got %s, body %s", got, jsonedit.Join(r.Body))
	}
}

func TestWhatCannotBeSigned(t *testing.T) {
	tests := map[string]struct {
		change func(*drivers.Instance)
		want   string
	}{
		"no region": {
			func(i *drivers.Instance) { i.Where.Region = "" },
			"failed to sign AWS request: missing region for AWS SigV4 signing (provider_conf.region required for bedrock)",
		},
		"keys that cannot be sent": {
			func(i *drivers.Instance) { i.AWS = &drivers.AWS{AccessKeyID: "a b"} },
			"failed to sign AWS request: the keys have a character where none may be",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			i := instance()
			tt.change(i)
			c := drivertest.NewCall(t, i, "/x/converse", `{"model":"m","messages":[]}`)
			r, err := i.Driver.Request(c)
			if err != nil {
				t.Fatal(err)
			}
			var failed *drivers.SignError
			if err := drivers.Sign(context.Background(), c, r); !errors.As(err, &failed) || failed.Text != tt.want {
				t.Errorf("got %v", err)
			}
			if r.Header.Has("Authorization") {
				t.Error("it has a signature")
			}
		})
	}
}

func TestWithoutKeysTheClientsOwnGoAlong(t *testing.T) {
	i := instance()
	i.AWS = nil
	c := drivertest.NewCall(t, i, "/x/converse", `{"model":"m","messages":[]}`)
	c.Request.Header = exchange.Header{}
	c.Request.Header.Add("Authorization", "Bearer client")
	r, err := i.Driver.Request(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := drivers.Sign(context.Background(), c, r); err != nil {
		t.Fatal(err)
	}
	if got := r.Header.Get("Authorization"); got != "Bearer client" {
		t.Errorf("got %q", got)
	}
}

func BenchmarkSign(b *testing.B) {
	i := instance()
	i.Options = model("m")
	doc, err := jsonedit.Index([]byte(hi), jsonedit.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c := &drivers.Call{Instance: i, Request: &exchange.Request{}, Body: doc, Protocol: protocol.BedrockConverse}
		if err := drivers.Prepare(c); err != nil {
			b.Fatal(err)
		}
		r, err := i.Driver.Request(c)
		if err != nil {
			b.Fatal(err)
		}
		if err := drivers.Sign(context.Background(), c, r); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRecordings(t *testing.T) { drivertest.Run(t, testDriver(), "testdata/answers") }
