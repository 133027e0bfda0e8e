package gcp

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"github.com/gosix/gosix/internal/leaktest"
	"github.com/gosix/gosix/internal/logtest"
	"github.com/gosix/gosix/internal/timetest"
	"github.com/gosix/gosix/pkg/upstream"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return k
})

func pkcs8() string {
	der, err := x509.MarshalPKCS8PrivateKey(testKey())
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// keyFile returns a service account's key file; more are members, each behind a comma.
func keyFile(uri, more string) string {
	secret, _ := json.Marshal(pkcs8())
	return fmt.Sprintf(`{"type":"service_account","client_email":"robot@test","private_key":%s,"token_uri":%q%s}`, secret, uri, more)
}

// endpoint is a token endpoint. It answers with what reply returns, for the n-th call.
type endpoint struct {
	*httptest.Server
	mu    sync.Mutex
	calls int
	forms []map[string]string
}

func newEndpoint(t *testing.T, reply func(n int, w http.ResponseWriter)) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_ = q.ParseForm()
		e.mu.Lock()
		e.calls++
		n := e.calls
		e.forms = append(e.forms, map[string]string{"grant_type": q.Form.Get("grant_type"), "assertion": q.Form.Get("assertion")})
		e.mu.Unlock()
		reply(n, w)
	}))
	t.Cleanup(e.Close)
	return e
}

func (e *endpoint) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.calls
}

// good answers with the tokens t1, t2 and so on, good for so many seconds.
func good(seconds int) func(int, http.ResponseWriter) {
	return func(n int, w http.ResponseWriter) {
		fmt.Fprintf(w, `{"access_token":"t%d","expires_in":%d,"token_type":"Bearer"}`, n, seconds)
	}
}

type rig struct {
	*Source
	clock *timetest.Clock
	log   *logtest.Log
}

func newRig(t *testing.T, fallback string) *rig {
	t.Helper()
	client := upstream.NewClient(upstream.Options{})
	r := &rig{clock: timetest.NewClock(time.Unix(1_700_000_000, 0)), log: &logtest.Log{}}
	r.Source = NewSource(Options{Client: client, Default: fallback, Now: r.clock.Now, Log: zerolog.New(r.log)})
	t.Cleanup(func() { r.Close(); client.Close() })
	return r
}

