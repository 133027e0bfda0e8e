package blocktest

import "testing"

// secluded is a World that tells which hosts it could not reach.
type secluded struct {
	*scripted
	away []Unreachable
}

func (w *secluded) Unreachable() []Unreachable { return w.away }

func TestWhatThisMachineHasNotIsSkipped(t *testing.T) {
	script := Unreachable{Host: "api.example.com"}
	gateway := Unreachable{Host: "api.example.com", Status: 404, Alone: true}
	beside := Unreachable{Host: "api.example.com", Status: 404}
	for _, tt := range []struct {
		name, block string
		away        []Unreachable
		verdict     Verdict
		why         string
	}{
		{"an answer because of the host", "--- request\nGET /missing", []Unreachable{gateway}, Skipped, "network: api.example.com"},
		{"a text that names it", "--- request\nGET /hello?who=api.example.com%20could\n--- response_body\nhello", []Unreachable{script}, Skipped, "network: api.example.com"},
		{"a block that names it", "--- request\nGET /missing?api.example.com", []Unreachable{beside}, Skipped, "network: api.example.com"},
		{"an error in the log that names it", "--- request\nGET /hello?log=[error]+api.example.com&who=api.example.com\n--- response_body\nhello\n--- no_error_log\n[error]", []Unreachable{script}, Skipped, "network: api.example.com"},

		{"a pass stays a pass", "--- request\nGET /missing\n--- error_code: 404", []Unreachable{gateway, script}, OK, ""},
		{"no host", "--- request\nGET /missing", nil, NotOK, `error_code: got "404", want "200"`},
		{"a gateway that had another place to go", "--- request\nGET /missing", []Unreachable{beside}, NotOK, `error_code: got "404", want "200"`},
		{"an answer that is not the gateway's", "--- request\nGET /hello\n--- error_code: 404", []Unreachable{gateway}, NotOK, `error_code: got "200", want "404"`},
		{"a text that does not name it", "--- request\nGET /hello\n--- response_body\nhello api.example.com", []Unreachable{script}, NotOK, `response_body: got "hello \n", want "hello api.example.com\n"`},
		{"another error in the log", "--- request\nGET /missing?log=[error]+other\n--- no_error_log\n[error]", []Unreachable{gateway}, NotOK, `error_code: got "404", want "200"`},
		{"part of a number", "--- request\nGET /hello?who=14045\n--- response_body\nhello", []Unreachable{gateway}, NotOK, `response_body: got "hello 14045\n", want "hello\n"`},

		{"a command", "--- request\nGET /hello?who=/bin/sh:+1:+vault:+not+found\n--- response_body\nhello", nil, Skipped, "command: vault"},
		{"a command that is only wanted", "--- request\nGET /hello\n--- response_body\n/bin/sh: 1: vault: not found", nil, NotOK, `response_body: got "hello \n", want "/bin/sh: 1: vault: not found\n"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			results := runText(t, &secluded{newWorld(t), tt.away}, prologue+"=== one\n"+tt.block+"\n", RunOptions{})
			if len(results) != 1 || results[0].Verdict != tt.verdict || results[0].Why != tt.why {
				t.Errorf("got %+v, want %s because of %s", results, tt.verdict, tt.why)
			}
		})
	}
}
