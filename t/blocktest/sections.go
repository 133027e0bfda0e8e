package blocktest

import (
	"fmt"
	"slices"
	"strings"
)

// A role says who looks at a section.
type role int

const (
	unknown role = iota // nobody: Test::Nginx ignores it too
	staged              // the World
	steers              // the run: what is sent, how long is waited, whether at all
	checked             // a check of this package
	missing             // Test::Nginx, but nobody here: its block is unsupported
)

// roles are the sections that Test::Nginx and the reference's t/APISIX.pm know.
var roles = func() map[string]role {
	all := map[string]role{}
	for r, names := range map[role]string{
		staged: `config http_config main_config post_main_config server_name user_files
			stream_config stream_server_config stream_server_config2 stream_server_config3
			stream_request stream_request2 stream_request3 log_stream_response
			steam_listen_option steam_listen_option2 steam_listen_option3
			stream_enable stream_conf_enable extra_stream_config stream_upstream_code
			stream_tls_request stream_sni stream_session_reuse stream_init_by_lua_block
			stream_extra_init_by_lua stream_extra_init_by_lua_start stream_extra_init_worker_by_lua
			yaml_config extra_yaml_config apisix_yaml apisix_json debug_config
			upstream_server_config lua_deps_path init_by_lua_block extra_init_by_lua
			extra_init_by_lua_start extra_init_worker_by_lua exec stdin max_size
			wait_etcd_sync custom_trusted_cert listen_ipv6`,
		steers: `ONLY SKIP LAST skip_nginx skip_nginx2 skip_openssl skip_eval skip_slave todo
			todo_nginx request request_eval raw_request raw_request_middle_delay
			pipelined_requests more_headers http2 no_http2 no_http3 no_check_leak no_mockeagain
			suppress_stderr timeout wait abort shutdown server_addr_for_client
			log_level ignore_response ignore_error_log`,
		checked: `error_code error_code_like response_headers response_headers_like
			raw_response_headers_like raw_response_headers_unlike response_body
			response_body_eval response_body_like response_body_unlike response_body_filters
			stream_response stream_response_like http09
			error_log no_error_log grep_error_log grep_error_log_out access_log no_access_log
			shutdown_error_log no_shutdown_error_log must_die`,
		missing: `stap stap_out stap_out_like stap_out_unlike tcp_listen tcp_query tcp_query_len
			tcp_query_auto_timeout tcp_reply tcp_reply_delay tcp_shutdown tcp_shutdown_delay
			tcp_no_close udp_listen udp_query udp_reply udp_reply_delay http3
			quic_max_idle_timeout curl curl_error curl_options curl_protocol charset init
			reload_fails write_resp_body_file response_body_json_sort error_log_file
			post_setup_server_root dgram_config dgram_server_config dgram_server_config2
			dgram_server_config3 dgram_request dgram_request2 dgram_request3 dgram_response
			dgram_response_like log_dgram_response`,
	} {
		for _, name := range strings.Fields(names) {
			all[name] = r
		}
	}
	return all
}()

// Staged returns the names of the sections that are the World's business.
func Staged() []string { return of(staged) }

// Checked returns the names of the sections that say what has to come out: the run compares
// each with what did.
func Checked() []string {
	return append(of(checked), "stream", "upstream_request", "admin")
}

func of(r role) (names []string) {
	for name, is := range roles {
		if is == r {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// sorted returns the sections of a block that nobody looks at, as Test::Nginx does not, and
// those that it does and nobody here.
func (s *sections) sorted(b *Block) (ignored, unoffered []string) {
	latest := map[string]*Section{}
	for _, sec := range b.Sections {
		if before := latest[sec.Name]; before != nil {
			ignored = append(ignored, fmt.Sprintf("%s of line %d, which line %d writes over", sec.Name, before.Line, sec.Line))
		}
		latest[sec.Name] = sec
		switch roles[sec.Name] {
		case unknown:
			if !s.asked[sec.Name] && !slices.Contains(ignored, sec.Name) {
				ignored = append(ignored, sec.Name)
			}
		case missing:
			unoffered = append(unoffered, sec.Name)
		}
	}
	for name := range s.values {
		if roles[name] == missing && s.has(name) && !slices.Contains(unoffered, name) {
			unoffered = append(unoffered, name)
		}
	}
	slices.Sort(unoffered)
	return ignored, unoffered
}

// unread names the sections of a block whose value would go unchecked, wholly or in part: one
// that its filters made nothing of is there and is not, and of several values everybody takes
// the first.
func (s *sections) unread(b *Block) (names []string) {
	told := map[string]bool{}
	for _, sec := range b.Sections {
		if roles[sec.Name] != checked && sec.Name != "request" && sec.Name != "stream" || told[sec.Name] {
			continue
		}
		told[sec.Name] = true
		switch n := max(s.counts[sec.Name], len(s.values[sec.Name])); {
		case n > 1:
			names = append(names, fmt.Sprintf("%s with %d values, of which the first counts", sec.Name, n))
		case s.counts[sec.Name] == 0, !s.has(sec.Name):
			names = append(names, sec.Name+" with an undefined value")
		}
	}
	return names
}

// ofEachResponse are the checks whose arrays have an element for each answer.
var ofEachResponse = []string{
	"error_code", "error_code_like", "response_headers", "response_headers_like",
	"raw_response_headers_like", "raw_response_headers_unlike", "response_body",
	"response_body_eval", "response_body_like", "response_body_unlike",
}

// ofResponse are the checks that ignore_response turns off.
var ofResponse = append([]string{
	"response_body_filters", "stream", "access_log", "no_access_log",
}, ofEachResponse...)

// ofServing are the checks that a gateway which does not serve leaves nothing for.
var ofServing = append([]string{"shutdown_error_log", "no_shutdown_error_log"}, ofResponse...)
