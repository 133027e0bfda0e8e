// Package builtin is the two lists of what this program has: plugins in the order in which
// they run, and drivers by provider. It knows their names and nothing of what they do.
package builtin

import (
	"github.com/gosix/gosix/pkg/drivers"
	"github.com/gosix/gosix/pkg/drivers/bedrock"
	"github.com/gosix/gosix/pkg/drivers/google"
	"github.com/gosix/gosix/pkg/drivers/openai"
	"github.com/gosix/gosix/pkg/plugin"
	"github.com/gosix/gosix/pkg/plugin/aipromptdecorator"
	"github.com/gosix/gosix/pkg/plugin/aipromptguard"
	"github.com/gosix/gosix/pkg/plugin/aiprompttemplate"
	"github.com/gosix/gosix/pkg/plugin/aiproxy"
	"github.com/gosix/gosix/pkg/plugin/airatelimiting"
	"github.com/gosix/gosix/pkg/plugin/keyauth"
	"github.com/gosix/gosix/pkg/plugin/prometheus"
)

// Plugins lists the plugins by descending priority. What requests are counted into is m.
func Plugins(d aiproxy.Deps, m *prometheus.Metrics) []plugin.Definition {
	return []plugin.Definition{
		keyauth.Definition(),                  // 2500
		aipromptguard.Definition(d.Depth),     // 1072
		aiprompttemplate.Definition(d.Depth),  // 1071
		aipromptdecorator.Definition(d.Depth), // 1070
		aiproxy.Multi(d),                      // 1041
		aiproxy.Single(d),                     // 1040
		airatelimiting.Definition(),           // 1030
		prometheus.Definition(m),              // 500
	}
}

// Drivers are the providers of language models.
func Drivers() *drivers.Set {
	return drivers.NewSet(openai.Providers(), google.Providers(), bedrock.Providers())
}
