//go:build linux

package main

import (
	"fmt"
	"strconv"
	"strings"
)

// body is what is sent, and what kind of answer it gets.
type body struct {
	name   string
	title  string
	bytes  int
	lead   string // members at the beginning
	events int    // of the answer, with the one that ends it; 0: it is no stream
}

var bodies = []body{
	{name: "1k", title: "1 KB", bytes: 1 << 10},
	{name: "16k", title: "16 KB", bytes: 16 << 10},
	{name: "128k", title: "128 KB", bytes: 128 << 10},
	{name: "sse", title: "a stream of 20 events", bytes: 1 << 10, lead: `"stream":true,`, events: 21},
}

// streamsHeld are streams that say one thing and then nothing more.
var streamsHeld = body{name: "held", title: "an idle stream", bytes: 1 << 10, lead: `"stream":true,"user":"hold",`, events: 1}

// prose is what people ask, with what JSON escapes.
const prose = `Dear model,\n\nthe customer wrote: \"It broke again, for the third time this month!\" Her order is at C:\\orders\\2024 and reads:\n\t- one caf\u00e9 table, 120 × 80 cm\n\t- two chairs, oak\nPlease find out what went wrong, and answer in three short sentences. Naïve excuses are not wanted 🙂. `

// text is the body, exactly as long as it says.
func (b body) text() string {
	const system = `You answer the customers of a shop for furniture. Be brief, and be kind.`
	begin := `{"model":"gpt-4o",` + b.lead + `"messages":[{"role":"system","content":"` + system + `"},{"role":"user","content":"`
	end := `"}],"temperature":0.7}`
	room := b.bytes - len(begin) - len(end)
	var s strings.Builder
	s.WriteString(begin)
	for ; room >= len(prose); room -= len(prose) {
		s.WriteString(prose)
	}
	s.WriteString(strings.Repeat("x", room))
	s.WriteString(end)
	return s.String()
}

// request is the whole request as it is sent.
func (b body) request(addr, path string, headers []string) []byte {
	text := b.text()
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: gosix-bench\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: %s\r\n",
		path, addr, strconv.Itoa(len(text)))
	for _, h := range headers {
		head += h + "\r\n"
	}
	return []byte(head + "\r\n" + text)
}