func ask(t *testing.T, a *Account) string {
	t.Helper()
	got, err := a.Token(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// settle waits until no call is under way.
func settle(a *Account) {
	a.mu.Lock()
	f := a.flight
	a.mu.Unlock()
	if f != nil {
		<-f.done
	}
}

func TestTheTokenEndpointIsAskedAsDocumented(t *testing.T) {
	for name, tt := range map[string]struct{ more, scope, header string }{
		"a key file":          {"", "https://www.googleapis.com/auth/cloud-platform", `{"alg":"RS256","typ":"JWT"}`},
		"with the key's id":   {`,"private_key_id":"k1"`, "https://www.googleapis.com/auth/cloud-platform", `{"alg":"RS256","typ":"JWT","kid":"k1"}`},
		"with a scope":        {`,"scope":"a"`, "a", `{"alg":"RS256","typ":"JWT"}`},
		"with several scopes": {`,"scope":["a","b"]`, "a b", `{"alg":"RS256","typ":"JWT"}`},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, good(3600))
			r := newRig(t, "")
			uri := e.URL + "/token"
			if got := ask(t, r.Account(Config{JSON: keyFile(uri, tt.more)})); got != "t1" {
				t.Errorf("got token %q", got)
			}
			form := e.forms[0]
			if form["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
				t.Errorf("got grant type %q", form["grant_type"])
			}
			parts := strings.Split(form["assertion"], ".")
			if len(parts) != 3 {
				t.Fatalf("assertion %q has %d parts", form["assertion"], len(parts))
			}
			var decoded [3][]byte
			for i, p := range parts {
				var err error
				if decoded[i], err = base64.RawURLEncoding.DecodeString(p); err != nil {
					t.Fatal(err)
				}
			}
			sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
			if err := rsa.VerifyPKCS1v15(&testKey().PublicKey, crypto.SHA256, sum[:], decoded[2]); err != nil {
				t.Error(err)
			}
			if string(decoded[0]) != tt.header {
				t.Errorf("got header %s", decoded[0])
			}
			claims := fmt.Sprintf(`{"iss":"robot@test","scope":%q,"aud":%q,"iat":1700000000,"exp":1700003600}`, tt.scope, uri)
			if diff := cmp.Diff(claims, string(decoded[1])); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestATokenIsKept(t *testing.T) {
	const never = 0
	tests := map[string]struct {
		ttl    int // s
		config Config
		renew  time.Duration // when it is renewed while it goes on being used
		end    time.Duration // when it is not used any more
	}{
		"until shortly before its end":                   {3600, Config{Early: time.Minute}, 3540 * time.Second, time.Hour},
		"no longer than configured":                      {3600, Config{Early: time.Minute, MaxTTL: 5 * time.Minute}, 4 * time.Minute, 5 * time.Minute},
		"and renewed halfway where it is short":          {60, Config{Early: time.Minute}, 30 * time.Second, time.Minute},
		"with a limit that is longer than the token's":   {100, Config{Early: 10 * time.Second, MaxTTL: time.Hour}, 90 * time.Second, 100 * time.Second},
		"to its end where it is not to be renewed early": {100, Config{}, never, 100 * time.Second},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, good(tt.ttl))
			r := newRig(t, "")
			tt.config.JSON = keyFile(e.URL, "")
			a := r.Account(tt.config)
			ask(t, a)
			if tt.renew != never {
				r.clock.Pass(tt.renew - time.Nanosecond)
				if got := ask(t, a); got != "t1" || e.count() != 1 {
					t.Fatalf("just before it is renewed: got %s after %d calls", got, e.count())
				}
				r.clock.Pass(time.Nanosecond)
				if got := ask(t, a); got != "t1" {
					t.Fatalf("while it is renewed: got %s", got)
				}
				settle(a)
				if got := ask(t, a); got != "t2" || e.count() != 2 {
					t.Fatalf("after it was renewed: got %s after %d calls", got, e.count())
				}
				return
			}
			r.clock.Pass(tt.end - time.Nanosecond)
			if got := ask(t, a); got != "t1" || e.count() != 1 {
				t.Fatalf("just before its end: got %s after %d calls", got, e.count())
			}
			r.clock.Pass(time.Nanosecond)
			if got := ask(t, a); got != "t2" {
				t.Fatalf("at its end: got %s", got)
			}
		})
	}
}

func TestAllWhoWaitShareOneCall(t *testing.T) {
	const clients = 20
	arrived := make(chan struct{})
	answer := make(chan struct{})
	e := newEndpoint(t, func(n int, w http.ResponseWriter) {
		close(arrived) // a second call would panic
		<-answer
		good(3600)(n, w)
	})
	r := newRig(t, "")
	a := r.Account(Config{JSON: keyFile(e.URL, "")})
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			if got, err := a.Token(context.Background()); err != nil || got != "t1" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	<-arrived
	// One who leaves does not end the call of the others.
	gone, leave := context.WithCancelCause(context.Background())
	left := errors.New("left")
	leave(left)
	if _, err := a.Token(gone); !errors.Is(err, left) {
		t.Errorf("who left got %v", err)
	}
	close(answer)
	all.Wait()
}

