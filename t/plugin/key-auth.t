key-auth: who is asking.

=== TEST 1: a key in the header names the consumer to the upstream
--- upstream a
--- admin
PUT /apisix/admin/consumers
{"username": "ann", "plugins": {"key-auth": {"key": "key-of-ann"}}}

PUT /apisix/admin/routes/1
{"uri": "/*", "plugins": {"key-auth": {}}, "upstream": {"nodes": {"$node_a": 1}}}
--- request
GET /x
--- more_headers
apikey: key-of-ann
--- upstream_request a
GET /x
X-Consumer-Username: ann
apikey: key-of-ann



=== TEST 2: a key in the query does, too
--- upstream a
--- request
GET /x?apikey=key-of-ann
--- upstream_request a
GET /x?apikey=key-of-ann
X-Consumer-Username: ann



=== TEST 3: without a key
--- upstream a
--- request
GET /x
--- error_code: 401
--- response_headers
WWW-Authenticate: apikey realm="key"
--- response_body
{"message":"Missing API key in request"}
--- upstream_request a: none



=== TEST 4: a key that belongs to nobody
--- upstream a
--- request
GET /x
--- more_headers
apikey: key-of-nobody
--- error_code: 401
--- response_body
{"message":"Invalid API key in request"}
--- upstream_request a: none
--- ignore_error_log



=== TEST 5: a client cannot say who it is
--- upstream a
--- request
GET /x
--- more_headers
apikey: key-of-ann
X-Consumer-Username: root
X_Consumer_Username: root
--- upstream_request a
GET /x
X-Consumer-Username: ann
! X_Consumer_Username



=== TEST 6: hidden credentials do not reach the upstream
--- upstream a
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "plugins": {"key-auth": {"hide_credentials": true}}, "upstream": {"nodes": {"$node_a": 1}}}
--- request
GET /x
--- more_headers
apikey: key-of-ann
--- upstream_request a
GET /x
! apikey
X-Consumer-Username: ann



=== TEST 7: nor those of the query
--- upstream a
--- request
GET /x?apikey=key-of-ann&y=1
--- upstream_request a
GET /x?y=1
X-Consumer-Username: ann



=== TEST 8: another header, another realm
--- upstream a
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "plugins": {"key-auth": {"header": "X-Token", "realm": "orders"}}, "upstream": {"nodes": {"$node_a": 1}}}
--- request eval
["GET /x", "GET /x"]
--- more_headers eval
["X-Token: key-of-ann", "apikey: key-of-ann"]
--- error_code eval
[200, 401]
--- response_headers_like eval
["Server: .*", 'WWW-Authenticate: apikey realm="orders"']



=== TEST 9: an anonymous consumer stands for everybody else
--- upstream a
--- admin
PUT /apisix/admin/consumers
{"username": "guest"}

PUT /apisix/admin/routes/1
{"uri": "/*", "plugins": {"key-auth": {"anonymous_consumer": "guest"}}, "upstream": {"nodes": {"$node_a": 1}}}
--- request
GET /x
--- upstream_request a
GET /x
X-Consumer-Username: guest
--- ignore_error_log



=== TEST 10: a credential is a key of its consumer
--- upstream a
--- admin
PUT /apisix/admin/consumers/ann/credentials/second
{"plugins": {"key-auth": {"key": "second-key-of-ann"}}}

PUT /apisix/admin/routes/1
{"uri": "/*", "plugins": {"key-auth": {}}, "upstream": {"nodes": {"$node_a": 1}}}
--- request
GET /x
--- more_headers
apikey: second-key-of-ann
--- upstream_request a
GET /x
X-Consumer-Username: ann
X-Credential-Identifier: second



=== TEST 11: a key that somebody else has is refused
--- request
PUT /apisix/admin/consumers
{"username": "bob", "plugins": {"key-auth": {"key": "key-of-ann"}}}
--- error_code: 400
--- response_body_like: duplicate key of plugin key-auth found with consumer: ann



=== TEST 12: a deleted consumer's key opens nothing
--- upstream a
--- admin
DELETE /apisix/admin/consumers/ann
--- request
GET /x
--- more_headers
apikey: key-of-ann
--- error_code: 401
--- upstream_request a: none
--- ignore_error_log



=== TEST 13: a consumer without a key is refused
--- request
PUT /apisix/admin/consumers
{"username": "bob", "plugins": {"key-auth": {}}}
--- error_code: 400
--- response_body_like: property \\"key\\" is required
