Who may call the Admin API.

=== TEST 1: nobody without a key
--- yaml_config
deployment:
  admin:
    admin_key:
      - {name: admin, key: key-of-the-admin-000000000000001, role: admin}
      - {name: viewer, key: key-of-the-viewer-00000000000001, role: viewer}
--- request
GET /apisix/admin/routes
--- error_code: 401
--- response_body
{"error_msg":"failed to check token","description":"missing apikey"}



=== TEST 2: nobody with a wrong one
--- yaml_config
deployment:
  admin:
    admin_key:
      - {name: admin, key: key-of-the-admin-000000000000001, role: admin}
      - {name: viewer, key: key-of-the-viewer-00000000000001, role: viewer}
--- request
GET /apisix/admin/routes
--- more_headers
X-API-KEY: key-of-nobody
--- error_code: 401
--- response_body
{"error_msg":"failed to check token","description":"wrong apikey"}



=== TEST 3: a viewer reads and does not write
--- yaml_config
deployment:
  admin:
    admin_key:
      - {name: admin, key: key-of-the-admin-000000000000001, role: admin}
      - {name: viewer, key: key-of-the-viewer-00000000000001, role: viewer}
--- request
GET /apisix/admin/routes

PUT /apisix/admin/routes/1
{"uri": "/x", "upstream": {"nodes": {"127.0.0.1:1980": 1}}}
--- more_headers
X-API-KEY: key-of-the-viewer-00000000000001
--- error_code: 200 401
--- response_body lines array
{"total":0,"list":[]}
{"error_msg":"failed to check token","description":"invalid method for role viewer"}



=== TEST 4: an admin writes
--- yaml_config
deployment:
  admin:
    admin_key:
      - {name: admin, key: key-of-the-admin-000000000000001, role: admin}
      - {name: viewer, key: key-of-the-viewer-00000000000001, role: viewer}
--- admin
PUT /apisix/admin/routes/1
{"uri": "/x", "upstream": {"nodes": {"127.0.0.1:1980": 1}}}
--- request
GET /apisix/admin/routes/1
--- more_headers
X-API-KEY: key-of-the-admin-000000000000001
