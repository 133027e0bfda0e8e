package stage

import "testing"

func TestHostsOutsideAreFoundInTheLog(t *testing.T) {
	const request = ", request: 0123456789abcdef0123456789abcdef, route: 1, status: 503"
	for _, tt := range []struct{ name, line, host, status string }{
		{"a name that nobody knows", "request was answered by the gateway, error: connect a.example:80: dial tcp: lookup a.example on 10.0.0.1:53: no such host" + request, "a.example", "503"},
		{"no way to who would know", "plugin ended the request, err: failed to send request to LLM service: connect a.example:443: dial tcp: lookup a.example on 10.0.0.1:53: dial udp 10.0.0.1:53: connect: network is unreachable, plugin: ai-proxy" + request, "a.example", "503"},
		{"no way", "request was answered by the gateway, error: connect 192.0.2.1:80: dial tcp 192.0.2.1:80: connect: network is unreachable" + request, "192.0.2.1", "503"},
		{"a way, and nobody there", "request was answered by the gateway, error: connect 127.0.0.1:1: dial tcp 127.0.0.1:1: connect: connection refused" + request, "", ""},
		{"not because of a request", "configuration store failed, error: connect a.example:80: dial tcp: lookup a.example: no such host, status: 503", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := gaveUp.FindStringSubmatch(tt.line)
			if m == nil {
				m = []string{"", "", ""}
			}
			if m[1] != tt.host || m[2] != tt.status {
				t.Errorf("got %q, want %s and %s", m, tt.host, tt.status)
			}
		})
	}
}

func TestOutsideIsNotThisMachine(t *testing.T) {
	for host, want := range map[string]bool{
		"a.example": true, "192.0.2.1": true, "2001:db8::1": true,
		"localhost": false, "127.0.0.2": false, "::1": false, "0.0.0.0": false,
	} {
		if outside(host) != want {
			t.Errorf("outside(%q) is %v", host, !want)
		}
	}
}

func TestAStoredServerOfThisMachineIsSeen(t *testing.T) {
	for text, want := range map[string]bool{
		`{"nodes":{"127.0.0.1:1980":1}}`: true, `{"host":"localhost"}`: true, `{"nodes":{"[::1]:80":1}}`: true, `{"host":"::1"}`: true,
		`{"nodes":{"a.example:80":1}}`: false, `{"desc":"not localhosts"}`: false,
	} {
		if thisMachine.MatchString(text) != want {
			t.Errorf("%s: got %v", text, !want)
		}
	}
}
