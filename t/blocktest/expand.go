package blocktest

import (
	"regexp"

	"github.com/gosix/gosix/t/blocktest/perl"
)

var envName = regexp.MustCompile(`\$TEST_NGINX_[_A-Z0-9]+`)

// expanded are the sections in which Test::Nginx replaces $TEST_NGINX_… by the environment.
var expanded = map[string]bool{
	"config": true, "http_config": true, "main_config": true, "post_main_config": true,
	"user_files": true, "stream_config": true, "stream_server_config": true,
	"response_body": true, "grep_error_log_out": true, "pipelined_requests": true,
}

// expand replaces the names in a text. One that is not set is an error, as it is there.
func expand(section, s string, env map[string]string) (string, error) {
	if !expanded[section] {
		return s, nil
	}
	var missing string
	s = envName.ReplaceAllStringFunc(s, func(name string) string {
		v, ok := env[name[1:]]
		if !ok {
			missing = name
		}
		return v
	})
	if missing != "" {
		return "", &perl.UnsupportedError{What: "the environment variable " + missing + " in section " + section}
	}
	return s, nil
}
