package t

import (
	"fmt"
	"strings"
	"testing"
)

// draft is a request that is being spoilt.
type draft struct {
	version string
	line    string   // what ends the request line
	fields  []string // with what ends them
	end     string   // of the head
	chunks  []func(string) string
	trailer string

	body             string // without chunks
	lengths, codings int    // fields that frame
}

func (d *draft) add(format string, args ...any) {
	d.fields = append(d.fields, fmt.Sprintf(format, args...))
}

func (d *draft) length(format string, args ...any) {
	d.lengths++
	d.add(format, args...)
}

func (d *draft) coding(field string) {
	d.codings++
	d.add("%s", field)
}

// mutation spoils a draft. bad: whoever reads it by the letter refuses it.
type mutation struct {
	name  string
	bad   bool
	apply func(*draft)
}

func chunk(format string) func(*draft) {
	return func(d *draft) {
		d.chunks = append(d.chunks, func(data string) string {
			return strings.NewReplacer("SIZE", fmt.Sprintf("%x", len(data)), "DATA", data).Replace(format)
		})
	}
}

// mutations are the kinds of doubt about where a request ends. Those of chunks bring their
// encoding, unless another does.
var mutations = []mutation{
	{"length", false, func(d *draft) { d.length("Content-Length: %d\r\n", len(d.body)) }},
	{"length of nothing", false, func(d *draft) { d.length("Content-Length: 0\r\n") }},
	{"length into the body", false, func(d *draft) { d.length("Content-Length: 4\r\n") }},
	{"length behind the body", false, func(d *draft) { d.length("content-length: %d\r\n", len(d.body)+20) }},
	{"length with a plus", true, func(d *draft) { d.length("Content-Length: +%d\r\n", len(d.body)) }},
	{"length with a list", true, func(d *draft) { d.length("Content-Length: %d, %[1]d\r\n", len(d.body)) }},
	{"length before a space and a colon", true, func(d *draft) { d.add("Content-Length : %d\r\n", len(d.body)) }},
	{"length above 64 bits", true, func(d *draft) { d.length("Content-Length: 1844674407370955161%d\r\n", len(d.body)) }},
	{"length with an underscore", false, func(d *draft) { d.add("Content_Length: 3\r\n") }},

	{"chunked", false, func(d *draft) { d.coding("Transfer-Encoding: chunked\r\n") }},
	{"chunked behind a tab", false, func(d *draft) { d.coding("Transfer-Encoding:\tchunked\t\r\n") }},
	{"identity", true, func(d *draft) { d.coding("Transfer-Encoding: identity\r\n") }},
	{"xchunked", true, func(d *draft) { d.coding("Transfer-Encoding: xchunked\r\n") }},
	{"chunked and identity", true, func(d *draft) { d.coding("Transfer-Encoding: chunked, identity\r\n") }},
	{"chunked in quotes", true, func(d *draft) { d.coding("Transfer-Encoding: \"chunked\"\r\n") }},
	{"chunked behind a vertical tab", true, func(d *draft) { d.coding("Transfer-Encoding: \vchunked\r\n") }},
	{"chunked before a space and a colon", true, func(d *draft) { d.add("Transfer-Encoding : chunked\r\n") }},
	{"chunked in HTTP/1.0", true, func(d *draft) { d.version = "HTTP/1.0"; d.coding("Transfer-Encoding: chunked\r\n") }},
	{"chunked with an underscore", false, func(d *draft) { d.add("Transfer_Encoding: chunked\r\n") }},

	{"LF behind the request line", true, func(d *draft) { d.line = "\n" }},
	{"LF behind a field", true, func(d *draft) { d.add("X-A: b\n") }},
	{"LF as the end", true, func(d *draft) { d.end = "\n" }},
	{"CR in a value", true, func(d *draft) { d.add("X-A: b\rTransfer-Encoding: chunked\r\n") }},
	{"CR behind a field", true, func(d *draft) { d.add("X-A: b\r\r\n") }},
	{"LF hides a length", true, func(d *draft) { d.add("X-A: b\nContent-Length: 0\r\n") }},

	{"fold", true, func(d *draft) { d.add("X-A: b\r\n c\r\n") }},
	{"fold with a tab", true, func(d *draft) { d.add("X-A:\r\n\tb\r\n") }},
	{"folded encoding", true, func(d *draft) { d.add("Transfer-Encoding:\r\n chunked\r\n") }},
	{"folded length", true, func(d *draft) { d.add("Content-Length:\r\n 0\r\n") }},
	{"fold hides a length", true, func(d *draft) { d.add("X-A: b\r\n Content-Length: 0\r\n") }},

	{"chunk", false, chunk("SIZE\r\nDATA\r\n")},
	{"chunk with an extension", false, chunk("SIZE;a=\"b\"\r\nDATA\r\n")},
	{"chunk whose size ends with LF", true, chunk("SIZE\nDATA\r\n")},
	{"chunk that ends with LF", true, chunk("SIZE\r\nDATA\n")},
	{"chunk that ends with something else", true, chunk("SIZE\r\nDATAxx")},
	{"chunk of a negative size", true, chunk("-SIZE\r\nDATA\r\n")},
	{"chunk of 17 digits", true, chunk("1000000000000000SIZE\r\nDATA\r\n")},
	{"chunk that is too long", true, chunk("SIZE\r\nDATADATA\r\n")},
	{"chunk behind a space", true, chunk(" SIZE\r\nDATA\r\n")},
	{"chunk of an empty size", true, chunk("\r\nDATA\r\n")},
	{"trailer that frames", false, func(d *draft) {
		chunk("SIZE\r\nDATA\r\n")(d)
		d.trailer = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"
	}},
	{"last chunk that ends with LF", true, func(d *draft) {
		chunk("SIZE\r\nDATA\r\n0\n\n")(d)
	}},
}

