Which server gets a request, and what it gets.

=== TEST 1: weights share requests
--- upstream a
--- upstream b
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "upstream": {"type": "roundrobin", "nodes": {"$node_a": 3, "$node_b": 1}}}
--- request
8 * GET /x
--- upstream_request a
6 * GET /x
--- upstream_request b
2 * GET /x



=== TEST 2: a weight of zero gets none
--- upstream a
--- upstream b
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "upstream": {"type": "roundrobin", "nodes": {"$node_a": 0, "$node_b": 1}}}
--- request
4 * GET /x
--- upstream_request a: none



=== TEST 3: a hash keeps a client with one server
--- upstream a
--- upstream b
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "upstream": {"type": "chash", "hash_on": "header", "key": "X-Session", "nodes": {"$node_a": 1, "$node_b": 1}}}
--- request
6 * GET /x
--- more_headers
X-Session: one
--- response_body eval
[("b\n") x 6]



=== TEST 4: and another one perhaps with another
--- upstream a
--- upstream b
--- request
6 * GET /x
--- more_headers
X-Session: two
--- upstream_request a
6 * GET /x
--- upstream_request b: none



=== TEST 5: a server that refuses is passed over, and the client does not notice
--- upstream a
refuse: true
--- upstream b
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "upstream": {"type": "roundrobin", "nodes": {"$node_a": 1, "$node_b": 1}}}
--- request
4 * GET /x
--- response_body eval
[("b\n") x 4]
--- ignore_error_log



=== TEST 6: retries 0 is no retry
--- upstream a
refuse: true
--- upstream b
--- admin
PATCH /apisix/admin/routes/1
{"upstream": {"retries": 0}}
--- request
2 * GET /x
--- error_code_like eval
[qr/^(200|502)$/, qr/^(200|502)$/]
--- upstream_request b
GET /x
--- ignore_error_log



=== TEST 7: a status is no reason to ask another server
--- upstream a
status: 503
--- upstream b
status: 503
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "upstream": {"type": "roundrobin", "nodes": {"$node_a": 1, "$node_b": 1}}}
--- request
GET /x
--- error_code: 503
--- response_headers
X-APISIX-Upstream-Status: 503
--- response_body_like: ^[ab]$
--- ignore_error_log



=== TEST 8: a POST that was sent is not sent again
--- upstream a
status: none
--- upstream b
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "upstream": {"type": "roundrobin", "nodes": [
  {"host": "127.0.0.1", "port": 18001, "weight": 1, "priority": 1}, {"host": "127.0.0.1", "port": 18002, "weight": 1, "priority": 0}]}}
--- request
POST /x
body
--- error_code: 502
--- upstream_request a
POST /x
--- upstream_request b: none
--- ignore_error_log



=== TEST 9: a GET is
--- upstream a
status: none
--- upstream b
--- request
GET /x
--- response_body
b
--- upstream_request a
GET /x
--- ignore_error_log



=== TEST 10: servers of lower priority wait for those above
--- upstream a
--- upstream b
--- request
4 * GET /x
--- upstream_request b: none



=== TEST 11: and take over when they are gone
--- upstream a
--- upstream b
--- kill: upstream a before request 2
--- request
3 * GET /x
--- response_body lines array
a
b
b
--- ignore_error_log



=== TEST 12: no server left
--- upstream a
refuse: true
--- upstream b
refuse: true
--- request
GET /x
--- error_code: 502
--- response_headers
Content-Type: text/html; charset=utf-8
--- ignore_error_log



=== TEST 13: a silent server is given up in time
--- upstream a
delay_ms: 60000
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "upstream": {"type": "roundrobin", "retries": 0, "timeout": {"connect": 60, "send": 60, "read": 0.2}, "nodes": {"$node_a": 1}}}
--- request
GET /x
--- error_code: 504
--- upstream_request a
GET /x
(gone)
--- ignore_error_log



=== TEST 14: the timeout of the route is above that of its upstream
--- upstream a
delay_ms: 60000
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "timeout": {"connect": 60, "send": 60, "read": 0.2}, "upstream": {"type": "roundrobin", "retries": 0,
 "timeout": {"connect": 60, "send": 60, "read": 60}, "nodes": {"$node_a": 1}}}
--- request
GET /x
--- error_code: 504
--- ignore_error_log



=== TEST 15: the host is the client's, the node's, or another
--- upstream a
--- upstream b
--- upstream c
--- admin
PUT /apisix/admin/routes/1
{"uri": "/pass", "upstream": {"nodes": {"$node_a": 1}}}

PUT /apisix/admin/routes/2
{"uri": "/node", "upstream": {"pass_host": "node", "nodes": {"$node_b": 1}}}

PUT /apisix/admin/routes/3
{"uri": "/rewrite", "upstream": {"pass_host": "rewrite", "upstream_host": "other.com", "nodes": {"$node_c": 1}}}
--- request
GET /pass

GET /node

GET /rewrite
--- more_headers
Host: client.com:99
--- upstream_request a
GET /pass
Host: client.com:99
--- upstream_request b
GET /node
Host: $node_b
--- upstream_request c
GET /rewrite
Host: other.com



=== TEST 16: who asked, and for what
--- upstream a
--- request
GET /pass
--- more_headers
Host: client.com:99
X-Forwarded-For: 1.2.3.4
Upgrade: h2c
--- upstream_request a
GET /pass
X-Real-IP: 127.0.0.1
X-Forwarded-For: 1.2.3.4, 127.0.0.1
X-Forwarded-Proto: http
! Upgrade



=== TEST 17: the server's name is ours, and its answer its own
--- upstream a
status: 418
header: Server: tea
header: X-Mine: 1
header: Date: Mon, 01 Jan 2024 00:00:00 GMT

short and stout
--- request
GET /pass
--- error_code: 418
--- response_headers
Server: APISIX/3.18.0
X-Mine: 1
Date: Mon, 01 Jan 2024 00:00:00 GMT
--- response_body
short and stout



=== TEST 18: a server with TLS whose certificate is not asked for
--- upstream vault
tls: true
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "upstream": {"scheme": "https", "nodes": {"$node_vault": 1}}}
--- request
GET /x
--- response_body
vault
