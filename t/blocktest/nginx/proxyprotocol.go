package nginx

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

var errProxyHeader = errors.New("broken header of the PROXY protocol")

// readProxyHeader reads the line that version 1 of the PROXY protocol begins with.
func (c *connection) readProxyHeader() error {
	left := 107 // the longest that the protocol allows
	line, err := readLine(c.in, &left)
	if err != nil {
		return err
	}
	words := strings.Fields(line)
	switch {
	case len(words) >= 2 && words[0] == "PROXY" && words[1] == "UNKNOWN":
		return nil
	case len(words) != 6 || words[0] != "PROXY":
		return errProxyHeader
	}
	from, err := netip.ParseAddr(words[2])
	if err != nil {
		return errProxyHeader
	}
	if _, err := strconv.ParseUint(words[4], 10, 16); err != nil {
		return errProxyHeader
	}
	c.proxied = from.String()
	return nil
}
