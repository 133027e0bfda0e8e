package sdk

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestJavaScriptClients runs the SDKs of js/, which `make sdk` installs.
func TestJavaScriptClients(t *testing.T) {
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join("js", "node_modules"))
	}
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("the JavaScript SDKs are not installed: %v", err)
		}
		t.Skipf("the JavaScript SDKs are not installed, see make sdk: %v", err)
	}
	tests := map[string]struct {
		providers []provider
		script    string
	}{
		"openai":         {chatProviders, ""},
		"openaiTools":    {chatProviders, "tool"},
		"openaiError":    {chatProviders, "status=429"},
		"openaiCut":      {chatProviders, "cut=3&words=9"},
		"anthropic":      {messengers, ""},
		"anthropicTools": {messengers, "tool"},
		"anthropicMute":  {chatProviders[:1], "no_usage"},
		"anthropicError": {messengers, "status=429"},
		"ai":             {responders, ""},
		"aiTools":        {chatProviders, "tool"},
	}
	for which, tt := range tests {
		for _, p := range tt.providers {
			t.Run(which+" "+p.name, func(t *testing.T) {
				cmd := exec.CommandContext(t.Context(), node, "clients.mjs", base(), route(t, p, tt.script), which)
				cmd.Dir = "js"
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}
