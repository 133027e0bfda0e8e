prometheus: what is counted, and where it is told. The gateway leads to the exporter by a route.

=== TEST 1: a request of a route that has the plugin is counted, another is not
--- upstream a
--- admin
PUT /apisix/admin/routes/metrics
{"uri": "/apisix/*", "upstream": {"nodes": {"127.0.0.1:9091": 1}}}

PUT /apisix/admin/services/s1
{"name": "orders", "hosts": ["*.shop.test", "shop.test"]}

PUT /apisix/admin/routes/1
{"uris": ["/counted/*", "/c"], "name": "first", "service_id": "s1", "plugins": {"prometheus": {}}, "upstream": {"nodes": {"$node_a": 1}}}

PUT /apisix/admin/routes/2
{"uri": "/quiet", "upstream": {"nodes": {"$node_a": 1}}}
--- request
GET /counted/x

GET /quiet
--- more_headers
Host: a.shop.test
--- error_code eval
[200, 200]



=== TEST 2: under its route, as it was matched
--- request
GET /apisix/prometheus/metrics
--- response_headers_like
Content-Type: text/plain; version=0.0.4.*
--- response_body_like eval
qr/apisix_http_status\{code="200",route="1",matched_uri="\/counted\/\*",matched_host="\*\.shop\.test",service="s1",consumer="",node="127\.0\.[0-9.]+",request_type="traditional_http",request_llm_model="",llm_model="",response_source="upstream"\} 1\n/
--- response_body_unlike eval
qr/route="2"/



=== TEST 3: with latencies and bytes
--- request eval
["GET /apisix/prometheus/metrics", "GET /apisix/prometheus/metrics", "GET /apisix/prometheus/metrics"]
--- response_body_like eval
[qr/apisix_http_latency_count\{type="upstream",route="1",[^}]*\} 1\n/, qr/apisix_http_latency_bucket\{type="request",route="1",[^}]*,le="60000"\} 1\n/, qr/apisix_bandwidth\{type="egress",route="1",[^}]*\} 2\n/]



=== TEST 4: by names, if they are preferred; the answer of a plugin is the gateway's
--- upstream a
--- admin
PUT /apisix/admin/consumers
{"username": "ann", "plugins": {"key-auth": {"key": "key-of-ann"}}}

PATCH /apisix/admin/routes/1
{"plugins": {"prometheus": {"prefer_name": true}, "key-auth": {}}}
--- request
GET /c

GET /c?apikey=key-of-ann
--- more_headers
Host: shop.test
--- error_code eval
[401, 200]



=== TEST 5: both are there
--- request eval
["GET /apisix/prometheus/metrics", "GET /apisix/prometheus/metrics"]
--- response_body_like eval
[qr/apisix_http_status\{code="401",route="first",matched_uri="\/c",matched_host="shop\.test",service="orders",consumer="",node="",[^}]*,response_source="apisix"\} 1\n/, qr/apisix_http_status\{code="200",route="first",matched_uri="\/c",matched_host="shop\.test",service="orders",consumer="ann",node="127[^}]*\} 1\n/]



=== TEST 6: a global rule counts everything, but for routes that count themselves
--- upstream a
--- admin
PUT /apisix/admin/global_rules/1
{"plugins": {"prometheus": {}}}
--- request
GET /quiet

GET /nowhere

GET /c?apikey=key-of-ann
--- more_headers
Host: shop.test
--- error_code eval
[200, 404, 200]



=== TEST 7: once each
--- request eval
["GET /apisix/prometheus/metrics", "GET /apisix/prometheus/metrics", "GET /apisix/prometheus/metrics"]
--- response_body_like eval
[qr/apisix_http_status\{code="200",route="2",matched_uri="\/quiet",[^}]*\} 1\n/, qr/apisix_http_status\{code="404",route="",matched_uri="",matched_host="",[^}]*\} 1\n/, qr/apisix_http_status\{code="200",route="first",[^}]*\} 2\n/]



=== TEST 8: labels can be switched off
--- upstream a
--- admin
DELETE /apisix/admin/global_rules/1

PUT /apisix/admin/plugin_metadata/prometheus
{"disabled_labels": {"http_status": ["node", "matched_uri"]}}

PUT /apisix/admin/routes/3
{"uri": "/bare", "plugins": {"prometheus": {}}, "upstream": {"nodes": {"$node_a": 1}}}
--- request
GET /bare



=== TEST 9: in one metric alone
--- request eval
["GET /apisix/prometheus/metrics", "GET /apisix/prometheus/metrics"]
--- response_body_like eval
[qr/apisix_http_status\{code="200",route="3",matched_uri="",matched_host="",service="",consumer="",node="",/, qr/apisix_bandwidth\{type="egress",route="3",service="",consumer="",node="127/]



=== TEST 10: a model's answer, and its tokens
--- upstream llm
fixture: openai/chat.json
--- admin
PUT /apisix/admin/routes/4
{"uri": "/v1/chat/completions", "plugins": {"prometheus": {}, "ai-proxy-multi": {"instances": [
  {"name": "gpt", "provider": "openai-compatible", "weight": 1, "auth": {"header": {"Authorization": "Bearer x"}},
   "options": {"model": "large"}, "override": {"endpoint": "$upstream_llm"}}]}}}
--- request
POST /v1/chat/completions
{"model": "small", "messages": [{"role": "user", "content": "hi"}]}



=== TEST 11: under the instance, the model that was asked for and the one that answered
--- request eval
[map { "GET /apisix/prometheus/metrics" } (1..5)]
--- response_body_like eval
my $l = 'route_id="4",service_id="",consumer="",node="gpt",request_type="ai_chat",request_llm_model="small",llm_model="large"'; [qr/apisix_llm_prompt_tokens\{$l\} [1-9]/, qr/apisix_llm_completion_tokens\{$l\} [1-9]/, qr/apisix_llm_prompt_tokens_dist_count\{$l\} 1\n/, qr/apisix_llm_active_connections\{[^}]*node="gpt",[^}]*\} 0\n/, qr/apisix_http_status\{code="200",route="4",[^}]*node="",request_type="ai_chat",request_llm_model="small",llm_model="large"/]



=== TEST 12: what is told of the node
--- request eval
[map { "GET /apisix/prometheus/metrics" } (1..5)]
--- response_body_like eval
[qr/\napisix_etcd_reachable 1\n/, qr/\napisix_etcd_modify_indexes\{key="routes"\} [1-9]/, qr/\napisix_node_info\{hostname="[^"]+",version="[^"]+"\} 1\n/, qr/\napisix_nginx_http_current_connections\{state="active"\} [1-9]/, qr/\napisix_http_requests_total [1-9]/]



=== TEST 13: another path of the exporter
--- request eval
["GET /apisix/prometheus", "POST /apisix/prometheus/metrics", "GET /apisix/nginx_status"]
--- error_code eval
[404, 404, 200]



=== TEST 14: labels that make a metric what it is stay
--- request
PUT /apisix/admin/plugin_metadata/prometheus
{"disabled_labels": {"http_status": ["code"]}}
--- error_code: 400
--- response_body_like: matches none of the enum values
