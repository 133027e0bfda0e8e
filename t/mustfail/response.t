Sections about answers. Of each pair, the right expectation is ok and the wrong one is not.

=== setup
--- upstream a
header: X-Kind: plain
header: X-Twice: one
header: X-Twice: two
header: Content-Type: text/plain

Hello, you
--- upstream b
status: 404
--- admin
PUT /apisix/admin/routes/a
{"uri": "/a*", "upstream": {"nodes": {"$node_a": 1}}}

PUT /apisix/admin/routes/b
{"uri": "/b", "upstream": {"nodes": {"$node_b": 1}}}
--- request
GET /a



=== right: error_code
--- request
GET /b
--- error_code: 404



=== wrong: error_code
--- request
GET /a
--- error_code: 404



=== wrong: error_code that is 200 because nothing else is said
--- request
GET /b



=== right: error_code of each request
--- request
GET /a

2 * GET /b
--- error_code: 200 404 404



=== wrong: error_code of one of several requests
--- request
GET /a

2 * GET /b
--- error_code: 200 404 200



=== wrong: error_code with a status too few
--- request
3 * GET /a
--- error_code: 200 200



=== wrong: error_code with a status too many
--- request
2 * GET /a
--- error_code: 200 200 200



=== right: error_code_like
--- request
GET /b
--- error_code_like: ^4\d\d$



=== wrong: error_code_like
--- request
GET /a
--- error_code_like: ^4\d\d$



=== right: response_headers
--- request
GET /a
--- response_headers
X-Kind: plain
X-Twice: one, two
! X-Other



=== wrong: response_headers with another value
--- request
GET /a
--- response_headers
X-Kind: plane



=== wrong: response_headers with one that is absent
--- request
GET /a
--- response_headers
X-Other: x



=== wrong: response_headers without one that is there
--- request
GET /a
--- response_headers
! X-Kind



=== right: response_headers_like
--- request
GET /a
--- response_headers_like
X-Kind: pl.*



=== wrong: response_headers_like
--- request
GET /a
--- response_headers_like
X-Kind: l.*



=== right: raw_response_headers_like
--- request
GET /a
--- raw_response_headers_like: X-Twice: one\r\n



=== wrong: raw_response_headers_like
--- request
GET /a
--- raw_response_headers_like: X-Twice: one, two



=== right: raw_response_headers_unlike
--- request
GET /a
--- raw_response_headers_unlike: X-Thrice



=== wrong: raw_response_headers_unlike
--- request
GET /a
--- raw_response_headers_unlike: X-Twice



=== right: response_body
--- request
GET /a
--- response_body
Hello, you



=== wrong: response_body
--- request
GET /a
--- response_body
Hello, me



=== wrong: response_body but for its last newline
--- request
GET /a
--- response_body chomp
Hello, you



=== right: response_body eval
--- request
GET /a
--- response_body eval
"Hel" . ("l" x 1) . sprintf("o, %s\n", "you")



=== wrong: response_body eval
--- request
GET /a
--- response_body eval
"Hel" . ("l" x 2) . "o, you\n"



=== right: response_body as a pattern
--- request
GET /a
--- response_body eval
qr/hello, y/i



=== wrong: response_body as a pattern
--- request
GET /a
--- response_body eval
qr/hello, y/



=== right: response_body of each request
--- request
2 * GET /a
--- response_body lines array
Hello, you
Hello, you



=== wrong: response_body of one of several requests
--- request
2 * GET /a
--- response_body lines array
Hello, you
Hello, me



=== wrong: response_body for several requests that is one
--- request
2 * GET /a
--- response_body
Hello, you



=== wrong: response_body for more requests than there are
--- request
GET /a
--- response_body lines array
Hello, you
Hello, you



=== right: response_body_eval
--- request
GET /a
--- response_body_eval
"Hello, you\n"



=== wrong: response_body_eval
--- request
GET /a
--- response_body_eval
"Hello, you"



=== right: response_body_like
--- request
GET /a
--- response_body_like: ^Hello, .ou$



=== wrong: response_body_like
--- request
GET /a
--- response_body_like: ^ello



=== right: response_body_unlike
--- request
GET /a
--- response_body_unlike: goodbye



=== wrong: response_body_unlike
--- request
GET /a
--- response_body_unlike: Hello



=== right: response_body_filters
--- request
GET /a
--- response_body_filters chomp
lc
--- response_body
hello, you



=== wrong: response_body behind a filter
--- request
GET /a
--- response_body_filters chomp
uc
--- response_body
hello, you



=== wrong: response_body_filters that nobody knows
--- request
GET /a
--- response_body_filters chomp
rot13
--- response_body
Hello, you



=== right: http09
--- raw_request eval
"GET /a HTTP/1.0\r\n\r\n"
--- http09
--- response_body_like: ^HTTP/1.[01] 200



=== wrong: http09
--- raw_request eval
"GET /a HTTP/1.0\r\n\r\n"
--- http09
--- response_body_like: ^HTTP/1.[01] 400



=== right: pipelined_requests
--- pipelined_requests eval
["GET /a", "GET /b", "GET /a"]
--- error_code eval
[200, 404, 200]
--- response_body eval
["Hello, you\n", "b\n", qr/you/]



=== wrong: response_body of pipelined_requests
--- pipelined_requests eval
["GET /a", "GET /b", "GET /a"]
--- error_code eval
[200, 404, 200]
--- response_body eval
["Hello, you\n", "b\n", qr/me/]



=== right: request eval with as many expectations
--- request eval
["GET /a", "GET /b"]
--- error_code eval
[200, 404]
--- response_headers_like eval
["X-Kind: plain", "Server: .*"]



=== wrong: response_headers_like of a request eval, with a header that the second answer has not
--- request eval
["GET /a", "GET /b"]
--- error_code eval
[200, 404]
--- response_headers_like eval
["X-Kind: plain", "X-Kind: plain"]
