package bedrock

import (
	"strings"
	"testing"
	"time"

	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/exchange"
	"github.com/gosix/gosix/pkg/upstream"
)

// moment is the time of AWS's published test vectors; the keys are theirs, too.
var (
	moment = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	keys   = drivers.AWS{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
)

const hi = `{"messages":[{"role":"user","content":[{"text":"hi"}]}]}`

// The signatures for the service "service" are those of the published test vectors; those
// for Bedrock, whose paths are encoded twice, are what AWS's own SDK makes of the request.
func TestSignaturesAreThoseOfAWS(t *testing.T) {
	tests := map[string]struct {
		method, host, path, contentType, body, token string
		scope                                        scope
		signed, signature                            string
	}{
		"a request of nothing": {
			"GET", "example.amazonaws.com", "/", "", "", "",
			scope{"us-east-1", "service"},
			"host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		},
		"another method": {
			"POST", "example.amazonaws.com", "/", "", "", "",
			scope{"us-east-1", "service"},
			"host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
		},
		"a body": {
			"POST", "example.amazonaws.com", "/", "application/x-www-form-urlencoded", "Param1=value1", "",
			scope{"us-east-1", "service"},
			"content-type;host;x-amz-date", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
		},
		"arguments in another order": {
			"GET", "example.amazonaws.com", "/?Param2=value2&Param1=value1", "", "", "",
			scope{"us-east-1", "service"},
			"host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
		},
		"arguments of one name in another order": {
			"GET", "example.amazonaws.com", "/?Param1=value2&Param1=value1", "", "", "",
			scope{"us-east-1", "service"},
			"host;x-amz-date", "5772eed61e12b33fae39ee5e7012498b51d56abc0abb7c60486157bd471c4694",
		},
		"a session's token": {
			"POST", "example.amazonaws.com", "/", "", "", "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267",
			scope{"us-east-1", "service"},
			"host;x-amz-date;x-amz-security-token", "1d78d0f0676b729b53e1efa429f8b524311256a000ae1c91a847f3125ccdb289",
		},
		"Bedrock, with a model whose name is encoded": {
			"POST", "bedrock-runtime.us-east-1.amazonaws.com", "/model/anthropic.claude-3-5-sonnet-20241022-v2%3A0/converse",
			"application/json", hi, "",
			scope{"us-east-1", "bedrock"},
			"content-type;host;x-amz-date", "8f9e855c2282691e91cc847079f75f914d1d62c3939187d6b7419506176856b2",
		},
		"Bedrock, with an ARN and a session's token": {
			"POST", "bedrock-runtime.eu-west-1.amazonaws.com",
			"/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A123456789012%3Aapplication-inference-profile%2Fa%20b/converse-stream",
			"application/json", hi, "token/+=",
			scope{"eu-west-1", "bedrock"},
			"content-type;host;x-amz-date;x-amz-security-token", "98fa7ede31065b1194ebbfa6471894ffb63941abc2998953b1da5b5dd25dfe51",
		},
		"Bedrock, with arguments": {
			"POST", "bedrock-runtime.us-east-1.amazonaws.com", "/model/m/converse?b=2&a=%C3%A4%20x", "application/json", hi, "",
			scope{"us-east-1", "bedrock"},
			"content-type;host;x-amz-date", "fb441ea272830de07295cf736fc69e374b04b39afd71eb04ce8536b78759da99",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			// A body in two pieces is signed like one.
			half := len(tt.body) / 2
			r := &upstream.Request{
				Method: tt.method, Host: tt.host, Path: tt.path, Header: &exchange.Header{},
				Body: [][]byte{[]byte(tt.body[:half]), []byte(tt.body[half:])},
			}
			if tt.contentType != "" {
				r.Header.Add("Content-Type", tt.contentType)
			}
			// A client's signature is not ours.
			r.Header.Add("authorization", "AWS4-HMAC-SHA256 Credential=client")
			r.Header.Add("x-amz-date", "20000101T000000Z")
			r.Header.Add("X-Amz-Security-Token", "client's")
			r.Header.Add("X-Amz-Content-Sha256", "client's")
			r.Header.Add("X-Amzn-Bedrock-Trace", "ENABLED")
			own := keys
			own.SessionToken = tt.token
			if err := sign(r, &own, tt.scope, moment.In(time.FixedZone("", 3600))); err != nil {
				t.Fatal(err)
			}
			want := "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/" + tt.scope.region + "/" + tt.scope.service +
				"/aws4_request, SignedHeaders=" + tt.signed + ", Signature=" + tt.signature
			for name, want := range map[string]string{
				"Authorization": want, "X-Amz-Date": "20150830T123600Z", "X-Amz-Security-Token": tt.token, "X-Amz-Content-Sha256": "",
				"X-Amzn-Bedrock-Trace": "ENABLED",
			} {
				if got := r.Header.Joined(name); got != want {
					t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
				}
			}
		})
	}
}

func TestKeysThatCannotBeSentAreRefused(t *testing.T) {
	for name, k := range map[string]drivers.AWS{
		"a line end in an id":   {AccessKeyID: "a\r\nb: c", SecretAccessKey: "s"},
		"a line end in a token": {AccessKeyID: "a", SecretAccessKey: "s", SessionToken: "a\nb"},
	} {
		r := &upstream.Request{Method: "POST", Host: "x", Path: "/", Header: &exchange.Header{}}
		if err := sign(r, &k, scope{"r", service}, moment); err != errBadKeys || r.Header.Len() != 0 {
			t.Errorf("%s: got %v and %d headers", name, err, r.Header.Len())
		}
	}
}

func FuzzEncodeOnce(f *testing.F) {
	f.Add("a%3Ab")
	f.Add("a:b/ä%zz%")
	f.Fuzz(func(t *testing.T, s string) {
		got := encode(s)
		if decode(got) != s {
			t.Errorf("%q is encoded as %q", s, got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/?#:", r) }) {
			t.Errorf("%q is encoded as %q", s, got)
		}
		if once := encodeOnce(got); once != got {
			t.Errorf("%q, encoded, is encoded again as %q", got, once)
		}
	})
}
