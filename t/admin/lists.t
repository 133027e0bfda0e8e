Lists over the Admin API: order, filters, pages.

=== TEST 1: an empty list
--- request
GET /apisix/admin/routes
--- response_body
{"total":0,"list":[]}



=== TEST 2: in the order of keys, with both indexes
--- admin
PUT /apisix/admin/routes/b
{"uri": "/b", "name": "second", "labels": {"tier": "gold"}, "upstream": {"nodes": {"127.0.0.1:1980": 1}}}

PUT /apisix/admin/routes/a
{"uris": ["/a", "/aa"], "name": "first", "labels": {"team": "x"}, "upstream": {"nodes": {"127.0.0.1:1980": 1}}}
--- request
GET /apisix/admin/routes
--- response_body_like: ^\{"total":2,"list":\[.*"key":"/apisix/routes/a".*"key":"/apisix/routes/b".*\]\}$



=== TEST 3: by name, by label, by uri
--- request
GET /apisix/admin/routes?name=^sec

GET /apisix/admin/routes?label=team

GET /apisix/admin/routes?uri=a{2}

GET /apisix/admin/routes?name=first&label=tier
--- response_body_like eval
[qr{"total":1.*routes/b}, qr{"total":1.*routes/a}, qr{"total":1.*routes/a}, qr{"total":0}]



=== TEST 4: by the service that is used
--- admin
PUT /apisix/admin/services/s
{"upstream": {"nodes": {"127.0.0.1:1980": 1}}}

PUT /apisix/admin/routes/c
{"uri": "/c", "service_id": "s"}
--- request
GET /apisix/admin/routes?filter=service_id%3Ds
--- response_body_like: "total":1.*routes/c



=== TEST 5: pages have bounds
--- request
GET /apisix/admin/routes?page=1&page_size=9

GET /apisix/admin/routes?page=1&page_size=501
--- error_code: 400
--- response_body eval
[("page_size must be between 10 and 500") x 2]



=== TEST 6: a page is in the order of creation, and total counts all
--- request
GET /apisix/admin/routes?page=1&page_size=10

GET /apisix/admin/routes?page=2&page_size=10
--- response_body_like eval
[qr{"total":3.*routes/b.*routes/a.*routes/c}, qr/"total":3,"list":\[\]/]



=== TEST 7: with a trailing slash
--- request
GET /apisix/admin/routes/
--- response_body_like: "total":3



=== TEST 8: the credentials of a consumer without any are not found
--- admin
PUT /apisix/admin/consumers
{"username": "ann"}
--- request
GET /apisix/admin/consumers/ann/credentials
--- error_code: 404
--- response_body
{"message":"Key not found"}
