Sections about how the gateway starts and ends. Of each pair, the right expectation is ok and
the wrong one is not.

=== right: must_die
--- yaml_config
apisix:
  node_lisen: 1
--- must_die
--- error_log
unknown key



=== wrong: must_die
--- must_die



=== wrong: must_die with another exit status
--- yaml_config
apisix:
  node_lisen: 1
--- must_die: 9



=== wrong: error_log of a gateway that does not start
--- yaml_config
apisix:
  node_lisen: 1
--- must_die
--- error_log
an apple



=== wrong: section must_die with one beside it that nobody could check
--- yaml_config
apisix:
  node_lisen: 1
--- must_die
--- upstream a
--- upstream_request a: none



=== right: shutdown_error_log
--- request
GET /nothing
--- error_code: 404
--- shutdown_error_log
gosix is ending



=== wrong: shutdown_error_log
--- request
GET /nothing
--- error_code: 404
--- shutdown_error_log
an apple



=== right: no_shutdown_error_log
--- request
GET /nothing
--- error_code: 404
--- no_shutdown_error_log
an apple



=== wrong: no_shutdown_error_log
--- request
GET /nothing
--- error_code: 404
--- no_shutdown_error_log
gosix is ending



=== right: exec
--- exec
echo apple
--- response_body
apple



=== wrong: response_body of exec
--- exec
echo apple
--- response_body
pear
