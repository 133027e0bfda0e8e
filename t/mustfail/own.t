The project's own sections. Of each pair, the right expectation is ok and the wrong one is
not.

=== right: admin
--- upstream a
--- admin
PUT /apisix/admin/routes/a
{"uri": "/a", "upstream": {"nodes": {"$node_a": 1}}}

PATCH /apisix/admin/routes/a
{"desc": "changed"}
--- request
GET /a
--- response_body
a



=== wrong: admin with a call that is refused
--- admin
PUT /apisix/admin/routes/b
{"uri": "/b", "upstream": {"nodes": {"$node_a": 1}}}

PUT /apisix/admin/routes/c
{"uri": 1}
--- request
GET /a



=== wrong: admin with a call that finds nothing
--- admin
DELETE /apisix/admin/routes/none
--- request
GET /a



=== wrong: section admin that is no call
--- admin
routes/1
--- request
GET /a



=== right: upstream
--- upstream a
status: 201
header: X-Kind: plain

Hello
then:
status: 500
--- request
2 * GET /a
--- error_code: 201 500
--- response_body lines array
Hello
a



=== wrong: error_code of an upstream's second answer
--- upstream a
then:
status: 500
--- request
2 * GET /a



=== wrong: error_code of an upstream that hangs up
--- upstream a
status: none
--- request
GET /a
--- ignore_error_log



=== wrong: section upstream with a setting that nobody knows
--- upstream a
stauts: 201
--- request
GET /a



=== wrong: section upstream with a fixture that is not there
--- upstream a
fixture: openai/none.json
--- request
GET /a



=== right: upstream_request
--- upstream a
--- request
POST /a?x=1
{"big": 12345678901234567890}
--- more_headers
X-Mine: kept
--- upstream_request a
POST /a?x=1
Host: localhost
X-Mine: kept
X-Mine ~ ^k
Content-Length: 29
! X-Other

{"big": 12345678901234567890}



=== wrong: upstream_request with another method
--- upstream a
--- request
GET /a
--- upstream_request a
POST /a



=== wrong: upstream_request with another target
--- upstream a
--- request
GET /a?x=1
--- upstream_request a
GET /a



=== wrong: upstream_request with another header
--- upstream a
--- request
GET /a
--- more_headers
X-Mine: kept
--- upstream_request a
GET /a
X-Mine: lost



=== wrong: upstream_request with a header that is like nothing
--- upstream a
--- request
GET /a
--- more_headers
X-Mine: kept
--- upstream_request a
GET /a
X-Mine ~ ^lost



=== wrong: upstream_request without a header that is there
--- upstream a
--- request
GET /a
--- upstream_request a
GET /a
! Host



=== wrong: upstream_request with a header that is absent
--- upstream a
--- request
GET /a
--- upstream_request a
GET /a
X-Mine:



=== wrong: upstream_request with another body
--- upstream a
--- request
POST /a
{"n": 1.0}
--- upstream_request a
POST /a

{"n": 1}



=== wrong: upstream_request with a body that is like nothing
--- upstream a
--- request
POST /a
{"n": 1.0}
--- upstream_request a
POST /a

~ "n": 2



=== wrong: upstream_request that did not come
--- upstream a
--- request
GET /a
--- upstream_request a
2 * GET /a



=== wrong: upstream_request that came and should not
--- upstream a
--- request
GET /a
--- upstream_request a: none



=== wrong: upstream_request that nobody left
--- upstream a
--- request
GET /a
--- upstream_request a
GET /a
(gone)



=== right: upstream_request that the client left
--- upstream a
delay_ms: 60000
--- request
GET /a
--- timeout: 3
--- abort
--- ignore_response
--- upstream_request a
GET /a
(gone)
--- ignore_error_log



=== wrong: upstream_request that the client left, and nobody says so
--- upstream a
delay_ms: 60000
--- request
GET /a
--- timeout: 100ms
--- abort
--- ignore_response
--- upstream_request a
GET /a
--- ignore_error_log



=== wrong: section upstream_request of an upstream that there is not
--- request
GET /a
--- upstream_request z
GET /a



=== right: stream
--- upstream a
gap_ms: 1

event: start
data: 1

data: 2
--- request
GET /a
--- stream
+60000ms event: start | data: 1
~ ^data: \d$



=== wrong: stream with another event
--- upstream a

data: 1

data: 2
--- request
GET /a
--- stream
data: 1
data: 3



=== wrong: stream with an event that is like nothing
--- upstream a

data: 1
--- request
GET /a
--- stream
~ ^data: [a-z]



=== wrong: stream with an event too many
--- upstream a

data: 1
--- request
GET /a
--- stream
data: 1
data: 2



=== wrong: stream with an event too few
--- upstream a

data: 1

data: 2
--- request
GET /a
--- stream
data: 1



=== wrong: stream with an event that comes too late
--- upstream a
delay_ms: 200

data: 1
--- request
GET /a
--- stream
+100ms data: 1



=== right: stream that breaks off
--- upstream a
cut_after_bytes: 11

data: 1

data: 2
--- request
GET /a
--- stream
data: 1
(cut)
--- ignore_error_log



=== wrong: stream that breaks off and should not
--- upstream a
cut_after_bytes: 9

data: 1

data: 2
--- request
GET /a
--- stream
data: 1
--- ignore_error_log



=== wrong: stream that does not break off
--- upstream a

data: 1
--- request
GET /a
--- stream
data: 1
(cut)



=== wrong: stream without an event
--- upstream a

data: 1
--- request
GET /a
--- stream



=== right: kill of an upstream
--- upstream a
--- kill: upstream a before request 2
--- request
2 * GET /a
--- error_code: 200 502
--- ignore_error_log



=== wrong: error_code of an upstream that was killed
--- upstream a
--- kill: upstream a
--- request
GET /a
--- ignore_error_log



=== wrong: section kill before a request that there is not
--- upstream a
--- kill: upstream a before request 2
--- request
GET /a



=== wrong: section kill of what there is not
--- kill: nginx
--- request
GET /a



=== right: kill of gosix, which comes back with what was stored
--- upstream a
--- kill: gosix
--- request
GET /a
--- ignore_error_log



=== wrong: response_body of a gateway that was killed
--- upstream a
--- kill: gosix
--- request
GET /a
--- response_body
b
--- ignore_error_log



=== right: kill of etcd, without which gosix goes on
--- upstream a
--- kill: etcd
--- request
GET /a
--- ignore_error_log



=== right: etcd is there again
--- admin
PATCH /apisix/admin/routes/a
{"desc": "changed again"}
--- request
GET /a
--- ignore_error_log



=== wrong: error_code of the Admin API without etcd
--- extra_yaml_config
deployment:
  etcd: {timeout: 1}
  admin: {admin_key: null}
--- kill: etcd
--- request
PUT /apisix/admin/routes/b
{"uri": "/b"}
--- error_code: 201
--- ignore_error_log



=== right: etcd
--- upstream a
--- etcd
/apisix/routes/raw {"uri": "/raw", "upstream": {"type": "roundrobin", "nodes": {"$node_a": 1}}}
--- request
GET /raw
--- response_body
a
--- ignore_error_log



=== wrong: error_code of an item that etcd lost
--- etcd
/apisix/routes/raw
--- request
GET /raw
--- ignore_error_log



=== wrong: section etcd without a key
--- etcd
routes
--- request
GET /raw
