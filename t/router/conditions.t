Hosts, methods, addresses and variables as conditions of routes.

=== TEST 1: the host of a route is matched without regard to case and port
--- upstream a
--- admin
PUT /apisix/admin/routes/a
{"uri": "/*", "host": "A.example.com", "upstream": {"nodes": {"$node_a": 1}}}
--- request eval
["GET /x", "GET /x", "GET /x"]
--- more_headers eval
["Host: a.example.com", "Host: a.EXAMPLE.com:1984", "Host: b.example.com"]
--- error_code eval
[200, 200, 404]



=== TEST 2: a wildcard stands for any depth, and not for none
--- upstream wild
--- admin
PUT /apisix/admin/routes/wild
{"uri": "/*", "host": "*.wild.com", "upstream": {"nodes": {"$node_wild": 1}}}
--- request eval
["GET /x", "GET /x", "GET /x"]
--- more_headers eval
["Host: a.wild.com", "Host: a.b.wild.com", "Host: wild.com"]
--- error_code eval
[200, 200, 404]



=== TEST 3: a more exact host beats a more exact path
--- upstream path
--- upstream host
--- admin
PUT /apisix/admin/routes/path
{"uri": "/exact", "upstream": {"nodes": {"$node_path": 1}}}

PUT /apisix/admin/routes/host
{"uri": "/*", "hosts": ["h.com", "*.h.com"], "upstream": {"nodes": {"$node_host": 1}}}
--- request eval
["GET /exact", "GET /exact", "GET /exact"]
--- more_headers eval
["Host: h.com", "Host: www.h.com", "Host: other.com"]
--- response_body eval
["host\n", "host\n", "path\n"]



=== TEST 4: with the router of paths it does not
--- extra_yaml_config
apisix:
  router:
    http: radixtree_uri
--- request
GET /exact
--- more_headers
Host: h.com
--- response_body
path



=== TEST 5: methods; GET is not HEAD
--- upstream get
--- admin
PUT /apisix/admin/routes/get
{"uri": "/get", "methods": ["GET", "PUT"], "upstream": {"nodes": {"$node_get": 1}}}
--- request
GET /get

PUT /get

POST /get

HEAD /get
--- error_code: 200 200 404 404



=== TEST 6: addresses
--- upstream near
--- admin
PUT /apisix/admin/routes/near
{"uri": "/near", "remote_addrs": ["10.0.0.0/8", "127.0.0.0/24"], "upstream": {"nodes": {"$node_near": 1}}}

PUT /apisix/admin/routes/far
{"uri": "/far", "remote_addr": "10.0.0.0/8", "upstream": {"nodes": {"$node_near": 1}}}
--- request
GET /near

GET /far
--- error_code: 200 404



=== TEST 7: every condition of vars has to hold
--- upstream both
--- admin
PUT /apisix/admin/routes/both
{"uri": "/both", "vars": [["arg_n", ">", "5"], ["http_x_kind", "in", ["a", "b"]]], "upstream": {"nodes": {"$node_both": 1}}}
--- request eval
["GET /both?n=6", "GET /both?n=6", "GET /both?n=5", "GET /both"]
--- more_headers eval
["X-Kind: b", "X-Kind: c", "X-Kind: a", "X-Kind: a"]
--- error_code eval
[200, 404, 404, 404]



=== TEST 8: logic, patterns and cookies
--- upstream logic
--- admin
PUT /apisix/admin/routes/logic
{"uri": "/logic", "vars": ["OR", ["cookie_sid", "~~", "^[0-9]+$"], ["arg_v", "!", "in", ["1", "2"]]], "upstream": {"nodes": {"$node_logic": 1}}}
--- request eval
["GET /logic?v=1", "GET /logic?v=1", "GET /logic?v=3"]
--- more_headers eval
["Cookie: sid=42", "Cookie: sid=x", "Cookie: sid=x"]
--- error_code eval
[200, 404, 200]



=== TEST 9: members of a JSON body
--- upstream body
--- admin
PUT /apisix/admin/routes/body
{"uri": "/body", "vars": [["post_arg.model.name", "==", "small"]], "upstream": {"nodes": {"$node_body": 1}}}
--- request eval
["POST /body\n{\"model\": {\"name\": \"small\"}}", "POST /body\n{\"model\": {\"name\": \"large\"}}"]
--- more_headers
Content-Type: application/json
--- error_code eval
[200, 404]



=== TEST 10: the hosts of a service are those of its routes
--- upstream service
--- admin
PUT /apisix/admin/services/s
{"hosts": ["service.com"], "upstream": {"nodes": {"$node_service": 1}}}

PUT /apisix/admin/routes/s
{"uri": "/s", "service_id": "s"}
--- request eval
["GET /s", "GET /s"]
--- more_headers eval
["Host: service.com", "Host: else.com"]
--- error_code eval
[200, 404]