func TestAFailedRenewalFailsNobodyWhileTheTokenIsGood(t *testing.T) {
	e := newEndpoint(t, func(n int, w http.ResponseWriter) {
		if n == 2 || n == 3 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		good(100)(n, w)
	})
	r := newRig(t, "")
	a := r.Account(Config{JSON: keyFile(e.URL, ""), Early: 50 * time.Second})
	ask(t, a)
	r.clock.Pass(50 * time.Second)
	for _, step := range []struct {
		wait  time.Duration
		calls int
	}{
		{0, 2},           // fails
		{0, 2},           // pause
		{time.Second, 3}, // fails again
		{time.Second, 3}, // the pause is twice as long
	} {
		r.clock.Pass(step.wait)
		if got := ask(t, a); got != "t1" {
			t.Fatalf("got %s", got)
		}
		if settle(a); e.count() != step.calls {
			t.Fatalf("got %d calls, want %d", e.count(), step.calls)
		}
	}
	r.clock.Pass(time.Second)
	ask(t, a)
	settle(a)
	if got := ask(t, a); got != "t4" {
		t.Errorf("after a good call: got %s", got)
	}
	if lines := r.log.String(); strings.Count(lines, "could not get a GCP access token") != 2 || !strings.Contains(lines, "robot@test") {
		t.Errorf("log: %s", lines)
	}
}

func TestWithoutATokenAFailureIsTheAnswer(t *testing.T) {
	tests := map[string]struct {
		status       int
		answer, want string
	}{
		"a refusal": {
			400, `{"error":"invalid_grant","error_description":"account not found"}`,
			"token endpoint answered 400: invalid_grant: account not found",
		},
		"an error page":      {502, "<html>", "token endpoint answered 502"},
		"an answer of HTML":  {200, "<html>", "token endpoint: answer is no JSON: Expected value but found invalid token at character 1"},
		"no token":           {200, `{"expires_in":1}`, "token endpoint: answer has no access_token"},
		"a token of nothing": {200, `{"access_token":""}`, "token endpoint: answer has no access_token"},
		"a token that would be two headers": {
			200, `{"access_token":"a\r\nb: c"}`, "token endpoint: answer has no access_token",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, func(_ int, w http.ResponseWriter) {
				w.WriteHeader(tt.status)
				fmt.Fprint(w, tt.answer)
			})
			r := newRig(t, "")
			a := r.Account(Config{JSON: keyFile(e.URL, "")})
			for range 2 {
				if _, err := a.Token(context.Background()); err == nil || err.Error() != tt.want {
					t.Fatalf("got %v, want %s", err, tt.want)
				}
			}
			if e.count() != 1 {
				t.Errorf("within the pause: got %d calls", e.count())
			}
			r.clock.Pass(firstPause)
			_, _ = a.Token(context.Background())
			if e.count() != 2 {
				t.Errorf("after the pause: got %d calls", e.count())
			}
		})
	}
}

func TestNobodyListens(t *testing.T) {
	const nobody = "http://127.0.0.1:1" // a port that no system gives away, as it may do with one that was closed
	r := newRig(t, "")
	_, err := r.Account(Config{JSON: keyFile(nobody, "")}).Token(context.Background())
	var failed *upstream.Error
	if !errors.As(err, &failed) || !failed.Refused {
		t.Errorf("got %v", err)
	}
}

func TestALifetimeThatIsNotToldIsAnHour(t *testing.T) {
	for answer, want := range map[string]time.Duration{
		`{"access_token":"x"}`:                     time.Hour,
		`{"access_token":"x","expires_in":-1}`:     time.Hour,
		`{"access_token":"x","expires_in":"long"}`: time.Hour,
		`{"access_token":"x","expires_in":"90"}`:   90 * time.Second,
	} {
		e := newEndpoint(t, func(_ int, w http.ResponseWriter) { fmt.Fprint(w, answer) })
		r := newRig(t, "")
		a := r.Account(Config{JSON: keyFile(e.URL, "")})
		ask(t, a)
		if got := a.token.Load().end.Sub(r.clock.Now()); got != want {
			t.Errorf("%s: got %v, want %v", answer, got, want)
		}
	}
}

