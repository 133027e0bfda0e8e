How ai-proxy-multi chooses, with the seed generation of its configuration.

=== TEST 1: of ten requests, four to one go to the heavier provider
--- upstream openai
fixture: openai/chat.json
--- upstream deepseek
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"providers": [
  {"name": "openai", "model": "gpt-4", "weight": 4, "auth": {"header": {"Authorization": "Bearer token"}},
   "override": {"endpoint": "$upstream_openai"}},
  {"name": "deepseek", "model": "gpt-4", "weight": 1, "auth": {"header": {"Authorization": "Bearer token"}},
   "override": {"endpoint": "$upstream_deepseek/chat/completions"}}]}}}
--- request
10 * POST /anything
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- upstream_request openai
8 * POST /v1/chat/completions
--- upstream_request deepseek
2 * POST /chat/completions



=== TEST 2: a hash of the query spreads ten requests in the same shares
--- upstream openai
fixture: openai/chat.json
--- upstream deepseek
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {
  "balancer": {"algorithm": "chash", "hash_on": "vars", "key": "query_string"}, "providers": [
  {"name": "openai", "model": "gpt-4", "weight": 4, "auth": {"header": {"Authorization": "Bearer token"}},
   "override": {"endpoint": "$upstream_openai"}},
  {"name": "deepseek", "model": "gpt-4", "weight": 1, "auth": {"header": {"Authorization": "Bearer token"}},
   "override": {"endpoint": "$upstream_deepseek/chat/completions"}}]}}}
--- request eval
[map { "POST /anything?index=$_\n" . '{"messages": [{"role": "user", "content": "What is 1+1?"}]}' } 1 .. 10]
--- error_code eval
[(200) x 10]
--- upstream_request openai
8 * POST /v1/chat/completions
--- upstream_request deepseek
2 * POST /chat/completions



=== TEST 3: equal hashes stay with one provider
--- upstream openai
fixture: openai/chat.json
--- upstream deepseek
fixture: openai/chat.json
--- request
5 * POST /anything?index=1
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- upstream_request openai
5 * POST /v1/chat/completions
--- upstream_request deepseek: none



=== TEST 4: when the provider of a higher priority cannot be reached, the next one answers, and the log says why
--- upstream openai
refuse: true
--- upstream deepseek
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "priority": 1, "auth": {"header": {"Authorization": "Bearer token"}},
   "override": {"endpoint": "$upstream_openai"}},
  {"name": "deepseek", "model": "gpt-4", "weight": 1, "priority": 0, "auth": {"header": {"Authorization": "Bearer token"}},
   "override": {"endpoint": "$upstream_deepseek/chat/completions"}}]}}}
--- request
POST /anything
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- response_body_like: "content": ?"Two\."
--- error_log
failed to send request to LLM: failed to connect to LLM server: connection refused. Retrying...
--- upstream_request deepseek
POST /chat/completions



=== TEST 5: what a provider answers is final, whatever it is
--- upstream openai
status: 500
--- upstream deepseek
fixture: openai/chat.json
--- request
POST /anything
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- error_code: 500
--- response_body
openai
--- upstream_request deepseek: none
--- ignore_error_log
