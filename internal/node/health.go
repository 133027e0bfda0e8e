package node

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

// HealthCommand is the subcommand `health URL` of every program: it ends with 0 if the URL
// answers 200 in time. An image that holds the programs alone has nothing else to ask with.
func HealthCommand() *cobra.Command {
	var head bool
	var limit time.Duration
	c := &cobra.Command{
		Use: "health URL", Short: "Ask a URL once, and end with 0 if it answers 200", Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), limit)
			defer cancel()
			method := http.MethodGet
			if head {
				method = http.MethodHead
			}
			return healthy(ctx, method, args[0])
		},
	}
	c.Flags().BoolVarP(&head, "head", "I", false, "ask with HEAD, for the Admin API: it answers /apisix/admin without a key")
	c.Flags().DurationVar(&limit, "timeout", 2*time.Second, "how long the answer may take")
	return c
}

// healthy returns nil if url answers 200 before ctx ends, else why it is not so: the answer's
// status and the first line of its body.
func healthy(ctx context.Context, method, url string) error {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return err
	}
	// Not the default transport: a proxy that the environment names would answer for itself.
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode == http.StatusOK {
		return nil
	}
	const enough = 200 // bytes
	body, _ := io.ReadAll(io.LimitReader(res.Body, enough))
	line, _, _ := bytes.Cut(bytes.TrimSpace(body), []byte("\n"))
	if len(line) == 0 {
		return fmt.Errorf("%s %s: answered %s", method, url, res.Status)
	}
	return fmt.Errorf("%s %s: answered %s: %s", method, url, res.Status, line)
}
