How paths are matched. Every route has an upstream that says its name.

=== TEST 1: an exact path beats a prefix of any priority
--- upstream exact
--- upstream prefix
--- admin
PUT /apisix/admin/routes/exact
{"uri": "/foo/bar", "upstream": {"nodes": {"$node_exact": 1}}}

PUT /apisix/admin/routes/prefix
{"uri": "/foo/*", "priority": 9, "upstream": {"nodes": {"$node_prefix": 1}}}
--- request
GET /foo/bar

GET /foo/bar/

GET /foo/

GET /foo
--- error_code: 200 200 200 404
--- response_body eval
["exact\n", "prefix\n", "prefix\n", qq({"error_msg":"404 Route Not Found"}\n)]



=== TEST 2: the longest prefix is tried first
--- upstream long
--- admin
PUT /apisix/admin/routes/long
{"uri": "/foo/long*", "upstream": {"nodes": {"$node_long": 1}}}
--- request
GET /foo/longest

GET /foo/lon
--- response_body lines array
long
prefix



=== TEST 3: of equal prefixes the higher priority comes first, and a condition that fails falls through
--- upstream high
--- admin
PUT /apisix/admin/routes/high
{"uri": "/foo/*", "priority": 10, "vars": [["arg_a", "==", "1"]], "upstream": {"nodes": {"$node_high": 1}}}
--- request
GET /foo/x?a=1

GET /foo/x?a=2
--- response_body lines array
high
prefix



=== TEST 4: a star in the middle
--- upstream middle
--- admin
PUT /apisix/admin/routes/middle
{"uri": "/m/*/end", "upstream": {"nodes": {"$node_middle": 1}}}
--- request
GET /m/a/end

GET /m/a/b/end

GET /m/a/ending
--- error_code: 200 200 404
--- response_body_like eval
[qr/^middle$/, qr/^middle$/, qr/Not Found/]



=== TEST 5: several paths of one route
--- upstream several
--- admin
PUT /apisix/admin/routes/several
{"uris": ["/one", "/two"], "upstream": {"nodes": {"$node_several": 1}}}
--- request
GET /one

GET /two
--- response_body lines array
several
several



=== TEST 6: paths are decoded and cleaned before they are matched, and sent on as they came
--- upstream exact
--- request
GET /foo/%62ar?q=%20

GET /foo/./x/../bar

GET /foo//bar
--- upstream_request exact
GET /foo/%62ar?q=%20

GET *

GET *



=== TEST 7: a route that is off is not there
--- admin
PATCH /apisix/admin/routes/several
{"status": 0}
--- request
GET /one
--- error_code: 404
--- response_headers
Content-Type: text/plain; charset=utf-8
--- response_body
{"error_msg":"404 Route Not Found"}



=== TEST 8: nor is a deleted one
--- admin
DELETE /apisix/admin/routes/exact
--- request
GET /foo/bar
--- response_body
prefix



=== TEST 9: a colon is a letter
--- upstream colon
--- admin
PUT /apisix/admin/routes/colon
{"uri": "/u/:id", "upstream": {"nodes": {"$node_colon": 1}}}
--- request
GET /u/:id

GET /u/7
--- error_code: 200 404



=== TEST 10: unless the router knows parameters
--- extra_yaml_config
apisix:
  router:
    http: radixtree_uri_with_parameter
--- request
GET /u/7

GET /u/7/8
--- error_code: 200 404
