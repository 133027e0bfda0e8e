ai-proxy with the current generation of its configuration.

=== TEST 1: what the configuration does not name reaches the provider byte for byte
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"provider": "openai-compatible",
  "auth": {"header": {"Authorization": "Bearer x"}}, "options": {"model": "other", "top_p": 0.50},
  "override": {"endpoint": "$upstream_llm"}}}}
--- request
POST /v1/chat/completions
{ "big" : 12345678901234567890, "tiny":1e-7,"one":1.0, "mod\u0065l":"mine", "messages":[ {"role":"user","content":"h\u0069"}], "x":{"y":[ ]} }
--- upstream_request llm
POST /v1/chat/completions
Authorization: Bearer x

{ "big" : 12345678901234567890, "tiny":1e-7,"one":1.0, "mod\u0065l":"other", "messages":[ {"role":"user","content":"h\u0069"}], "x":{"y":[ ]},"top_p":0.50 }



=== TEST 2: without anything to change the body is the client's
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"provider": "openai-compatible",
  "auth": {"header": {"Authorization": "Bearer x"}}, "override": {"endpoint": "$upstream_llm"}}}}
--- request
POST /v1/chat/completions
{ "model" : "m", "messages":[ {"role":"user","content":"h\u0069"}], "x":1.50 }
--- upstream_request llm
POST /v1/chat/completions

{ "model" : "m", "messages":[ {"role":"user","content":"h\u0069"}], "x":1.50 }



=== TEST 3: an instance with credentials of its own never sees the client's
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"provider": "openai-compatible",
  "auth": {"header": {"X-Vendor": "v"}}, "override": {"endpoint": "$upstream_llm"}}}}
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- more_headers
Authorization: Bearer client
Cookie: sid=1
X-Api-Key: client
X-Mine: kept
X-Forwarded-For: 1.2.3.4
--- upstream_request llm
POST /v1/chat/completions
X-Vendor: v
X-Mine: kept
! Authorization
! Cookie
! X-Api-Key
! X-Forwarded-For



=== TEST 4: headers that end at this hop do not go on
--- upstream llm
fixture: openai/chat.json
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- more_headers
Connection: close, X-Hop
X-Hop: 1
--- upstream_request llm
POST /v1/chat/completions
! X-Hop



=== TEST 5: an instance without any forwards the client's
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"provider": "openai-compatible",
  "auth": {}, "override": {"endpoint": "$upstream_llm"}}}}
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- more_headers
Authorization: Bearer client
Cookie: sid=1
X-Api-Key: client
--- upstream_request llm
POST /v1/chat/completions
Authorization: Bearer client
Cookie: sid=1
X-Api-Key: client



=== TEST 6: the seed generation forwards no header
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"model": {"provider": "openai", "name": "m"},
  "auth": {"header": {"X-Vendor": "v"}}, "override": {"endpoint": "$upstream_llm"}}}}
--- request
POST /v1/chat/completions
{"messages": [{"role": "user", "content": "hi"}]}
--- more_headers
Authorization: Bearer client
X-Mine: lost
--- upstream_request llm
POST /v1/chat/completions
X-Vendor: v
! Authorization
! X-Mine



=== TEST 7: a provider's error reaches the client with what it says about the limit
--- upstream llm
status: 429
header: Content-Type: application/json
header: Retry-After: 7
header: X-Request-Id: req-1
header: X-Internal: secret

{"error": {"message": "slow down"}}
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"provider": "openai-compatible",
  "auth": {"header": {"Authorization": "Bearer x"}}, "override": {"endpoint": "$upstream_llm"}}}}
