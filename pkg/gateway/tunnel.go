package gateway

import (
	"io"
	"net/http"

	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/upstream"
)

// tunnel connects client and server after a switch of protocols, until either side
// ends. The upgraded connection is never used again.
func (g *Gateway) tunnel(c *plugin.Context, res *upstream.Response) {
	upgrade := res.Header.Get("Upgrade")
	c.Response.Header.Set("Connection", "Upgrade")
	c.Response.Header.Set("Upgrade", upgrade)
	c.BeforeHead()
	client, rw, err := c.Response.Hijack()
	if err != nil {
		answer(c, http.StatusInternalServerError, err)
		return
	}
	defer func() { _ = client.Close() }()
	server, early := res.Conn()
	defer func() { _ = server.Close() }()

	head := []byte("HTTP/1.1 101 Switching Protocols\r\n")
	for _, f := range c.Response.Header.Fields() {
		head = append(append(append(append(head, f.Name...), ": "...), f.Value...), "\r\n"...)
	}
	if _, err := client.Write(append(append(head, "\r\n"...), early...)); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Bytes that the engine had read ahead come first.
		_, _ = io.Copy(server, rw)
		// The other direction ends when its reads fail; there is nothing to wait for
		// on a connection whose client is gone.
		_ = server.Close()
	}()
	n, _ := io.Copy(client, server)
	c.Response.Sent = n
	_ = client.Close()
	<-done
}
