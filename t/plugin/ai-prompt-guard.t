ai-prompt-guard: what may be asked of a model.

=== TEST 1: the last message counts, if it is a user's
--- upstream a
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "upstream": {"nodes": {"$node_a": 1}}, "plugins": {"ai-prompt-guard": {"deny_patterns": ["(?i)bad"]}}}
--- request
POST /x
{"messages":[{"role":"user","content":"good"},{"role":"user","content":"so BAD"}]}

POST /x
{"messages":[{"role":"user","content":"bad"},{"role":"user","content":"good"}]}

POST /x
{"messages":[{"role":"user","content":"bad"},{"role":"system","content":"bad"}]}

POST /x
{"messages":[{"role":"user","content":[{"type":"text","text":"ba"},{"type":"text","text":"bad"}]}]}
--- error_code eval
[400, 200, 200, 400]
--- upstream_request a
POST /x

POST /x



=== TEST 2: a request without a message to judge goes on
--- upstream a
--- request
POST /x
{"messages":[]}

POST /x
{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"bad"}}]}]}
--- error_code: 200
--- upstream_request a
POST /x

POST /x



=== TEST 3: everybody, and all that was said
--- upstream a
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-prompt-guard": {"match_all_roles": true, "match_all_conversation_history": true}}}
--- request
POST /x
{"messages":[{"role":"assistant","content":"bad"},{"role":"user","content":"good"}]}

POST /v1/messages
{"system":[{"type":"text","text":"bad"}],"messages":[{"role":"user","content":"good"}]}

POST /model/m/converse
{"system":[{"text":"bad"}],"messages":[{"role":"user","content":[{"text":"good"}]}]}

POST /v1/responses
{"instructions":"bad","input":"good"}

POST /v1/responses
{"input":[{"content":[{"type":"input_text","text":"bad"}]}]}

POST /v1/embeddings
{"input":["good","bad"]}
--- error_code: 400
--- response_body lines array
{"message":"Request contains prohibited content"}
{"message":"Request contains prohibited content"}
{"message":"Request contains prohibited content"}
{"message":"Request contains prohibited content"}
{"message":"Request contains prohibited content"}
{"message":"Request contains prohibited content"}
--- upstream_request a: none



=== TEST 4: what is allowed comes first
--- upstream a
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-prompt-guard": {"allow_patterns": ["order", "^help"]}}}
--- request
POST /x
{"messages":[{"role":"user","content":"bad"}]}

POST /x
{"messages":[{"role":"user","content":"bad order"}]}

POST /x
{"messages":[{"role":"user","content":"my order"}]}
--- error_code eval
[400, 400, 200]
--- response_body lines array
{"message":"Request doesn't match allow patterns"}
{"message":"Request contains prohibited content"}
a
--- upstream_request a
POST /x



=== TEST 5: what is no prompt passes, with a line in the log
--- upstream a
--- log_level: info
--- request
POST /x
name=bad
--- error_log
ai-prompt-guard skipped: request body is not valid JSON
--- upstream_request a
POST /x



=== TEST 6: be it JSON or not
--- upstream a
--- log_level: info
--- request
POST /x
{"bad":1}
--- error_log
ai-prompt-guard skipped: request body does not match any supported AI protocol
--- upstream_request a
POST /x



=== TEST 7: unless it is not to pass
--- upstream a
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-prompt-guard": {"fail_mode": "error"}}}
--- request
POST /x
name=bad

POST /x
{"bad":1}

POST /x
--- error_code: 400
--- response_body lines array
{"message":"Expected value but found invalid token at character 1"}
{"message":"Request format not recognized by ai-prompt-guard"}
{"message":"Empty request body"}
--- upstream_request a: none



=== TEST 8: what another reader would take for JSON does not pass in any case
--- upstream a
--- admin
PATCH /apisix/admin/routes/1
{"plugins": {"ai-prompt-guard": {"fail_mode": "skip", "max_req_body_size": 100}}}
--- request
POST /x
{"messages":[{"role":"user","content":"help","content":"bad"}]}

POST /x
{"messages":[{"role":"user","content":"bad"}]} x

POST /x
{"messages":[{"role":"user","content":"0123456789012345678901234567890123456789012345678901234567890123456789"}]}
--- error_code: 400
--- response_body lines array
{"message":"duplicate member \"content\" at character 46"}
{"message":"Expected the end but found invalid token at character 48"}
{"message":"could not get body: request size 113 is greater than the maximum size 100 allowed"}
--- upstream_request a: none
