// Package nginx serves what test suites declare in nginx's language: servers, locations
// and the directives that the suites use, with answers that a client cannot tell from
// OpenResty's. Scripts are somebody else's business (Scripts); so are sections, verdicts
// and the gateway under test, which the Front only relays to.
//
// Three layers: Parse knows the grammar and no directive, Load knows the directives and
// no connection, a Host has connections and listeners. What Load returns never changes;
// a Host replaces it as a whole.
//
// A directive that is not offered is an *UnsupportedError; none is passed over in
// silence but those of the list in withouteffect.go, whose effect no client can see.
package nginx
