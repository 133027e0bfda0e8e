Sections about logs. Of each pair, the right expectation is ok and the wrong one is not.

=== right: error_log
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "an apple, ", 3) ngx.say("ok") } }
--- request
GET /t
--- error_log
an apple, 3



=== wrong: error_log
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "an apple, ", 3) ngx.say("ok") } }
--- request
GET /t
--- error_log
a pear



=== wrong: error_log with a pattern too many
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "an apple, ", 3) ngx.say("ok") } }
--- request
GET /t
--- error_log eval
[qr/apple, \d/, "a pear"]



=== right: no_error_log
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "an apple") ngx.say("ok") } }
--- request
GET /t
--- no_error_log
a pear



=== wrong: no_error_log
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "an apple") ngx.say("ok") } }
--- request
GET /t
--- no_error_log
a pear
an apple



=== wrong: no_error_log that is there because nothing else is said
--- config
location /t { content_by_lua_block { ngx.log(ngx.ERR, "an apple") ngx.say("ok") } }
--- request
GET /t



=== right: grep_error_log
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "seed 1") ngx.log(ngx.WARN, "seed 2") ngx.say("ok") } }
--- request
GET /t
--- grep_error_log eval
qr/seed \d/
--- grep_error_log_out
seed 1
seed 2



=== right: grep_error_log_out as a pattern
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "seed 1") ngx.say("ok") } }
--- request
GET /t
--- grep_error_log eval
qr/seed \d/
--- grep_error_log_out eval
qr/^seed 1$/



=== wrong: grep_error_log_out
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "seed 1") ngx.log(ngx.WARN, "seed 2") ngx.say("ok") } }
--- request
GET /t
--- grep_error_log eval
qr/seed \d/
--- grep_error_log_out
seed 1



=== wrong: grep_error_log_out as a pattern
--- config
location /t { content_by_lua_block { ngx.log(ngx.WARN, "seed 1") ngx.say("ok") } }
--- request
GET /t
--- grep_error_log eval
qr/seed \d/
--- grep_error_log_out eval
qr/seed 2/



=== wrong: grep_error_log without grep_error_log_out
--- config
location /t { content_by_lua_block { ngx.say("ok") } }
--- request
GET /t
--- grep_error_log chop
seed



=== wrong: grep_error_log_out without grep_error_log
--- config
location /t { content_by_lua_block { ngx.say("ok") } }
--- request
GET /t
--- grep_error_log_out
seed



=== right: access_log
--- upstream a
--- admin
PUT /apisix/admin/routes/a
{"uri": "/a*", "upstream": {"nodes": {"$node_a": 1}}}
--- request
GET /a?pear
--- access_log
GET /a?pear HTTP/1.1



=== wrong: access_log
--- request
GET /a?pear
--- access_log
GET /a?plum



=== right: no_access_log
--- request
GET /a?pear
--- no_access_log
plum



=== wrong: no_access_log
--- request
GET /a?pear
--- access_log
pear
--- no_access_log
?pear
