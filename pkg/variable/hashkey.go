package variable

import "github.com/gosix/gosix/pkg/exchange"

// HashKey returns what reads the text by which consistent hashing places a request
// (spec/05 §4.2): on is hash_on, key the name or the text that goes with it. The client's
// address stands in for what has no value, silently: the reference warns of it, but once
// for each such request.
func HashKey(on, key string) func(*exchange.Exchange) string {
	address := plain["remote_addr"]
	if on == "vars_combinations" {
		t := CompileTemplate(key)
		return func(x *exchange.Exchange) string {
			if text, resolved := t.Resolve(x); resolved > 0 {
				return text
			}
			return address(x).String()
		}
	}
	switch on {
	case "consumer":
		key = "consumer_name"
	case "header":
		key = "http_" + key
	case "cookie":
		key = "cookie_" + key
	}
	get, known := Compile(key)
	if !known {
		get = address
	}
	return func(x *exchange.Exchange) string {
		if v := get(x); !v.IsNil() {
			return v.String()
		}
		return address(x).String()
	}
}