func TestAKeyFileThatCannotBeUsed(t *testing.T) {
	tests := map[string]struct{ file, want string }{
		"none":              {"", "there is no service account: neither service_account_json nor GCP_SERVICE_ACCOUNT is set"},
		"no JSON":           {"{", "invalid gcp service account json: Expected object key string but found T_END at character 2"},
		"no key":            {`{"client_email":"x"}`, "gcp service account json has no private_key"},
		"a key in no PEM":   {`{"private_key":"x"}`, "gcp service account json: private_key is no RSA key in PEM"},
		"a key of nothing":  {`{"private_key":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}`, "gcp service account json: private_key is no RSA key in PEM"},
		"an endpoint of no": {`{"token_uri":"ftp://x"}`, `gcp service account json: token_uri "ftp://x" is no address`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := newRig(t, "").Account(Config{JSON: tt.file}).Token(context.Background()); err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestAKeyInPKCS1IsRead(t *testing.T) {
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(testKey())})
	if k, err := private(string(text)); err != nil || !k.Equal(testKey()) {
		t.Errorf("got %v, %v", k, err)
	}
}

func TestTheEndpointOfAKeyFileWithoutOneIsGoogles(t *testing.T) {
	secret, _ := json.Marshal(pkcs8())
	k, err := parse(fmt.Sprintf(`{"private_key":%s}`, secret))
	if err != nil {
		t.Fatal(err)
	}
	if k.target.Addr != "oauth2.googleapis.com:443" || k.target.TLS == nil || k.target.SNI != "oauth2.googleapis.com" || k.path != "/token" {
		t.Errorf("got %+v, path %s", k.target, k.path)
	}
}

func TestEqualConfigurationsShareAnAccount(t *testing.T) {
	r := newRig(t, `{"client_email":"default"}`)
	a := r.Account(Config{JSON: "{}", Early: time.Second})
	if r.Account(Config{JSON: "{}", Early: time.Second}) != a {
		t.Error("equal configurations have two accounts")
	}
	for name, c := range map[string]Config{
		"another file":  {JSON: "{ }", Early: time.Second},
		"another limit": {JSON: "{}", Early: time.Second, MaxTTL: time.Second},
		"renewed later": {JSON: "{}"},
	} {
		if r.Account(c) == a {
			t.Errorf("%s: one account for two configurations", name)
		}
	}
	if r.Account(Config{}) != r.Account(Config{JSON: `{"client_email":"default"}`}) {
		t.Error("the default is not the account of a configuration without one")
	}
	runtime.KeepAlive(a)
}

func TestAccountsThatNobodyUsesAreForgotten(t *testing.T) {
	r := newRig(t, "")
	kept := r.Account(Config{JSON: "kept"})
	for i := range 1000 {
		r.Account(Config{JSON: fmt.Sprint(i)})
		if i%50 == 0 {
			runtime.GC()
		}
	}
	if n := len(r.accounts); n > 300 {
		t.Errorf("%d accounts are known", n)
	}
	if r.Account(Config{JSON: "kept"}) != kept {
		t.Error("one in use was forgotten")
	}
}

func TestClosingEndsWhatIsUnderWay(t *testing.T) {
	arrived, gone := make(chan struct{}), make(chan struct{})
	e := newEndpoint(t, func(int, http.ResponseWriter) {
		close(arrived)
		<-gone
	})
	r := newRig(t, "")
	a := r.Account(Config{JSON: keyFile(e.URL, "")})
	failed := make(chan error)
	go func() {
		_, err := a.Token(context.Background())
		failed <- err
	}()
	<-arrived
	r.Close()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("who waited got %v", err)
	}
	r.clock.Pass(time.Hour)
	if _, err := a.Token(context.Background()); !errors.Is(err, errClosed) {
		t.Errorf("afterwards: got %v", err)
	}
	close(gone)
	if r.log.String() != "" {
		t.Errorf("log: %s", r.log)
	}
}

func TestAGoodTokenTakesNoMemory(t *testing.T) {
	e := newEndpoint(t, good(3600))
	a := newRig(t, "").Account(Config{JSON: keyFile(e.URL, "")})
	ask(t, a)
	if n := testing.AllocsPerRun(100, func() { _, _ = a.Token(context.Background()) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(keyFile("https://x/token", `,"scope":["a"],"private_key_id":"1"`))
	f.Add(`{"token_uri":"http://[::1]:80"}`)
	f.Add("{")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := parse(text)
		if (err == nil) != (k != nil && k.private != nil) {
			t.Fatalf("%q: got %+v, %v", text, k, err)
		}
	})
}
