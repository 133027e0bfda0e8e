ai-proxy-multi with the current generation of its configuration: who answers when somebody
does not, and what streams look like then.

=== TEST 1: 429 from one instance falls back to the other
--- upstream a
status: 429
--- upstream b
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy-multi": {"fallback_strategy": ["http_429"], "instances": [
  {"name": "a", "provider": "openai-compatible", "weight": 1, "priority": 1, "auth": {"header": {"Authorization": "Bearer a"}},
   "override": {"endpoint": "$upstream_a"}},
  {"name": "b", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer b"}},
   "override": {"endpoint": "$upstream_b"}}]}}}
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- response_body_like: "object":\s*"chat\.completion"
--- upstream_request a
POST /v1/chat/completions
Authorization: Bearer a
--- upstream_request b
POST /v1/chat/completions
Authorization: Bearer b
--- ignore_error_log



=== TEST 2: a status that the strategy does not name is final
--- upstream a
status: 500
--- upstream b
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 500
--- response_body
a
--- upstream_request b: none
--- ignore_error_log



=== TEST 3: statuses may be named one by one
--- upstream a
status: 403
--- upstream b
fixture: openai/chat.json
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-proxy-multi": {"fallback_http_statuses": [403]}}}
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- upstream_request b
POST /v1/chat/completions
--- ignore_error_log



=== TEST 4: http_5xx includes that no answer came
--- upstream a
refuse: true
--- upstream b
fixture: openai/chat.json
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-proxy-multi": {"fallback_strategy": ["http_5xx"]}}}
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- upstream_request b
POST /v1/chat/completions
--- ignore_error_log



=== TEST 5: when every instance fails the last error is the answer
--- upstream a
status: 503
--- upstream b
status: 500
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 502
--- response_body
b
--- upstream_request a
POST /v1/chat/completions
--- upstream_request b
POST /v1/chat/completions
--- ignore_error_log



=== TEST 6: max_retries limits further tries
--- upstream a
status: 503
--- upstream b
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-proxy-multi": {"max_retries": 0}}}
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 503
--- response_body
a
--- upstream_request b: none
--- ignore_error_log



=== TEST 7: a single instance is asked once, whatever it answers
--- upstream a
status: 429
header: X-Request-Id: req-fake
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy-multi": {"instances": [
  {"name": "a", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer a"}},
   "override": {"endpoint": "$upstream_a"}}]}}}
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 429
--- response_headers
X-Request-Id: req-fake
--- upstream_request a
POST /v1/chat/completions
--- ignore_error_log



=== TEST 8: a stream is asked for its usage, which a client that did not ask is not shown
--- upstream a
fixture: openai/chat.sse
--- upstream b
fixture: openai/chat.sse
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy-multi": {"fallback_strategy": ["http_5xx"], "instances": [
  {"name": "a", "provider": "openai-compatible", "weight": 1, "priority": 1, "auth": {"header": {"Authorization": "Bearer a"}},
   "override": {"endpoint": "$upstream_a"}},
  {"name": "b", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer b"}},
   "override": {"endpoint": "$upstream_b"}}]}}}
--- request
POST /v1/chat/completions
{"stream":true,"model":"m","messages":[{"role":"user","content":"hi"}]}
--- response_headers
Content-Type: text/event-stream
--- stream
~ "content":"Two"
~ "content":"\."
~ "finish_reason":"stop"
data: [DONE]
--- upstream_request a
POST /v1/chat/completions

{"stream":true,"model":"m","messages":[{"role":"user","content":"hi"}],"stream_options":{"include_usage":true}}
--- upstream_request b: none



=== TEST 9: a stream that is cut ends as broken, with an error event, and is not tried again
--- upstream a
cut_after_bytes: 90

data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"content":"two"},"finish_reason":null}]}

