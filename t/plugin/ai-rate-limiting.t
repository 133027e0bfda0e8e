ai-rate-limiting: who is refused when the tokens are used up, and what clients are told. The
fake answers cost what their usage says.

=== TEST 1: a request is admitted while anything is left
--- upstream a
header: Content-Type: application/json

{"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}}
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {
  "ai-proxy": {"provider": "openai-compatible", "auth": {"header": {"Authorization": "Bearer a"}}, "override": {"endpoint": "$upstream_a"}},
  "ai-rate-limiting": {"limit": 20, "time_window": 600, "rejected_code": 429, "rejected_msg": "no more"}}}
--- request
POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}]}

POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}]}

POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}]}
--- error_code: 200 200 429
--- response_headers eval
["X-AI-RateLimit-Remaining-ai-proxy-openai-compatible: 20", "X-AI-RateLimit-Remaining-ai-proxy-openai-compatible: 8",
"X-AI-RateLimit-Remaining-ai-proxy-openai-compatible: 0"]
--- response_body_like eval
["chat.completion", "chat.completion", '^\{"error_msg":"no more"\}$']
--- upstream_request a
POST /v1/chat/completions

POST /v1/chat/completions



=== TEST 2: other edits of the route leave the counters
--- upstream a
--- admin
PATCH /apisix/admin/routes/1
{"desc": "another"}
--- request
POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}]}
--- error_code: 429
--- response_body
{"error_msg":"no more"}
--- upstream_request a: none



=== TEST 3: an edit of the plugin begins anew, and a stream is counted at its end
--- upstream a
header: Content-Type: text/event-stream

data: {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}

data: {"object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 30, "total_tokens": 31}}

data: [DONE]

--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-rate-limiting": {"limit_strategy": "completion_tokens", "rejected_msg": null}}}
--- request
POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}], "stream": true}

POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}], "stream": true}
--- error_code: 200 429
--- response_headers eval
["X-AI-RateLimit-Limit-ai-proxy-openai-compatible: 20", "X-AI-RateLimit-Remaining-ai-proxy-openai-compatible: 0"]
--- response_body_like eval
["DONE", "429 Too Many Requests"]
--- upstream_request a
POST /v1/chat/completions



=== TEST 4: a stream that breaks
--- upstream a
header: Content-Type: text/event-stream
cut_after_bytes: 150

data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}],"usage":{"completion_tokens":30,"total_tokens":31}}

data: {"choices":[{"index":0,"delta":{"content":"two"},"finish_reason":null}]}

data: [DONE]
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-rate-limiting": {"limit": 30}}}
--- request
POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}], "stream": true}
--- stream
data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}],"usage":{"completion_tokens":30,"total_tokens":31}}
~ ^data: \{"error":
(cut)
--- ignore_error_log



=== TEST 5: pays for what it told before
--- upstream a
--- request
POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}], "stream": true}
--- error_code: 429
--- upstream_request a: none



=== TEST 6: rules count by what their keys say
--- upstream a
header: Content-Type: application/json

{"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}}
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-rate-limiting": null}}

PATCH /apisix/admin/routes/1
{"plugins": {"ai-rate-limiting": {"rejected_code": 429, "rules": [
  {"count": "${arg_count ?? 10}", "time_window": 600, "key": "user $arg_user"},
  {"count": 1000, "time_window": 600, "key": "$post_arg.user", "header_prefix": "body"}]}}}
--- request
POST /v1/chat/completions?user=ann
{"messages": [{"role": "user", "content": "hi"}]}

POST /v1/chat/completions?user=ann
{"messages": [{"role": "user", "content": "hi"}]}

POST /v1/chat/completions?user=ann&count=30
{"messages": [{"role": "user", "content": "hi"}]}

POST /v1/chat/completions?user=bob
{"messages": [{"role": "user", "content": "hi"}]}

POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}], "user": "ann"}
--- error_code: 200 429 200 200 200
--- response_headers eval
["X-AI-1-RateLimit-Remaining: 10", "X-AI-1-RateLimit-Remaining: 0", "X-AI-1-RateLimit-Remaining: 18",
"X-AI-1-RateLimit-Remaining: 10", "X-AI-body-RateLimit-Remaining: 1000"]



=== TEST 7: without a key that has a value the quota is not known
--- upstream a
--- request
POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}]}
--- error_code: 500
--- upstream_request a: none
--- ignore_error_log



=== TEST 8: a cost is what the provider counted, by an expression
--- upstream a
header: Content-Type: application/json

{"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 6}}}
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-rate-limiting": null}}

PATCH /apisix/admin/routes/1
{"plugins": {"ai-rate-limiting": {"limit": 100, "time_window": 600, "limit_strategy": "expression",
  "cost_expr": "prompt_tokens - prompt_tokens_details.cached_tokens * 0.5 + max(completion_tokens, 20) + unheard_of"}}}
--- request
POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}]}

POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}]}
--- response_headers eval
["X-AI-RateLimit-Remaining-ai-proxy-openai-compatible: 100", "X-AI-RateLimit-Remaining-ai-proxy-openai-compatible: 75"]



=== TEST 9: each instance has a quota of its own
--- upstream a
header: Content-Type: application/json

{"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}}
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {
  "ai-proxy-multi": {"instances": [
    {"name": "a", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer a"}}, "override": {"endpoint": "$upstream_a"}},
    {"name": "b", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer b"}}, "override": {"endpoint": "$upstream_a"}}]},
  "ai-rate-limiting": {"limit": 12, "time_window": 600, "instances": [{"name": "b", "limit": 100, "time_window": 600}]}}}
--- request
4 * POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}]}
--- error_code: 200 200 503 200
--- response_headers eval
["X-AI-RateLimit-Remaining-a: 12", "X-AI-RateLimit-Remaining-b: 100", "X-AI-RateLimit-Remaining-a: 0", "X-AI-RateLimit-Remaining-b: 88"]



=== TEST 10: the counters of others than a node's own memory are refused
--- request
PUT /apisix/admin/routes/2
{"uri": "/x", "plugins": {"ai-rate-limiting": {"limit": 12, "time_window": 600, "policy": "redis", "redis_host": "127.0.0.1"}}}
--- error_code: 400
--- response_body_like: policy ."redis." is not supported, counters are kept in the memory of each node
--- ignore_error_log
