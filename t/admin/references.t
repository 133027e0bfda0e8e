Services, upstreams, consumers and what points at them.

=== TEST 1: an upstream in use stays
--- admin
PUT /apisix/admin/upstreams/u
{"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}

PUT /apisix/admin/services/s
{"upstream_id": "u"}

PUT /apisix/admin/routes/r
{"uri": "/r", "service_id": "s"}
--- request
DELETE /apisix/admin/upstreams/u

DELETE /apisix/admin/services/s
--- error_code: 400
--- response_body lines array
{"error_msg":"can not delete this upstream, service [s] is still using it now"}
{"error_msg":"can not delete this service directly, route [r] is still using it now"}



=== TEST 2: unless it is forced
--- request
DELETE /apisix/admin/services/s?force=true



=== TEST 3: what nobody uses any more goes
--- admin
PUT /apisix/admin/services/s
{"upstream_id": "u"}

DELETE /apisix/admin/routes/r

DELETE /apisix/admin/services/s
--- request
DELETE /apisix/admin/upstreams/u
--- response_body
{"deleted":"1","key":"/apisix/upstreams/u"}



=== TEST 4: an upstream needs nodes, and they a weight
--- request eval
["PUT /apisix/admin/upstreams/u\n{}", "PUT /apisix/admin/upstreams/u\n{\"nodes\": [{\"host\": \"127.0.0.1\", \"port\": 80}]}"]
--- error_code eval
[400, 400]
--- response_body_like eval
[qr/invalid configuration: /, qr/property \\"nodes\\" validation failed/]



=== TEST 5: chash needs a key where what it hashes has one
--- request
PUT /apisix/admin/upstreams/u
{"type": "chash", "hash_on": "header", "nodes": {"127.0.0.1:80": 1}}
--- error_code: 400
--- response_body
{"error_msg":"missing key"}



=== TEST 6: a consumer is known by its name
--- request eval
["PUT /apisix/admin/consumers/bob\n{\"username\": \"ann\"}", "PUT /apisix/admin/consumers\n{\"username\": \"a b\"}", "PUT /apisix/admin/consumers/ann\n{\"username\": \"ann\"}"]
--- error_code eval
[400, 400, 201]
--- response_body_like eval
[qr/wrong username/, qr/failed to match pattern/, qr{"key":"/apisix/consumers/ann"}]



=== TEST 7: a credential needs its consumer, and an auth plugin
--- request eval
["PUT /apisix/admin/consumers/bob/credentials/c\n{\"plugins\": {\"key-auth\": {\"key\": \"k\"}}}",
 "PUT /apisix/admin/consumers/ann/credentials/c\n{\"plugins\": {\"ai-proxy\": {}}}",
 "PUT /apisix/admin/consumers/ann/credentials/c\n{\"plugins\": {\"key-auth\": {\"key\": \"k\"}}}"]
--- error_code eval
[404, 400, 201]
--- response_body_like eval
[qr/consumer not found/, qr/only supports auth type plugins in consumer credential/, qr/credentials/]



=== TEST 8: and goes with it
--- admin
DELETE /apisix/admin/consumers/ann

PUT /apisix/admin/consumers
{"username": "ann"}
--- request
GET /apisix/admin/consumers/ann/credentials/c
--- error_code: 404



=== TEST 9: a key is sealed in the store, and shown to who may read it
--- extra_yaml_config
apisix:
  data_encryption:
    enable_encrypt_fields: true
    keyring: [0123456789abcdef]
--- admin
PUT /apisix/admin/consumers
{"username": "eve", "plugins": {"key-auth": {"key": "key-of-eve"}}}
--- request
GET /apisix/admin/consumers/eve
--- response_body_like: "key": ?"key-of-eve"



=== TEST 10: plugin configurations and consumer groups are referred to, too
--- admin
PUT /apisix/admin/plugin_configs/p
{"plugins": {"key-auth": {}}}

PUT /apisix/admin/consumer_groups/g
{"plugins": {}}

PUT /apisix/admin/routes/r
{"uri": "/r", "plugin_config_id": "p", "upstream": {"nodes": {"127.0.0.1:1980": 1}}}

PUT /apisix/admin/consumers
{"username": "ann", "group_id": "g"}
--- request
DELETE /apisix/admin/plugin_configs/p

DELETE /apisix/admin/consumer_groups/g
--- error_code: 400
--- response_body lines array
{"error_msg":"can not delete this plugin config, route [r] is still using it now"}
{"error_msg":"can not delete this consumer group, consumer [ann] is still using it now"}



=== TEST 11: a whole configuration is judged at once, and every fault listed
--- request
POST /apisix/admin/configs/validate
{"routes": [{"id": "r1", "uri": 1}, {"id": "r2", "uri": "/x", "plugins": {"of-tomorrow": {}}}]}
--- error_code: 400
--- response_body_like: ^\{"error_msg":"Configuration validation failed","errors":\[\{.*"resource_id":"r1".*\},\{.*"resource_id":"r2".*\}\]\}$



=== TEST 12: a schema can be asked for, and used
--- request
GET /apisix/admin/schema/route

GET /apisix/admin/schema/rout

POST /apisix/admin/schema/validate/routes
{"uri": "/x", "upstream": {"nodes": {"127.0.0.1:80": 1}}}
--- error_code: 200 400 200
--- response_body_like eval
[qr/"properties"/, qr/not found schema: rout/, qr/^$/]
