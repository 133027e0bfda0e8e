//go:build race

package upstream

// raced: pools of memory lose things on purpose.
const raced = true
