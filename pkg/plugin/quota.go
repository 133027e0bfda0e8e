package plugin

// InstanceQuota is how a plugin that counts what the instances of a balanced AI plugin may
// still be used for keeps requests away from those that are exhausted (spec/06 §A8). The
// one that counts sets a function in its rewrite phase, which is before the instance is
// chosen; the one that chooses asks it about each instance it is about to take, in the
// access phase and again before every further attempt, if its configuration says that it
// is aware of rate limits. Which instance a request went to stands in Facts.BalancerIP.
//
// The function is called by the goroutine that serves the request, does no I/O, and
// belongs to a configuration, not to a request, so that setting it does not allocate. It
// reports whether something is left. nil: nobody counts.
var InstanceQuota = NewKey[func(c *Context, instance string) bool]("plugin.instance-quota")

// InstanceTaken is how a plugin that keeps count of requests under way hears that one went
// over to another instance. It sets a function; a balanced AI plugin calls that whenever the
// instance in Facts.BalancerIP has changed, by the goroutine that serves the request, under
// the terms of [InstanceQuota]. nil: nobody wants to know.
var InstanceTaken = NewKey[func(c *Context)]("plugin.instance-taken")
