ai-rate-limiting beside ai-proxy-multi: who takes over when a quota is spent.

=== TEST 1: an instance whose quota is spent is passed over
--- upstream a
header: Content-Type: application/json

{"object": "chat.completion", "model": "a", "choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}}
--- upstream b
header: Content-Type: application/json

{"object": "chat.completion", "model": "b", "choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 4, "total_tokens": 12}}
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {
  "ai-proxy-multi": {"fallback_strategy": ["rate_limiting"], "instances": [
    {"name": "a", "provider": "openai-compatible", "weight": 1, "priority": 1, "auth": {"header": {"Authorization": "Bearer a"}}, "override": {"endpoint": "$upstream_a"}},
    {"name": "b", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer b"}}, "override": {"endpoint": "$upstream_b"}}]},
  "ai-rate-limiting": {"limit": 20, "time_window": 600}}}
--- request
5 * POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}]}
--- error_code: 200 200 200 200 503
--- response_body_like eval
['"model": "a"', '"model": "a"', '"model": "b"', '"model": "b"', '^all servers tried$']
--- ignore_error_log



=== TEST 2: nor does a failure fall back to it
--- upstream a
--- upstream b
status: 500
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-rate-limiting": {"limit": null, "time_window": null, "instances": [{"name": "a", "limit": "$arg_left", "time_window": 600}]},
  "ai-proxy-multi": {"fallback_strategy": ["rate_limiting", "http_5xx"], "instances": [
  {"name": "a", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer a"}}, "override": {"endpoint": "$upstream_a"}},
  {"name": "b", "provider": "openai-compatible", "weight": 1, "priority": 1, "auth": {"header": {"Authorization": "Bearer b"}}, "override": {"endpoint": "$upstream_b"}}]}}}
--- request
POST /v1/chat/completions?left=no
{"messages": [{"role": "user", "content": "hi"}]}
--- error_code: 502
--- upstream_request a: none
--- ignore_error_log
