What a route gets from its service, its upstream, its plugin configuration, and global rules.

=== TEST 1: the upstream of the service
--- upstream a
--- upstream b
--- admin
PUT /apisix/admin/services/s
{"upstream": {"nodes": {"$node_a": 1}}}

PUT /apisix/admin/routes/1
{"uri": "/x", "service_id": "s"}
--- request
GET /x
--- response_body
a



=== TEST 2: a change of the service is one of the route
--- upstream b
--- admin
PATCH /apisix/admin/services/s
{"upstream": {"nodes": {"$node_a": null, "$node_b": 1}}}
--- request
GET /x
--- response_body
b



=== TEST 3: the route's own upstream stands above
--- upstream a
--- admin
PATCH /apisix/admin/routes/1
{"upstream": {"nodes": {"$node_a": 1}}}
--- request
GET /x
--- response_body
a



=== TEST 4: an upstream by its id
--- upstream b
--- admin
PUT /apisix/admin/upstreams/u
{"nodes": {"$node_b": 1}}

PUT /apisix/admin/routes/1
{"uri": "/x", "upstream_id": "u"}
--- request
GET /x
--- response_body
b



=== TEST 5: a route without an upstream
--- admin
PUT /apisix/admin/services/empty
{}

PUT /apisix/admin/routes/2
{"uri": "/empty", "service_id": "empty"}
--- request
GET /empty
--- error_code: 503
--- ignore_error_log



=== TEST 6: plugins of the service, the plugin configuration and a global rule add up
--- upstream b
--- admin
PUT /apisix/admin/consumers
{"username": "ann", "plugins": {"key-auth": {"key": "key-of-ann"}}}

PUT /apisix/admin/plugin_configs/p
{"plugins": {"key-auth": {"header": "X-Config"}}}

PUT /apisix/admin/routes/1
{"uri": "/x", "upstream_id": "u", "plugin_config_id": "p"}
--- request eval
["GET /x", "GET /x"]
--- more_headers eval
["X-Config: key-of-ann", "apikey: key-of-ann"]
--- error_code eval
[200, 401]



=== TEST 7: the route's configuration of a plugin stands above
--- upstream b
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"key-auth": {"header": "X-Route"}}}
--- request eval
["GET /x", "GET /x"]
--- more_headers eval
["X-Route: key-of-ann", "X-Config: key-of-ann"]
--- error_code eval
[200, 401]



=== TEST 8: a global rule is asked before there is a route
--- admin
PUT /apisix/admin/global_rules/1
{"plugins": {"key-auth": {}}}
--- request
GET /nowhere
--- error_code: 401



=== TEST 9: and is gone when it is deleted
--- admin
DELETE /apisix/admin/global_rules/1
--- request
GET /nowhere
--- error_code: 404
