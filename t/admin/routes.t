Routes over the Admin API: their life, their fields, their refusals.

=== TEST 1: a PUT creates, echoes what is stored and adds the times
--- request
PUT /apisix/admin/routes/1
{"uri": "/hello", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}}
--- error_code: 201
--- response_body_like: ^\{"key":"/apisix/routes/1","value":\{(?=.*"uri": ?"/hello")(?=.*"id":"1")(?=.*"create_time":\d{10})(?=.*"update_time":\d{10})



=== TEST 2: a second one replaces, and keeps when it was created
--- etcd
/apisix/routes/1 {"id": "1", "uri": "/hello", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}, "create_time": 1600000000, "update_time": 1600000000}
--- request
PUT /apisix/admin/routes/1
{"uri": "/hello2", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}}
--- error_code: 200
--- response_body_like: "create_time":1600000000



=== TEST 3: defaults of the schema are not written
--- request
GET /apisix/admin/routes/1
--- response_body_like: ^\{(?=.*"createdIndex":\d)(?=.*"modifiedIndex":\d)(?=.*"uri": ?"/hello2")
--- response_body_unlike: "(priority|status|scheme|pass_host|hash_on)"



=== TEST 4: a merge changes members, and null takes them away
--- admin
PATCH /apisix/admin/routes/1
{"desc": "first", "labels": {"a": "1", "b": "2"}}

PATCH /apisix/admin/routes/1
{"desc": null, "labels": {"b": null, "c": "3"}}
--- request
GET /apisix/admin/routes/1
--- response_body_like: ^(?=.*"a": ?"1")(?=.*"c":"3")
--- response_body_unlike: "(b|desc)":



=== TEST 5: a sub-path replaces one member
--- admin
PATCH /apisix/admin/routes/1/upstream/nodes
{"127.0.0.1:1981": 2}
--- request
GET /apisix/admin/routes/1
--- response_body_like: "nodes": ?\{"127\.0\.0\.1:1981": ?2\}



=== TEST 6: a sub-path through what is no object is refused
--- request
PATCH /apisix/admin/routes/1/uri/x
1
--- error_code: 400
--- response_body
{"error_msg":"invalid sub-path: /uri"}



=== TEST 7: a PATCH without a body, of nothing, and with what is no object
--- request eval
["PATCH /apisix/admin/routes/1", "PATCH /apisix/admin/routes/none\n{\"desc\": \"x\"}", "PATCH /apisix/admin/routes/1\n5"]
--- error_code eval
[400, 404, 400]
--- response_body eval
[qq({"error_msg":"missing new configuration"}\n), qq({"message":"Key not found"}\n), qq({"error_msg":"invalid configuration"}\n)]



=== TEST 8: a POST makes an id of twenty digits
--- request
POST /apisix/admin/routes
{"uri": "/post", "upstream": {"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}}
--- error_code: 201
--- response_body_like: "id":"\d{20}"



=== TEST 9: a POST with an id, a PUT without one, an id that is another's
--- request eval
["POST /apisix/admin/routes/1\n{\"uri\": \"/x\"}", "PUT /apisix/admin/routes\n{\"uri\": \"/x\"}", "PUT /apisix/admin/routes/1\n{\"id\": \"2\", \"uri\": \"/x\"}"]
--- error_code eval
[400, 400, 400]
--- response_body eval
[qq({"error_msg":"wrong route id, do not need it"}\n), qq({"error_msg":"missing route id"}\n), qq({"error_msg":"wrong route id"}\n)]



=== TEST 10: without a body
--- request
PUT /apisix/admin/routes/1
--- error_code: 400
--- response_body
{"error_msg":"missing configurations"}



=== TEST 11: a body that is no JSON is quoted
--- request
PUT /apisix/admin/routes/1
{"uri": }
--- error_code: 400
--- response_body_like: ^\{"error_msg":"invalid request body: Expected value but found .+ at character 9","req_body":"\{\\"uri\\": \}"\}$



=== TEST 12: members of the wrong type are named with both types
--- request
PUT /apisix/admin/routes/1
{"uri": 1, "upstream": {"nodes": {"127.0.0.1:1980": 1}}}
--- error_code: 400
--- response_body
{"error_msg":"invalid configuration: property \"uri\" validation failed: wrong type: expected string, got number"}



=== TEST 13: members that nobody knows are refused
--- request
PUT /apisix/admin/routes/1
{"uri": "/x", "urn": "/y", "upstream": {"nodes": {"127.0.0.1:1980": 1}}}
--- error_code: 400
--- response_body
{"error_msg":"invalid configuration: additional properties forbidden, found urn"}



=== TEST 14: host and hosts exclude each other, and so do remote_addr and remote_addrs
--- request eval
["PUT /apisix/admin/routes/1\n{\"uri\": \"/x\", \"host\": \"a.com\", \"hosts\": [\"b.com\"]}",
 "PUT /apisix/admin/routes/1\n{\"uri\": \"/x\", \"remote_addr\": \"1.1.1.1\", \"remote_addrs\": [\"1.1.1.2\"]}"]
--- error_code eval
[400, 400]
--- response_body eval
[qq({"error_msg":"only one of host or hosts is allowed"}\n), qq({"error_msg":"only one of remote_addr or remote_addrs is allowed"}\n)]



=== TEST 15: vars that do not compile
--- request
PUT /apisix/admin/routes/1
{"uri": "/x", "vars": [["arg_a", "<>", "1"]], "upstream": {"nodes": {"127.0.0.1:1980": 1}}}
--- error_code: 400
--- response_body
{"error_msg":"failed to validate the 'vars' expression: invalid operator '<>'"}



=== TEST 16: references have to be there
--- request eval
[map { "PUT /apisix/admin/routes/1\n{\"uri\": \"/x\", \"$_\": \"9\", \"plugins\": {}}" } qw(upstream_id service_id plugin_config_id)]
--- error_code eval
[400, 400, 400]
--- response_body eval
[qq({"error_msg":"failed to fetch upstream info by upstream id [9], response code: 404"}\n),
 qq({"error_msg":"failed to fetch service info by service id [9], response code: 404"}\n),
 qq({"error_msg":"failed to fetch plugin config info by plugin config id [9], response code: 404"}\n)]



=== TEST 17: plugins that nobody knows, and configurations that are no object
--- request eval
["PUT /apisix/admin/routes/1\n{\"uri\": \"/x\", \"plugins\": {\"of-tomorrow\": {}}}",
 "PUT /apisix/admin/routes/1\n{\"uri\": \"/x\", \"plugins\": {\"key-auth\": \"blah\"}}"]
--- error_code eval
[400, 400]
--- response_body eval
[qq({"error_msg":"unknown plugin [of-tomorrow]"}\n), qq({"error_msg":"invalid plugin conf \\"blah\\" for plugin [key-auth]"}\n)]



=== TEST 18: what a configuration gets wrong is named with its plugin
--- request
PUT /apisix/admin/routes/1
{"uri": "/x", "plugins": {"key-auth": {"hide_credentials": "yes"}}}
--- error_code: 400
--- response_body
{"error_msg":"failed to check the configuration of plugin key-auth err: property \"hide_credentials\" validation failed: wrong type: expected boolean, got string"}



=== TEST 19: times cannot be given
--- request
PUT /apisix/admin/routes/1
{"uri": "/x", "create_time": 1, "upstream": {"nodes": {"127.0.0.1:1980": 1}}}
--- error_code: 400
--- response_body
{"error_msg":"the property is forbidden:  create_time"}



=== TEST 20: ids have a form
--- request
PUT /apisix/admin/routes/not%20so
{"uri": "/x", "upstream": {"nodes": {"127.0.0.1:1980": 1}}}
--- error_code: 400
--- response_body_like: property \\"id\\" validation failed



=== TEST 21: deleted once
--- request
2 * DELETE /apisix/admin/routes/1
--- error_code: 200 404
--- response_body lines array
{"deleted":"1","key":"/apisix/routes/1"}
{"message":"Key not found"}



=== TEST 22: kinds and verbs that there are not
--- request
GET /apisix/admin/routs

POST /apisix/admin/consumers
{"username": "ann"}
--- error_code: 404 405
--- response_body lines array
{"error_msg":"Unsupported resource type: routs"}
{"error_msg":"not supported `POST` method for consumer"}