// spoil makes a request with mutations; strict readers refuse it if bad.
func spoil(tag, body string, all ...*mutation) (text string, bad bool) {
	d := draft{version: "HTTP/1.1", line: "\r\n", end: "\r\n", body: body}
	d.add("Host: wire.test\r\n")
	d.add("X-Tag: %s\r\n", tag)
	for _, m := range all {
		m.apply(&d)
		bad = bad || m.bad
	}
	if len(d.chunks) > 0 {
		if d.codings == 0 {
			d.coding("Transfer-Encoding: chunked\r\n")
		}
		d.body = ""
		for _, c := range d.chunks {
			d.body += c(body)
		}
		d.body += "0\r\n" + d.trailer + "\r\n"
	}
	bad = bad || d.lengths > 1 || d.codings > 1 || d.lengths > 0 && d.codings > 0
	return "POST /wire/x " + d.version + d.line + strings.Join(d.fields, "") + d.end + d.body, bad
}

// pairs combines every two mutations, in both orders, with bodies that are requests, chunks,
// or both to who reads them otherwise.
func (w *wireWorld) pairs() {
	bodies := []string{smuggled, "0\r\n\r\n" + smuggled, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)}
	w.t.Run("all", func(t *testing.T) {
		for i := range mutations {
			t.Run(mutations[i].name, func(t *testing.T) {
				t.Parallel()
				w, faulty := w.on(t), 0
				for j := range mutations {
					for k, body := range bodies {
						tag := fmt.Sprintf("pair%d.%d.%d", i, j, k)
						one, two := &mutations[i], &mutations[j]
						text, bad := spoil(tag, body, one, two)
						text += last(tag)
						answers, err := w.exchange(text)
						faults := w.sound(tag, answers, err)
						if bad && len(w.up.tagged(tag)) > 0 {
							faults = append(faults, "it was served")
						}
						if len(faults) > 0 {
							faults = append(faults, "with "+one.name+" and "+two.name)
							if faulty++; faulty > 5 {
								return // what follows says no more
							}
						}
						w.report(faults, text, answers)
					}
				}
			})
		}
	})
	w.t.Logf("%d pairs with %d bodies each", len(mutations)*len(mutations), len(bodies))
	w.well("after.pairs")
}
