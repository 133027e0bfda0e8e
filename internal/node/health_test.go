package node

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealthIsTheURLAnswering200InTime(t *testing.T) {
	// What asks is told to go through a proxy, which must not be obeyed.
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/well":
			_, _ = io.WriteString(w, "ok")
		case "/head":
			if r.Method != http.MethodHead {
				w.WriteHeader(http.StatusUnauthorized)
			}
		case "/ill":
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "no configuration yet\nmore")
		case "/mute":
			w.WriteHeader(http.StatusNoContent)
		case "/moved":
			http.Redirect(w, r, "/well", http.StatusFound)
		case "/hung":
			select {
			case <-r.Context().Done():
			case <-hang:
			}
		}
	}))
	defer server.Close()
	defer close(hang)
	tests := map[string]struct {
		args []string
		want string // of the error; empty: none
	}{
		"200":                       {[]string{server.URL + "/well"}, ""},
		"200 to a HEAD":             {[]string{"-I", server.URL + "/head"}, ""},
		"401 to a GET":              {[]string{server.URL + "/head"}, "answered 401 Unauthorized"},
		"503 with a reason":         {[]string{server.URL + "/ill"}, "/ill: answered 503 Service Unavailable: no configuration yet"},
		"another success":           {[]string{server.URL + "/mute"}, "answered 204 No Content"},
		"a way to somewhere else":   {[]string{server.URL + "/moved"}, "answered 302 Found"},
		"nothing in time":           {[]string{"--timeout", "20ms", server.URL + "/hung"}, "deadline exceeded"},
		"nobody there":              {[]string{nobody}, "refused"},
		"what is no address at all": {[]string{"well"}, "unsupported protocol scheme"},
		"no URL":                    {nil, "accepts 1 arg(s), received 0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := HealthCommand()
			c.SilenceErrors, c.SilenceUsage = true, true
			c.SetArgs(append([]string{"--timeout", "1m"}, tt.args...)) // the last one counts
			err := c.ExecuteContext(t.Context())
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n")):
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
		})
	}
}
