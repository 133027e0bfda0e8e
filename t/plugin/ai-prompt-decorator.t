ai-prompt-decorator: what every request of a route says.

=== TEST 1: a chat gets messages at both ends, and everything else stays as it was
--- upstream a
--- admin
PUT /apisix/admin/routes/1
{"uri": "/*", "upstream": {"nodes": {"$node_a": 1}}, "plugins": {"ai-prompt-decorator": {
  "prepend": [{"role": "system", "content": "Be \"brief\"."}, {"role": "user", "content": "one"}],
  "append": [{"role": "user", "content": "last"}]}}}
--- request
POST /x
{"n":1.0, "messages": [ {"role":"user", "content":"hi"} ] ,"stream":false}
--- upstream_request a
POST /x

{"n":1.0, "messages": [{"content":"Be \"brief\".","role":"system"},{"content":"one","role":"user"}, {"role":"user", "content":"hi"} ,{"content":"last","role":"user"}] ,"stream":false}



=== TEST 2: an empty object becomes a chat, the second time as the first; what is none stays none
--- upstream a
--- request
POST /x
{}

POST /x
{}

POST /x
{"messages":null}
--- upstream_request a
POST /x

{"messages":[{"content":"Be \"brief\".","role":"system"},{"content":"one","role":"user"},{"content":"last","role":"user"}]}

POST /x

{"messages":[{"content":"Be \"brief\".","role":"system"},{"content":"one","role":"user"},{"content":"last","role":"user"}]}

POST /x

{"messages":null}



=== TEST 3: a response has instructions and an input
--- upstream a
--- request
POST /v1/responses
{"input":"hi", "instructions":"Rhyme."}

POST /v1/responses
{"input":[]}
--- upstream_request a
POST /v1/responses

{"input":"hi\nlast", "instructions":"Be \"brief\".\none\nRhyme."}

POST /v1/responses

{"input":[{"type":"message","role":"user","content":"last"}],"instructions":"Be \"brief\".\none"}



=== TEST 4: Bedrock has its system apart
--- upstream a
--- request
POST /model/m/converse
{"messages":[{"role":"user","content":[{"text":"hi"}]}]}
--- upstream_request a
POST /model/m/converse

{"messages":[{"role":"user","content":[{"text":"one"}]},{"role":"user","content":[{"text":"hi"}]},{"role":"user","content":[{"text":"last"}]}],"system":[{"text":"Be \"brief\"."}]}



=== TEST 5: embeddings and what is no prompt pass untouched
--- upstream a
--- request
POST /v1/embeddings
{"input": "hi"}

POST /x
{"order": 1}
--- upstream_request a
POST /v1/embeddings

{"input": "hi"}

POST /x

{"order": 1}



=== TEST 6: what cannot be added to
--- upstream a
--- request
POST /x

POST /x
[1

POST /x
{"messages":{"a":1}}

POST /x
{"messages":[],"messages":[]}
--- error_code: 400
--- response_body lines array
{"message":"could not get body: request body is empty"}
{"message":"could not parse JSON request body: Expected comma or array end but found T_END at character 3"}
{"message":"could not add messages: messages is not a list"}
{"message":"could not parse JSON request body: duplicate member \"messages\" at character 16"}
--- upstream_request a: none
