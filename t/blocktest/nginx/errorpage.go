package nginx

import (
	"errors"
	"fmt"
	"strings"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// reasons are nginx's words in the status line; where a page's title says something
// else, titles has it.
var reasons = map[int]string{
	101: "Switching Protocols",
	200: "OK", 201: "Created", 202: "Accepted", 204: "No Content", 206: "Partial Content",
	301: "Moved Permanently", 302: "Moved Temporarily", 303: "See Other",
	304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect",
	400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden",
	404: "Not Found", 405: "Not Allowed", 406: "Not Acceptable", 408: "Request Time-out",
	409: "Conflict", 410: "Gone", 411: "Length Required", 412: "Precondition Failed",
	413: "Request Entity Too Large", 414: "Request-URI Too Large",
	415: "Unsupported Media Type", 416: "Requested Range Not Satisfiable",
	421: "Misdirected Request", 429: "Too Many Requests",
	500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
	503: "Service Temporarily Unavailable", 504: "Gateway Time-out",
	505: "HTTP Version Not Supported", 507: "Insufficient Storage",
}

var titles = map[int]string{302: "Found", 401: "Authorization Required"}

// closes are the statuses after whose page nginx closes the connection.
var closes = map[int]bool{400: true, 413: true, 414: true, 500: true, 501: true}

// pageText is nginx's page for a status; "" when it has none.
func pageText(status int) string {
	title, ok := titles[status]
	if !ok {
		title, ok = reasons[status]
	}
	if !ok || status < 301 || status == 304 {
		return ""
	}
	title = fmt.Sprintf("%d %s", status, title)
	return htmlPage(title, title, "")
}

func htmlPage(title, heading, extra string) string {
	return "<html>\r\n<head><title>" + title + "</title></head>\r\n<body>\r\n<center><h1>" + heading +
		"</h1></center>\r\n" + extra + "<hr><center>" + software + "</center>\r\n</body>\r\n</html>\r\n"
}

// software is what answers say they come from.
const software = "openresty"

// page answers with the error page of a status: the location's error_page, or nginx's own.
func (r *request) page(status int) {
	if closes[status] {
		r.keepAlive = false
	}
	if p, ok := r.loc.settings.errorPages[status]; ok && r.failed == 0 {
		r.failed = status
		r.finish(r.errorPage(p, status))
		return
	}
	r.Status, r.answer.typed = status, false
	r.OutHeader = dropField(dropField(r.OutHeader, "Content-Type"), "Content-Length")
	text := pageText(status)
	if text != "" {
		r.OutHeader = append(r.OutHeader, lua.Field{Name: "Content-Type", Value: "text/html"})
	}
	if err := r.whole([]byte(text)); err != nil && !errors.Is(err, errAnswered) {
		r.keepAlive = false
	}
}

// errorPage goes to the page's URI, named location or URL.
func (r *request) errorPage(p errorPage, status int) error {
	to := p.to.expand(r)
	switch p.status {
	case -1:
		r.answer.forced = status
	case 0:
	default:
		r.answer.forced = p.status
	}
	if strings.HasPrefix(to, "@") || strings.HasPrefix(to, "/") {
		uri, args, _ := strings.Cut(to, "?")
		if uri[0] == '/' && r.Method != "HEAD" {
			r.Method = "GET"
		}
		return r.jump(uri, args)
	}
	r.answer.forced = 0
	return r.redirect(302, to)
}