data: [DONE]
--- upstream b
fixture: openai/chat.sse
--- request
POST /v1/chat/completions
{"stream":true,"model":"m","messages":[{"role":"user","content":"hi"}]}
--- stream
data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}
~ ^data: \{"error":\{"message":"upstream stream ended before it was complete"
(cut)
--- upstream_request a
POST /v1/chat/completions
--- upstream_request b: none
--- ignore_error_log



=== TEST 10: a stream that is empty falls back
--- upstream a
cut_after_bytes: 0

data: {"choices":[]}
--- upstream b
fixture: openai/chat.sse
--- request
POST /v1/chat/completions
{"stream":true,"model":"m","messages":[{"role":"user","content":"hi"}]}
--- stream
~ "content":"Two"
~ "content":"\."
~ "finish_reason":"stop"
data: [DONE]
--- upstream_request a
POST /v1/chat/completions
--- upstream_request b
POST /v1/chat/completions
--- ignore_error_log



=== TEST 11: an error before the first byte of a stream falls back
--- upstream a
status: 503
--- upstream b
fixture: openai/chat.sse
--- request
POST /v1/chat/completions
{"stream":true,"model":"m","messages":[{"role":"user","content":"hi"}]}
--- response_body_like: data: \[DONE\]\n\n$
--- upstream_request b
POST /v1/chat/completions
--- ignore_error_log



=== TEST 12: a client that leaves before the first byte takes the provider's call with it, and is noted
--- upstream a
delay_ms: 60000
--- upstream b
--- request
POST /v1/chat/completions
{"stream":true,"model":"m","messages":[{"role":"user","content":"hi"}]}
--- timeout: 3
--- abort
--- error_code_like: ^$
--- upstream_request a
POST /v1/chat/completions
(gone)
--- upstream_request b: none
--- access_log
" 499 
--- ignore_error_log



=== TEST 13: and so does one that leaves in the middle
--- upstream a
gap_ms: 60000

data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}

data: [DONE]
--- upstream b
--- request
POST /v1/chat/completions
{"stream":true,"model":"m","messages":[{"role":"user","content":"hi"}]}
--- timeout: 3
--- abort
--- stream
data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}
(cut)
--- upstream_request a
POST /v1/chat/completions
(gone)
--- upstream_request b: none
--- ignore_error_log



=== TEST 14: shares are three to one
--- upstream a
model: ann
--- upstream b
model: bob
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy-multi": {"instances": [
  {"name": "a", "provider": "openai-compatible", "weight": 3, "auth": {"header": {"Authorization": "Bearer a"}},
   "override": {"endpoint": "$upstream_a"}},
  {"name": "b", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer b"}},
   "override": {"endpoint": "$upstream_b"}}]}}}
--- request
8 * POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- upstream_request a
6 * POST /v1/chat/completions
--- upstream_request b
2 * POST /v1/chat/completions



=== TEST 15: the first turn of two equal instances
--- upstream a
model: ann
--- upstream b
model: bob
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy-multi": {"instances": [
  {"name": "ann", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer a"}},
   "override": {"endpoint": "$upstream_a"}},
  {"name": "bob", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer b"}},
   "override": {"endpoint": "$upstream_b"}}]}}}
--- request
3 * POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- response_body_like eval
[qr/I am ann/, qr/I am bob/, qr/I am ann/]



=== TEST 16: turns go on over a change of the route that is none of the plugin
--- admin
PATCH /apisix/admin/routes/1
{"desc": "an edit"}
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- response_body_like: I am bob



=== TEST 17: a consumer stays with one instance
--- upstream a
model: ann
--- upstream b
model: bob
--- admin
PUT /apisix/admin/consumers
{"username": "ant", "plugins": {"key-auth": {"key": "key-of-ant"}}}

PUT /apisix/admin/consumers
{"username": "dog", "plugins": {"key-auth": {"key": "key-of-dog"}}}

PUT /apisix/admin/consumers
{"username": "eel"}

PUT /apisix/admin/consumers/eel/credentials/c
{"plugins": {"key-auth": {"key": "key-of-eel"}}}

PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"key-auth": {}, "ai-proxy-multi": {
  "balancer": {"algorithm": "chash", "hash_on": "consumer"}, "instances": [
  {"name": "a", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer a"}},
   "override": {"endpoint": "$upstream_a"}},
  {"name": "b", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer b"}},
   "override": {"endpoint": "$upstream_b"}}]}}}
--- request eval
[("POST /v1/chat/completions\n" . '{"model": "m", "messages": [{"role": "user", "content": "hi"}]}') x 6]
--- more_headers eval
[map { "apikey: key-of-$_" } qw(ant dog eel ant dog eel)]
--- error_code eval
[(200) x 6]
--- response_body_like eval
[(qr/I am bob/, qr/I am ann/, qr/I am ann/) x 2]



=== TEST 18: without a key nobody is asked
--- upstream a
model: ann
--- upstream b
model: bob
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 401
--- response_headers
WWW-Authenticate: apikey realm="key"
--- upstream_request a: none
--- upstream_request b: none



=== TEST 19: instances of equal name are refused
--- request
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy-multi": {"instances": [
  {"name": "a", "provider": "openai", "weight": 1, "auth": {"header": {"Authorization": "Bearer a"}}},
  {"name": "a", "provider": "openai", "weight": 1, "auth": {"header": {"Authorization": "Bearer a"}}}]}}}
--- error_code: 400
--- response_body_like: failed to check the configuration of plugin ai-proxy-multi err: .*duplicate instance name
