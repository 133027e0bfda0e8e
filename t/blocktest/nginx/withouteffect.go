package nginx

import "strings"

// silent are the directives whose effect no client of a test can see: sizes of buffers
// and tables, processes, DNS (the system's serves), search paths of Lua (package lua has
// its own), caches of TLS sessions, logs of nginx itself.
const silent = `
apisix_delay_client_max_body_check apisix_mirror_on_demand apisix_stream_metrics_zone
client_body_buffer_size client_body_in_file_only client_body_in_single_buffer
client_body_temp_path client_body_timeout client_header_buffer_size
client_header_timeout error_log fastcgi_temp_path gzip_buffers gzip_comp_level http3
keepalive_timeout large_client_header_buffers lingering_close lingering_timeout
log_not_found lua_capture_error_log lua_check_client_abort lua_code_cache
lua_error_log_request_id lua_max_pending_timers lua_max_running_timers lua_package_cpath
lua_package_path lua_regex_match_limit lua_socket_buffer_size lua_socket_connect_timeout
lua_socket_keepalive_timeout lua_socket_log_errors lua_socket_pool_size
lua_socket_read_timeout lua_socket_send_timeout lua_ssl_ciphers lua_ssl_protocols
lua_ssl_trusted_certificate lua_ssl_verify_depth output_buffers pid proxy_buffer_size
proxy_buffering proxy_buffers proxy_busy_buffers_size proxy_cache_path
proxy_headers_hash_bucket_size proxy_headers_hash_max_size proxy_max_temp_file_size
proxy_pass_header proxy_request_buffering proxy_socket_keepalive proxy_ssl_ciphers
proxy_ssl_protocols proxy_ssl_session_reuse proxy_temp_file_write_size proxy_temp_path
reset_timedout_connection resolver resolver_timeout scgi_temp_path send_timeout sendfile
server_names_hash_bucket_size server_names_hash_max_size server_tokens ssl_buffer_size
ssl_ciphers ssl_dhparam ssl_ecdh_curve ssl_prefer_server_ciphers ssl_session_cache
ssl_session_ticket_key ssl_session_tickets ssl_session_timeout ssl_verify_depth
tcp_nodelay tcp_nopush types_hash_bucket_size types_hash_max_size uwsgi_temp_path
variables_hash_bucket_size variables_hash_max_size wasm_vm zone
`

// silentMain are those of the outermost level.
const silentMain = `
daemon error_log load_module master_process pcre_jit pid thread_pool worker_cpu_affinity
worker_priority worker_processes worker_rlimit_core worker_rlimit_nofile
worker_shutdown_timeout
`

func withoutEffect() map[string]rule {
	nothing := func(*scope, *Directive) error { return nil }
	rules := map[string]rule{}
	for _, name := range strings.Fields(silent) {
		rules[name] = rule{inAnyHTTP | inUpstream | inStream | inStreamServer, 1, -1, statement, nothing}
	}
	for _, name := range strings.Fields(silentMain) {
		r := rules[name]
		rules[name] = rule{r.in | inMain, 1, -1, statement, nothing}
	}
	return rules
}
