// Package sdk holds the tests in which the official SDKs are clients of gosix: whatever
// protocol a client speaks, whatever provider is behind, it must not notice. It is a module of
// its own, so that the SDKs are nothing that gosix depends on. It has no code but tests; what
// the answers must be is known from the fake provider that gives them.
package sdk
