package t

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// outcome is what becomes of a request that is followed by last.
type outcome int

const (
	refused outcome = iota // it is refused, the connection ends, the provider sees nothing
	served                 // the provider takes exactly this, and what follows is served as well
	first                  // it is served, what is behind it is refused, and the connection ends
	sound                  // either, as long as nothing is smuggled
)

type wireCase struct {
	name string
	text string // TAG stands for the line with the tag
	want outcome
	body string // that the provider parses, where it is served
	also int    // a further status that refuses
}

const (
	wireGet  = "GET /wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG"
	wirePost = "POST /wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG"
	smuggled = "GET /smuggled HTTP/1.1\r\nHost: wire.test\r\n\r\n"
	chunked  = "Transfer-Encoding: chunked\r\n"
	oneChunk = "5\r\nhello\r\n0\r\n\r\n"
)

func many(n int, line string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, line, i)
	}
	return b.String()
}

var wireCases = []wireCase{
	// Two framings.
	{"an encoding and a length are refused", wirePost + chunked + "Content-Length: 4\r\n\r\n" + oneChunk, refused, "", 0},
	{"a length and an encoding are refused", wirePost + "Content-Length: 15\r\n" + chunked + "\r\n" + oneChunk, refused, "", 0},
	{"an encoding that ends before the length hides no request", wirePost + fmt.Sprintf("Content-Length: %d\r\n", 5+len(smuggled)) + chunked + "\r\n0\r\n\r\n" + smuggled, refused, "", 0},
	{"a length that ends before the encoding hides no request", wirePost + "Content-Length: 4\r\n" + chunked + "\r\n" + fmt.Sprintf("%x\r\n", len(smuggled)) + smuggled + "\r\n0\r\n\r\n", refused, "", 0},
	{"an encoding and a length of zero are refused", wirePost + "Content-Length: 0\r\n" + chunked + "\r\n0\r\n\r\n", refused, "", 0},
	{"an encoding and a length far apart are refused", wirePost + "Content-Length: 5\r\n" + many(50, "X-%d: a\r\n") + chunked + "\r\n" + oneChunk, refused, "", 0},

	// Lengths.
	{"two equal lengths are refused", wirePost + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", refused, "", 0},
	{"two equal lengths in other cases are refused", wirePost + "Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello", refused, "", 0},
	{"two different lengths are refused", wirePost + "Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello", refused, "", 0},
	{"a list of equal lengths is refused", wirePost + "Content-Length: 5, 5\r\n\r\nhello", refused, "", 0},
	{"a list of lengths is refused", wirePost + "Content-Length: 5,6\r\n\r\nhello", refused, "", 0},
	{"a length with a plus is refused", wirePost + "Content-Length: +5\r\n\r\nhello", refused, "", 0},
	{"a length with a minus is refused", wirePost + "Content-Length: -5\r\n\r\nhello", refused, "", 0},
	{"a length with a space in it is refused", wirePost + "Content-Length: 5 0\r\n\r\nhello", refused, "", 0},
	{"a length between spaces is one", wirePost + "Content-Length: \t 5 \t\r\n\r\nhello", served, "hello", 0},
	{"a length in hexadecimal is refused", wirePost + "Content-Length: 0x5\r\n\r\nhello", refused, "", 0},
	{"a length with a fraction is refused", wirePost + "Content-Length: 5.0\r\n\r\nhello", refused, "", 0},
	{"an empty length is refused", wirePost + "Content-Length:\r\n\r\n", refused, "", 0},
	{"a length of no number is refused", wirePost + "Content-Length: five\r\n\r\nhello", refused, "", 0},
	{"a length above 64 bits is refused", wirePost + "Content-Length: 18446744073709551621\r\n\r\nhello", refused, "", 0},
	{"a length above 63 bits is refused", wirePost + "Content-Length: 9223372036854775813\r\n\r\nhello", refused, "", 0},
	{"a length with leading zeros is the same number", wirePost + "Content-Length: 0000000005\r\n\r\nhello", sound, "hello", 0},
	{"a length behind a vertical tab is refused", wirePost + "Content-Length: \v5\r\n\r\nhello", refused, "", 0},
	{"a length in quotes is refused", wirePost + "Content-Length: \"5\"\r\n\r\nhello", refused, "", 0},

	// Encodings.
	{"chunks are a body", wirePost + chunked + "\r\n" + oneChunk, served, "hello", 0},
	{"chunks are a body in any case of the word", wirePost + "transfer-ENCODING: Chunked\r\n\r\n" + oneChunk, sound, "hello", 0},
	{"a tab before chunked is a space", wirePost + "Transfer-Encoding:\tchunked\r\n\r\n" + oneChunk, sound, "hello", 0},
	{"a vertical tab before chunked is refused", wirePost + "Transfer-Encoding: \vchunked\r\n\r\n" + oneChunk, refused, "", 0},
	{"identity is refused", wirePost + "Transfer-Encoding: identity\r\nX-A: b\r\n\r\n", refused, "", 0},
	{"identity beside a length is refused", wirePost + "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello", refused, "", 0},
	{"chunked twice in two lines is refused", wirePost + chunked + chunked + "\r\n" + oneChunk, refused, "", 0},
	{"chunked twice in one line is refused", wirePost + "Transfer-Encoding: chunked, chunked\r\n\r\n" + oneChunk, refused, "", 0},
	{"chunked before identity is refused", wirePost + "Transfer-Encoding: chunked, identity\r\n\r\n" + oneChunk, refused, "", 0},
	{"identity before chunked is refused", wirePost + "Transfer-Encoding: identity, chunked\r\n\r\n" + oneChunk, refused, "", 0},
	{"gzip before chunked is refused", wirePost + "Transfer-Encoding: gzip, chunked\r\n\r\n" + oneChunk, refused, "", 0},
	{"xchunked is refused", wirePost + "Transfer-Encoding: xchunked\r\n\r\n" + oneChunk, refused, "", 0},
	{"chunked in quotes is refused", wirePost + "Transfer-Encoding: \"chunked\"\r\n\r\n" + oneChunk, refused, "", 0},
	{"chunked with a parameter is refused", wirePost + "Transfer-Encoding: chunked;q=1\r\n\r\n" + oneChunk, refused, "", 0},
	{"an empty encoding is refused", wirePost + "Transfer-Encoding:\r\n\r\n", refused, "", 0},
	{"an empty encoding beside a length is refused", wirePost + "Transfer-Encoding: \r\nContent-Length: 5\r\n\r\nhello", refused, "", 0},
	{"an encoding in a request of HTTP/1.0 is refused", "POST /wire/x HTTP/1.0\r\nHost: wire.test\r\nTAG" + chunked + "\r\n" + oneChunk, refused, "", 0},
	{"an encoding and a length in a request of HTTP/1.0 are refused", "POST /wire/x HTTP/1.0\r\nHost: wire.test\r\nConnection: keep-alive\r\nTAG" + chunked + "Content-Length: 15\r\n\r\n" + oneChunk, refused, "", 0},
	{"a space before the colon of an encoding is refused", wirePost + "Transfer-Encoding : chunked\r\n\r\n" + oneChunk, refused, "", 0},
	{"an encoding in a folded line is refused", wirePost + "Transfer-Encoding:\r\n chunked\r\n\r\n" + oneChunk, refused, "", 0},
	{"an encoding behind a bare CR is refused", wirePost + "X-A: b\rTransfer-Encoding: chunked\r\n\r\n" + oneChunk, refused, "", 0},
	{"an encoding behind a bare LF is refused", wirePost + "X-A: b\nTransfer-Encoding: chunked\r\n\r\n" + oneChunk, refused, "", 0},
	{"an encoding with an underscore frames nothing", wirePost + "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello", served, "hello", 0},
	{"a length with an underscore frames nothing", wirePost + "Content_Length: 50\r\nContent-Length: 5\r\n\r\nhello", served, "hello", 0},
	{"an encoding named by Connection frames all the same", wirePost + "Connection: Transfer-Encoding\r\n" + chunked + "\r\n" + oneChunk, served, "hello", 0},
	{"a length named by Connection frames all the same", wirePost + "Connection: Content-Length\r\nContent-Length: 5\r\n\r\nhello", served, "hello", 0},

	// Lines.
	{"a bare LF behind the request line is refused", "GET /wire/x HTTP/1.1\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"a bare LF behind a field is refused", wireGet + "X-A: b\nX-B: c\r\n\r\n", refused, "", 0},
	{"a head that a bare LF ends is refused", wireGet + "\n", refused, "", 0},
	{"a head of bare LFs is refused", "GET /wire/x HTTP/1.1\nHost: wire.test\nTAG\n", refused, "", 0},
	{"a bare CR in a value is refused", wireGet + "X-A: b\rc\r\n\r\n", refused, "", 0},
	{"a bare CR as the end of a line is refused", wireGet + "X-A: b\rX-B: c\r\n\r\n", refused, "", 0},
	{"two CRs before an LF are refused", wireGet + "X-A: b\r\r\n\r\n", refused, "", 0},
	{"a bare CR in the request line is refused", "GET /wire/x\r HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"a folded line is refused", wireGet + "X-A: b\r\n c\r\n\r\n", refused, "", 0},
	{"a line folded by a tab is refused", wireGet + "X-A: b\r\n\tc\r\n\r\n", refused, "", 0},
	{"a folded line of spaces is refused", wireGet + "X-A: b\r\n  \r\n\r\n", refused, "", 0},
	{"a folded host is refused", "GET /wire/x HTTP/1.1\r\nHost:\r\n wire.test\r\nTAG\r\n", refused, "", 0},
	{"a folded first line is refused", "GET /wire/x HTTP/1.1\r\n Host: wire.test\r\nTAG\r\n", refused, "", 0},
	{"a space before the colon is refused", wireGet + "X-A : b\r\n\r\n", refused, "", 0},
	{"a tab before the colon is refused", wireGet + "X-A\t: b\r\n\r\n", refused, "", 0},
	{"a space in a name is refused", wireGet + "X A: b\r\n\r\n", refused, "", 0},
	{"a line without a colon is refused", wireGet + "X-A\r\n\r\n", refused, "", 0},
	{"an empty name is refused", wireGet + ": b\r\n\r\n", refused, "", 0},
	{"a NUL in a value is refused", wireGet + "X-A: b\x00c\r\n\r\n", refused, "", 0},
	{"a NUL in a name is refused", wireGet + "X-\x00A: b\r\n\r\n", refused, "", 0},
	{"a control character in a value is refused", wireGet + "X-A: b\x01c\r\n\r\n", refused, "", 0},
	{"a DEL in a value is refused", wireGet + "X-A: b\x7fc\r\n\r\n", refused, "", 0},
	{"a name with a bracket is refused", wireGet + "X(A): b\r\n\r\n", refused, "", 0},
	{"a name with a high byte is refused", wireGet + "X-\xe9: b\r\n\r\n", refused, "", 0},
	{"a name in quotes is refused", wireGet + "\"X-A\": b\r\n\r\n", refused, "", 0},
	{"a value with high bytes passes", wireGet + "X-A: \xe9\xff\r\n\r\n", served, "", 0},
	{"an empty value passes", wireGet + "X-A:\r\n\r\n", served, "", 0},
	{"a name with underscores passes", wireGet + "X_Some_Name: b\r\n\r\n", served, "", 0},
	{"an identity header with underscores does not pass", wireGet + "X_Consumer_Username: canary\r\nX_CREDENTIAL_IDENTIFIER: canary\r\n\r\n", served, "", 0},
	{"headers of the connection do not pass", wireGet + "Connection: x-one, keep-alive\r\nConnection: X-Two\r\nX-One: canary\r\nX-Two: canary\r\nKeep-Alive: canary\r\nProxy-Connection: canary\r\nTE: canary\r\nTrailer: canary\r\nProxy-Authorization: canary\r\nProxy-Authenticate: canary\r\n\r\n", served, "", 0},
	{"a websocket where none is served is a request", wireGet + "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", served, "", 0},

	// Request lines.
	{"two spaces before the target are refused", "GET  /wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"two spaces before the version are refused", "GET /wire/x  HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"a space behind the version is refused", "GET /wire/x HTTP/1.1 \r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"a leading space is refused", " GET /wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"a space in the target is refused", "GET /wire/x y HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"tabs in the request line are refused", "GET\t/wire/x\tHTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"a NUL in the target is refused", "GET /wire/x\x00 HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"high bytes in the target do not pass raw and frame nothing", "GET /wire/\xe9 HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", sound, "", 0},
	{"a fragment in the target is refused", "GET /wire/x#y HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"a request without a version is refused", "GET /wire/x\r\nHost: wire.test\r\nTAG\r\n", refused, "", 505},
	{"a request of HTTP/0.9 is refused", "GET /wire/x\r\n\r\n", refused, "", 505},
	{"a version in lower case is refused", "GET /wire/x http/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 505},
	{"HTTP/1.2 is HTTP/1.1 or refused", "GET /wire/x HTTP/1.2\r\nHost: wire.test\r\nTAG\r\n", sound, "", 505},
	{"HTTP/1.10 is refused", "GET /wire/x HTTP/1.10\r\nHost: wire.test\r\nTAG\r\n", refused, "", 505},
	{"HTTP/2.0 in words is refused", "GET /wire/x HTTP/2.0\r\nHost: wire.test\r\nTAG\r\n", refused, "", 505},
	{"HTTP/3.0 is refused", "GET /wire/x HTTP/3.0\r\nHost: wire.test\r\nTAG\r\n", refused, "", 505},
	{"HTTP/01.1 is refused", "GET /wire/x HTTP/01.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 505},
	{"another protocol is refused", "GET /wire/x HTTPS/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 505},
	{"a method of no token is refused", "GE(T /wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"a method in lower case is another method", "get /wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", sound, "", 0},
	{"an unknown method passes as it is", "BREW /wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", sound, "", 0},
	{"a target of no form is refused", "GET wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"an empty target is refused", "GET  HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"CRLFs before the first request frame nothing", "\r\n\r\n" + wireGet + "\r\n", sound, "", 0},
	{"CRLFs behind a body frame nothing", wirePost + "Content-Length: 5\r\n\r\nhello\r\n", sound, "hello", 0},
	{"a long target is refused", "GET /wire/" + strings.Repeat("x", 9000) + " HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"a very long target is refused", "GET /wire/" + strings.Repeat("x", 100_000) + " HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},

	// Methods that make something else of a connection.
	{"CONNECT is refused", "CONNECT wire.test:443 HTTP/1.1\r\nHost: wire.test:443\r\nTAG\r\n", refused, "", 0},
	{"CONNECT to a path is refused", "CONNECT /wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"CONNECT with a body is refused", "CONNECT wire.test:443 HTTP/1.1\r\nHost: wire.test:443\r\nTAGContent-Length: 5\r\n\r\nhello", refused, "", 0},
	{"TRACE is refused", "TRACE /wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"TRACE with Max-Forwards is refused", "TRACE /wire/x HTTP/1.1\r\nHost: wire.test\r\nTAGMax-Forwards: 0\r\n\r\n", refused, "", 0},
	{"the preface of HTTP/2 behind a request is refused", wireGet + "\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", first, "", 505},
	{"a beginning of the preface is refused", "PRI * HTTP/2.0\r\nHost: wire.test\r\nTAG\r\n", refused, "", 505},
	{"PRI of HTTP/1.1 is refused", "PRI * HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},

	{"an upgrade to h2c is not made", wireGet + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", served, "", 0},
	{"an upgrade to h2c among others is not made", wireGet + "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n\r\n", served, "", 0},
	{"an upgrade to h2c with a body is not made", wirePost + "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello", served, "hello", 0},
	{"h2c that Connection does not name is a header", wireGet + "Upgrade: h2c\r\n\r\n", served, "", 0},

	// Hosts.
	{"no host is refused", "GET /wire/x HTTP/1.1\r\nTAG\r\n", refused, "", 0},
	{"an empty host is none", "GET /wire/x HTTP/1.1\r\nHost:\r\nTAG\r\n", sound, "", 0},
	{"a request of HTTP/1.0 needs no host", "GET /wire/x HTTP/1.0\r\nTAG\r\n", sound, "", 0},
	{"a request of HTTP/1.0 may keep its connection", "POST /wire/x HTTP/1.0\r\nHost: wire.test\r\nConnection: keep-alive\r\nContent-Length: 5\r\nTAG\r\nhello", served, "hello", 0},
	{"two hosts are refused", wireGet + "Host: other.test\r\n\r\n", refused, "", 0},
	{"two equal hosts are refused", wireGet + "Host: wire.test\r\n\r\n", refused, "", 0},
	{"a host with a slash is refused", "GET /wire/x HTTP/1.1\r\nHost: wire.test/x\r\nTAG\r\n", refused, "", 0},
	{"a host with a user is refused", "GET /wire/x HTTP/1.1\r\nHost: a@wire.test\r\nTAG\r\n", refused, "", 0},
	{"a host with a space is refused", "GET /wire/x HTTP/1.1\r\nHost: wire.test other.test\r\nTAG\r\n", refused, "", 0},
	{"a list of hosts is refused", "GET /wire/x HTTP/1.1\r\nHost: wire.test, other.test\r\nTAG\r\n", refused, "", 0},
	{"a host with a high byte is refused", "GET /wire/x HTTP/1.1\r\nHost: wire\xe9.test\r\nTAG\r\n", refused, "", 0},
	{"an absolute form of the same host passes", "GET http://wire.test/wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", served, "", 0},
	{"an absolute form of another host is refused", "GET http://other.test/wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"an absolute form of another port is refused", "GET http://wire.test:81/wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"an absolute form with a user is refused", "GET http://a@wire.test/wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},
	{"an absolute form without a host is refused", "GET http:///wire/x HTTP/1.1\r\nHost: wire.test\r\nTAG\r\n", refused, "", 0},

	// Sizes.
	{"100 fields pass", wireGet + many(98, "X-%d: a\r\n") + "\r\n", served, "", 0},
	{"101 fields and more are refused", wireGet + many(150, "X-%d: a\r\n") + "\r\n", refused, "", 0},
	{"a field above the limit is refused", wireGet + "X-A: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", refused, "", 0},
	{"a name above the limit is refused", wireGet + strings.Repeat("a", 64<<10) + ": b\r\n\r\n", refused, "", 0},
	{"fields above the limit together are refused", wireGet + many(90, "X-%d: "+strings.Repeat("a", 1000)+"\r\n") + "\r\n", refused, "", 0},

	// Chunks.
	{"a size in upper case is one", wirePost + chunked + "\r\nA\r\n0123456789\r\n0\r\n\r\n", served, "0123456789", 0},
	{"a size with leading zeros is one", wirePost + chunked + "\r\n0005\r\nhello\r\n0\r\n\r\n", sound, "hello", 0},
	{"a size of 17 digits is refused", wirePost + chunked + "\r\n10000000000000005\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a size above 63 bits is refused", wirePost + chunked + "\r\n8000000000000005\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a size with a minus is refused", wirePost + chunked + "\r\n-5\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a size with a plus is refused", wirePost + chunked + "\r\n+5\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a size with 0x is refused", wirePost + chunked + "\r\n0x5\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a size with an underscore is refused", wirePost + chunked + "\r\n0_5\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a size behind a space is refused", wirePost + chunked + "\r\n 5\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"an empty size is refused", wirePost + chunked + "\r\n\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a size of no number is refused", wirePost + chunked + "\r\nxyz\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a size that a bare LF ends is refused", wirePost + chunked + "\r\n5\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a size that a bare CR ends is refused", wirePost + chunked + "\r\n5\rhello\r\n0\r\n\r\n", refused, "", 0},
	{"a chunk that a bare LF ends is refused", wirePost + chunked + "\r\n5\r\nhello\n0\r\n\r\n", refused, "", 0},
	{"a chunk without an end is refused", wirePost + chunked + "\r\n5\r\nhello0\r\n\r\n", refused, "", 0},
	{"a chunk that is longer than its size is refused", wirePost + chunked + "\r\n3\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a chunk that is shorter than its size is refused", wirePost + chunked + "\r\n7\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"an extension does not pass", wirePost + chunked + "\r\n5;canary=1\r\nhello\r\n0;canary\r\n\r\n", sound, "hello", 0},
	{"an extension with a bare LF is refused", wirePost + chunked + "\r\n5;a\n0\r\n\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"an extension with a bare CR is refused", wirePost + chunked + "\r\n5;a\rb\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"an extension without an end is refused", wirePost + chunked + "\r\n5;" + strings.Repeat("a", 100_000) + "\r\nhello\r\n0\r\n\r\n", refused, "", 0},
	{"a trailer does not pass", wirePost + "Trailer: X-Late\r\n" + chunked + "\r\n5\r\nhello\r\n0\r\nX-Late: canary\r\n\r\n", sound, "hello", 0},
	{"an identity in a trailer does not pass", wirePost + chunked + "\r\n5\r\nhello\r\n0\r\nX-Consumer-Username: canary\r\nAuthorization: canary\r\n\r\n", sound, "hello", 0},
	{"a length in a trailer frames nothing", wirePost + chunked + "\r\n5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n", sound, "hello", 0},
	{"an encoding in a trailer frames nothing", wirePost + chunked + "\r\n5\r\nhello\r\n0\r\n" + chunked + "\r\n", sound, "hello", 0},
	{"a trailer that is no field is refused", wirePost + chunked + "\r\n5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", refused, "", 0},
	{"a last chunk that a bare LF ends hides no request", wirePost + chunked + "\r\n5\r\nhello\r\n0\n\n" + smuggled, refused, "", 0},

	// What follows.
	{"a body that looks like a request is a body", wirePost + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(smuggled)) + smuggled, served, smuggled, 0},
	{"a chunk that looks like a request is a body", wirePost + chunked + "\r\n" + fmt.Sprintf("%x\r\n", len(smuggled)) + smuggled + "\r\n0\r\n\r\n", served, smuggled, 0},
	{"a GET may have a body", wireGet + "Content-Length: 5\r\n\r\nhello", served, "hello", 0},
	{"a GET may have chunks", wireGet + chunked + "\r\n" + oneChunk, served, "hello", 0},
	{"a GET without a length has no body", wireGet + "\r\nhello\r\n\r\n", first, "", 0},
	{"garbage behind a body is refused", wirePost + "Content-Length: 5\r\n\r\nhelloGARBAGE\r\n\r\n", first, "hello", 0},
	{"garbage behind chunks is refused", wirePost + chunked + "\r\n" + oneChunk + "GARBAGE\r\n\r\n", first, "hello", 0},
	{"a bad request behind a good one is refused", wireGet + "\r\n" + "GET /wire/bad HTTP/1.1\r\nHost: wire.test\r\nX-A : canary\r\n\r\n", first, "", 0},
	{"a request with two framings behind a good one is refused", wireGet + "\r\n" + "POST /wire/bad HTTP/1.1\r\nHost: wire.test\r\nContent-Length: 5\r\n" + chunked + "\r\n" + oneChunk, first, "", 0},
	{"a request with a bare LF behind one with a body is refused", wirePost + "Content-Length: 5\r\n\r\nhelloGET /wire/bad HTTP/1.1\nHost: wire.test\r\n\r\n", first, "hello", 0},
	{"a request with two framings behind chunks is refused", wirePost + chunked + "\r\n" + oneChunk + "POST /wire/bad HTTP/1.1\r\nHost: wire.test\r\nContent-Length: 5\r\n" + chunked + "\r\n" + oneChunk, first, "hello", 0},
	{"CONNECT behind a good request is refused", wireGet + "\r\nCONNECT wire.test:443 HTTP/1.1\r\nHost: wire.test:443\r\n\r\n", first, "", 0},
	{"an expectation that nobody knows is refused", wirePost + "Expect: a-miracle\r\nContent-Length: 5\r\n\r\nhello", refused, "", 417},
	{"an expectation beside 100-continue frames nothing", wirePost + "Expect: 100-continue, a-miracle\r\nContent-Length: 5\r\n\r\nhello", sound, "hello", 417},
	{"a body need not wait for 100 Continue", wirePost + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", served, "hello", 0},
	{"chunks need not wait for 100 Continue", wirePost + "Expect: 100-Continue\r\n" + chunked + "\r\n" + oneChunk, served, "hello", 0},
	{"an expectation without a body expects nothing", wireGet + "Expect: 100-continue\r\n\r\n", served, "", 0},
}

// forgiven are cases that the engine of net/http serves over TLS, where it reads for itself:
// as net/http reads them, and no other way.
var forgiven = []string{
	"an encoding and a length", "a length and an encoding", "an encoding that ends before the length", "a length that ends before the encoding",
	"two equal lengths", "an encoding in a request of HTTP/1.0", "an encoding and a length in a request of HTTP/1.0", "an encoding in a folded line",
	"an encoding behind a bare LF", "a bare LF behind", "a head that a bare LF ends", "a head of bare LFs", "a folded", "a line folded by a tab",
	"an absolute form of another", "a size above 63 bits", "a request with two framings behind",
	"a request with a bare LF behind",
}

func (w *wireWorld) cases() {
	w.table("case")
	w.policy()
	w.well("after.cases")
}

// table makes all cases, with tags that begin with a word.
func (w *wireWorld) table(word string) {
	number := 0
	for i, c := range wireCases {
		if w.secure != nil && w.engine == "std" && slices.ContainsFunc(forgiven, func(begin string) bool { return strings.HasPrefix(c.name, begin) }) {
			continue
		}
		number++
		w.t.Run(c.name, func(t *testing.T) { w.on(t).raw(fmt.Sprintf("%s%d", word, i), &c) })
	}
	w.t.Logf("%d cases", number)
}

// raw makes one case.
func (w *wireWorld) raw(tag string, c *wireCase) {
	w.t.Helper()
	text := strings.ReplaceAll(c.text, "TAG", "X-Tag: "+tag+"\r\n") + last(tag)
	answers, err := w.exchange(text)
	var also []int
	if c.also != 0 {
		also = []int{c.also}
	}
	faults := w.sound(tag, answers, err, also...)
	took := w.up.tagged(tag)
	ended := len(w.up.tagged(tag + ".end"))
	final := 0
	if len(answers) > 0 {
		final = answers[len(answers)-1].status
	}
	switch {
	case c.want == refused && (len(took) != 0 || ended != 0 || final < 400):
		faults = append(faults, "it was served")
	case c.want == served && (len(took) != 1 || ended != 1):
		faults = append(faults, "it was not served")
	case c.want == first && (len(took) != 1 || ended != 0 || final < 400):
		faults = append(faults, "it was not served alone")
	}
	for i := range took {
		if took[i].body != c.body {
			faults = append(faults, fmt.Sprintf("the provider parsed the body %q, want %q", took[i].body, c.body))
		}
		// The answer is about these very bytes.
		for _, a := range answers {
			if a.to == tag && a.body != took[i].digest() {
				faults = append(faults, fmt.Sprintf("the answer says %q of %q", a.body, took[i].digest()))
			}
		}
	}
	w.report(faults, text, answers)
}

// policy checks that a body is what the policy read, however it is framed and spelt.
func (w *wireWorld) policy() {
	frame := map[string]func(string) string{
		"by length": func(body string) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body) },
		"in chunks": func(body string) string {
			var b strings.Builder
			b.WriteString(chunked + "\r\n")
			for len(body) > 0 {
				n := min(7, len(body))
				fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
				body = body[n:]
			}
			return b.String() + "0\r\n\r\n"
		},
	}
	// What a plain upstream may see of a client that a provider may not.
	secrets := map[string]string{"/ai": "Authorization: Bearer canary\r\nCookie: canary\r\nX-Api-Key: canary\r\nApi-Key: canary\r\nApikey: canary\r\nX-Forwarded-For: canary\r\nForwarded: for=canary\r\n"}
	const messages = `"messages":[{"role":"user","content":"hi"}]`
	number := 0
	for name, tt := range map[string]struct {
		body string
		pass bool
	}{
		"an allowed model passes":                        {`{"model":"allowed",` + messages + `}`, true},
		"a forbidden model does not":                     {`{"model":"forbidden",` + messages + `}`, false},
		"a forbidden model behind an allowed one":        {`{"model":"allowed",` + messages + `,"model":"forbidden"}`, false},
		"an allowed model behind a forbidden one":        {`{"model":"forbidden",` + messages + `,"model":"allowed"}`, false},
		"a forbidden model with an escape in its name":   {`{"model":"allowed",` + messages + `,"mod\u0065l":"forbidden"}`, false},
		"a forbidden model behind the end of the object": {`{"model":"allowed",` + messages + `}{"model":"forbidden"}`, false},
		"a forbidden model behind a NUL":                 {`{"model":"allowed",` + messages + "}\x00" + `{"model":"forbidden"}`, false},
		"an allowed model below the top":                 {`{"a":{"model":"allowed"},` + messages + `,"model":"forbidden"}`, false},
	} {
		for framing, framed := range frame {
			for _, path := range []string{"/ai", pathPolicy} {
				number++
				tag := fmt.Sprintf("policy%d", number)
				w.t.Run(name+", "+framing+", "+path, func(t *testing.T) {
					w := w.on(t)
					answers, err := w.exchange("POST " + path + " HTTP/1.1\r\nHost: wire.test\r\nX-Tag: " + tag +
						"\r\nContent-Type: application/json\r\nConnection: close\r\n" + secrets[path] + framed(tt.body))
					for _, complaint := range w.up.complaints() {
						t.Error(complaint)
					}
					if err != nil || len(answers) != 1 || (answers[0].status == 200) != tt.pass {
						t.Errorf("got %v, %v", answers, err)
					}
				})
			}
		}
	}
}
