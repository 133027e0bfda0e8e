What a node does when what it lives on is gone or bad.

=== TEST 1: without etcd it serves what it has
--- upstream a
--- admin
PUT /apisix/admin/routes/1
{"uri": "/one", "upstream": {"nodes": {"$node_a": 1}}}
--- kill: etcd before request 2
--- request
20 * GET /one
--- upstream_request a
20 * GET /one
--- ignore_error_log



=== TEST 2: and the Admin API says so
--- extra_yaml_config
deployment:
  etcd: {timeout: 1}
  admin: {admin_key: null}
--- kill: etcd
--- request
PUT /apisix/admin/routes/2
{"uri": "/two", "upstream": {"nodes": {"$node_a": 1}}}
--- timeout: 20
--- error_code: 503
--- ignore_error_log



=== TEST 3: with etcd back, what is written is served
--- upstream a
--- admin
PUT /apisix/admin/routes/2
{"uri": "/two", "upstream": {"nodes": {"$node_a": 1}}}
--- request
GET /two
--- ignore_error_log



=== TEST 4: killed and started again, it has everything
--- upstream a
--- kill: gosix
--- request
GET /one

GET /two
--- ignore_error_log



=== TEST 5: a bad item harms nobody, and its last good version stays in
--- upstream a
--- etcd
/apisix/routes/1 {"uri": 5}
/apisix/routes/3 not json
--- request
GET /one

GET /two

GET /v1/config/rejected
--- response_body_like eval
[qr/^a$/, qr/^a$/, qr{/apisix/routes/1.*expected string, got number.*/apisix/routes/3}s]
--- ignore_error_log



=== TEST 6: what names a plugin that is not there is closed
--- upstream a
--- etcd
/apisix/routes/4 {"uri": "/closed", "plugins": {"of-tomorrow": {}}, "upstream": {"nodes": {"$node_a": 1}}}
--- extra_yaml_config
apisix:
  unknown_plugins: fail
--- request
GET /closed
--- error_code: 503
--- upstream_request a: none
--- ignore_error_log



=== TEST 7: repaired, an item is in force again
--- upstream a
--- admin
PUT /apisix/admin/routes/1
{"uri": "/better", "upstream": {"nodes": {"$node_a": 1}}}
--- request
GET /better

GET /one
--- error_code: 200 404
--- ignore_error_log
