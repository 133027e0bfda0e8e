ai-proxy-multi with the seed generation of its configuration: what clients and providers saw
of the plugin before 3.12 still holds.

=== TEST 1: a provider with nothing but its name, model and credentials is stored
--- upstream ok
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "auth": {"header": {"some_header": "some_value"}}}]}}}

PUT /apisix/admin/routes/ok
{"uri": "/ok", "upstream": {"nodes": {"$node_ok": 1}}}
--- request
GET /ok



=== TEST 2: a provider that is not supported is refused by its name
--- request
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"providers": [
  {"name": "some-unique", "model": "gpt-4", "weight": 1, "auth": {"header": {"Authorization": "Bearer token"}}}]}}}
--- error_code: 400
--- response_body_like: provider: some-unique is not supported\.



=== TEST 3: a provider's refusal of the credentials reaches the client as it came
--- upstream llm
status: 401
header: Content-Type: application/json

Unauthorized
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"ssl_verify": false, "providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "auth": {"header": {"Authorization": "Bearer wrongtoken"}},
   "options": {"max_tokens": 512, "temperature": 1.0}, "override": {"endpoint": "$upstream_llm"}}]}}}
--- request
POST /anything
{"messages": [{"role": "system", "content": "You are a mathematician"}, {"role": "user", "content": "What is 1+1?"}]}
--- error_code: 401
--- response_body
Unauthorized
--- upstream_request llm
POST /v1/chat/completions
Authorization: Bearer wrongtoken
--- ignore_error_log



=== TEST 4: the configured credentials, model and options go to the provider
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"ssl_verify": false, "providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "auth": {"header": {"Authorization": "Bearer token"}},
   "options": {"max_tokens": 512, "temperature": 1.0}, "override": {"endpoint": "$upstream_llm"}}]}}}
--- request
POST /anything
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- more_headers
Authorization: Bearer client
X-Mine: 1
--- response_body_like: "content": ?"Two\."
--- upstream_request llm
POST /v1/chat/completions
Authorization: Bearer token
Content-Type: application/json
! X-Mine

~ ^\{"messages": \[\{"role": "user", "content": "What is 1\+1\?"\}\],(?=.*"model":"gpt-4")(?=.*"max_tokens":512)(?=.*"temperature":1\.0).*\}$



=== TEST 5: an empty body is refused
--- upstream llm
--- request
POST /anything
--- error_code: 400
--- response_body
{"message":"could not get body: request body is empty"}
--- upstream_request llm: none



=== TEST 6: a GET with a body is a chat request, too
--- upstream llm
fixture: openai/chat.json
--- request
GET /anything
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- response_body_like: "content": ?"Two\."
--- upstream_request llm
POST /v1/chat/completions



=== TEST 7: a body that is no JSON is refused with where it ends to be
--- upstream llm
--- request
GET /anything
{}"messages": [ { "role": "system", "cont"
--- error_code: 400
--- response_body
{"message":"could not get parse JSON request body: Expected the end but found T_STRING at character 3"}
--- upstream_request llm: none



=== TEST 8: a form is refused
--- upstream llm
--- request
POST /anything
prompt%3Dwhat%2520is%25201%2520%252B%25201
--- more_headers
Content-Type: application/x-www-form-urlencoded
--- error_code: 400
--- response_body chomp
unsupported content-type: application/x-www-form-urlencoded
--- upstream_request llm: none



=== TEST 9: a body without messages is refused
--- upstream llm
--- request
POST /anything
{"messages-missing": [{"role": "system", "content": "xyz"}]}
--- error_code: 400
--- response_body chomp
request format doesn't match schema: property "messages" is required
--- upstream_request llm: none



=== TEST 10: options that nobody knows go to the provider
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"ssl_verify": false, "providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "auth": {"header": {"Authorization": "Bearer token"}},
   "options": {"foo": "bar", "temperature": 1.0}, "override": {"endpoint": "$upstream_llm"}}]}}}
--- request
POST /anything
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- more_headers
Content-Type: application/json
--- upstream_request llm
POST /v1/chat/completions

~ "foo":"bar"



=== TEST 11: the path of an endpoint replaces the provider's
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"ssl_verify": false, "providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "auth": {"header": {"Authorization": "Bearer token"}},
   "override": {"endpoint": "$upstream_llm/random"}}]}}}
--- request
POST /anything
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- upstream_request llm
POST /random



=== TEST 12: with passthrough the model's answer is what the route's upstream gets
--- upstream llm
header: Content-Type: application/json

SELECT * FROM STUDENTS
--- upstream db
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "upstream": {"nodes": {"$node_db": 1}}, "plugins": {"ai-proxy-multi": {"passthrough": true, "providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "auth": {"header": {"Authorization": "Bearer token"}},
   "override": {"endpoint": "$upstream_llm"}}]}}}
--- request
POST /anything
{"messages": [{"role": "user", "content": "write a query for all students"}]}
--- response_body
db
--- upstream_request llm
POST /v1/chat/completions
--- upstream_request db
POST /anything
Content-Length: 23

~ ^SELECT \* FROM STUDENTS\n$



=== TEST 13: a stream comes event by event
--- upstream llm

data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}

data: {"choices":[{"index":0,"delta":{"content":"two"},"finish_reason":null}]}

data: [DONE]
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "auth": {"header": {"Authorization": "Bearer token"}},
   "options": {"max_tokens": 512, "stream": true}, "override": {"endpoint": "$upstream_llm"}}]}}}
--- request
POST /anything
{"messages": [{"role": "system", "content": "some content"}]}
--- stream
data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}
data: {"choices":[{"index":0,"delta":{"content":"two"},"finish_reason":null}]}
data: [DONE]
--- upstream_request llm
POST /v1/chat/completions

~ "stream":true



=== TEST 14: an event reaches the client while the provider thinks about the next
--- upstream llm
gap_ms: 60000

data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}

data: [DONE]
--- request
POST /anything
{"messages": [{"role": "system", "content": "some content"}]}
--- timeout: 3
--- abort
--- stream
data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":null}]}
(cut)
--- upstream_request llm
POST /v1/chat/completions
(gone)
--- ignore_error_log



=== TEST 15: credentials in the query, and the provider's refusal of them
--- upstream llm
status: 401
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "auth": {"query": {"api_key": "wrong_key"}},
   "override": {"endpoint": "$upstream_llm"}}]}}}
--- request
POST /anything
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- error_code: 401
--- response_body
llm
--- upstream_request llm
POST /v1/chat/completions?api_key=wrong_key
--- ignore_error_log



=== TEST 16: credentials in the query stand beside the arguments of the endpoint
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "auth": {"query": {"api_key": "apikey"}},
   "override": {"endpoint": "$upstream_llm/test/params/in/overridden/endpoint?some_query=yes"}}]}}}
--- request
POST /anything
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- upstream_request llm
POST /test/params/in/overridden/endpoint?api_key=apikey&some_query=yes



=== TEST 17: without an endpoint the request leaves for the provider's own address
--- admin
PUT /apisix/admin/routes/1
{"uri": "/anything", "plugins": {"ai-proxy-multi": {"providers": [
  {"name": "openai", "model": "gpt-4", "weight": 1, "auth": {"header": {"Authorization": "some-key"}}}]}}}
--- request
POST /anything
{"messages": [{"role": "user", "content": "What is 1+1?"}]}
--- timeout: 20
--- error_code_like: ^(500|401)$
--- access_log
https://api.openai.com/v1/chat/completions
--- ignore_error_log