--- request
POST /v1/chat/completions
{"model": "m", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 429
--- response_headers
Retry-After: 7
X-Request-Id: req-1
--- response_body
{"error": {"message": "slow down"}}
--- ignore_error_log



=== TEST 8: a body of no known protocol is refused
--- upstream llm
--- request
POST /v1/chat/completions
{}
--- error_code: 400
--- response_body_like: no matching AI protocol for the request
--- upstream_request llm: none



=== TEST 9: a member that comes twice is refused
--- upstream llm
--- request
POST /v1/chat/completions
{"model": "a", "model": "b", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 400
--- response_body_like: could not parse JSON request body
--- upstream_request llm: none



=== TEST 10: another content type is refused
--- upstream llm
--- request
POST /v1/chat/completions
{"model": "a", "messages": [{"role": "user", "content": "hi"}]}
--- more_headers
Content-Type: text/plain
--- error_code: 400
--- response_body chomp
unsupported content-type: text/plain, only application/json is supported
--- upstream_request llm: none



=== TEST 11: a body above the limit is refused
--- upstream llm
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"provider": "openai-compatible", "max_req_body_size": 20,
  "auth": {"header": {"Authorization": "Bearer x"}}, "override": {"endpoint": "$upstream_llm"}}}}
--- request
POST /v1/chat/completions
{"model": "a", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 413
--- response_body_like: ^\{"message":"could not get body: request size 63 is greater than the maximum size 20 allowed"\}$
--- upstream_request llm: none



=== TEST 12: a provider that is silent for too long is given up
--- upstream llm
delay_ms: 60000
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"provider": "openai-compatible", "timeout": 3000,
  "auth": {"header": {"Authorization": "Bearer x"}}, "override": {"endpoint": "$upstream_llm"}}}}
--- request
POST /v1/chat/completions
{"model": "a", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 504
--- upstream_request llm
POST /v1/chat/completions
(gone)
--- ignore_error_log



=== TEST 13: an answer above the limit is not passed on
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"provider": "openai-compatible", "max_response_bytes": 20,
  "auth": {"header": {"Authorization": "Bearer x"}}, "override": {"endpoint": "$upstream_llm"}}}}
--- request
POST /v1/chat/completions
{"model": "a", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 502
--- response_body_like: max_response_bytes exceeded
--- ignore_error_log



=== TEST 14: a certificate that nobody vouches for is refused
--- upstream vault
tls: true
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"provider": "openai-compatible",
  "auth": {"header": {"Authorization": "Bearer x"}}, "override": {"endpoint": "$upstream_vault"}}}}
--- request
POST /v1/chat/completions
{"model": "a", "messages": [{"role": "user", "content": "hi"}]}
--- error_code: 500
--- upstream_request vault: none
--- ignore_error_log



=== TEST 15: and accepted where ssl_verify is off
--- upstream vault
tls: true
fixture: openai/chat.json
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-proxy": {"ssl_verify": false}}}
--- request
POST /v1/chat/completions
{"model": "a", "messages": [{"role": "user", "content": "hi"}]}
--- upstream_request vault
POST /v1/chat/completions
Authorization: Bearer x



=== TEST 16: members merged into the body stay behind the client's unless they are forced
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/v1/chat/completions", "plugins": {"ai-proxy": {"provider": "openai-compatible",
  "auth": {"header": {"Authorization": "Bearer x"}}, "override": {"endpoint": "$upstream_llm",
  "request_body": {"openai-chat": {"seed": 7, "user": "gate"}}}}}}
--- request
POST /v1/chat/completions
{"seed":1,"messages":[{"role":"user","content":"hi"}]}
--- upstream_request llm
POST /v1/chat/completions

{"seed":1,"messages":[{"role":"user","content":"hi"}],"user":"gate"}



=== TEST 17: forced, they replace them
--- upstream llm
fixture: openai/chat.json
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-proxy": {"override": {"request_body_force_override": true}}}}
--- request
POST /v1/chat/completions
{"seed":1,"messages":[{"role":"user","content":"hi"}]}
--- upstream_request llm
POST /v1/chat/completions

{"seed":7,"messages":[{"role":"user","content":"hi"}],"user":"gate"}
