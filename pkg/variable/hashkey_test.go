package variable

import (
	"net/netip"
	"testing"

	"github.com/gosix/gosix/pkg/exchange/exchangetest"
)

func TestHashKey(t *testing.T) {
	const client = "192.0.2.7"
	tests := map[string]struct{ on, key, want string }{
		"a variable":                       {"vars", "arg_user", "ann"},
		"a variable without a value":       {"vars", "arg_none", client},
		"a name that is no variable":       {"vars", "none", client},
		"an argument that is empty":        {"vars", "arg_empty", ""},
		"a header":                         {"header", "X-Tenant", "blue"},
		"a header with underscores":        {"header", "x_tenant", "blue"},
		"a header that is not there":       {"header", "X-None", client},
		"a cookie":                         {"cookie", "sid", "s1"},
		"a cookie in another letter case":  {"cookie", "SID", client},
		"the consumer":                     {"consumer", "", "jack"},
		"the consumer, whatever the key":   {"consumer", "arg_user", "jack"},
		"several variables":                {"vars_combinations", "$arg_user-$http_x_tenant", "ann-blue"},
		"one of several has a value":       {"vars_combinations", "$arg_user-$arg_none", "ann-"},
		"none of several has a value":      {"vars_combinations", "$arg_none-$arg_other", client},
		"a text in which is no variable":   {"vars_combinations", "text", client},
		"a header whose name has capitals": {"header", "X-TENANT", "blue"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			x, _ := exchangetest.New()
			x.Request.Remote = netip.MustParseAddrPort(client + ":40000")
			x.Request.RawQuery = "user=ann&empty="
			x.Request.Header.Add("X-Tenant", "blue")
			x.Request.Header.Add("Cookie", "sid=s1")
			x.Facts.ConsumerName = "jack"
			if got := HashKey(tt.on, tt.key)(x); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
