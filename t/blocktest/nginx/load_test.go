package nginx

import (
	"errors"
	"testing"
)

func TestLoadRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, src, want string
		unsupported     bool
	}{
		{"a directive that is not offered", "server { listen 80;\n mirror /a; }", "line 2: directive mirror is not supported", true},
		{"a form that is not offered", "server { listen 80 udp; }", "line 1: directive listen udp is not supported", true},
		{"a variable that nobody declares", "server { return 200 $nobody; }", "line 1: directive return with the variable $nobody is not supported", true},
		{"a pattern that Go's engine does not know", "server { location ~ (?=a) { } }", `line 1: directive location with the pattern "(?=a)" is not supported`, true},
		{"a directive in the wrong place", "listen 80;", "line 1: listen: it is not allowed here", false},
		{"too many arguments", "server { location / { internal x; } }", "line 1: internal: invalid number of arguments", false},
		{"a block where none belongs", "server { set $a b { } }", "line 1: set: it is not terminated by a semicolon", false},
		{"no block where one belongs", "server { location /; }", "line 1: location: it has no opening brace", false},
		{"a location twice", "server { location /a { } location /a { } }", `line 1: location: duplicate location "/a"`, false},
		{"a size that is none", "client_max_body_size 1x;", `line 1: client_max_body_size: invalid size "1x"`, false},
		{"a log format that nobody declares", "server { access_log a nobody; }", `line 1: access_log: unknown log format "nobody"`, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := Parse(tt.src)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Load(Source{HTTP: list}, Options{})
			var unsupported *UnsupportedError
			var refused *ConfigError
			if err == nil || err.Error() != tt.want || errors.As(err, &unsupported) != tt.unsupported || errors.As(err, &refused) == tt.unsupported {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}
