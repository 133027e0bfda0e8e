package balancer

import (
	lru "github.com/hashicorp/golang-lru/v2"
)

// Cache keeps pickers whose configuration is no longer in force and may come back: keyed
// by route, scope and plugin conf version. The picker in force is not asked for here. It
// is safe for concurrent use.
type Cache struct {
	pickers *lru.Cache[string, Picker]
}

// DefaultCacheSize is how many pickers a cache keeps unless told otherwise.
const DefaultCacheSize = 256

// NewCache returns a cache of that many pickers; 0: DefaultCacheSize.
func NewCache(size int) *Cache {
	if size <= 0 {
		size = DefaultCacheSize
	}
	pickers, err := lru.New[string, Picker](size)
	if err != nil {
		panic("balancer: " + err.Error()) // only for sizes below 1
	}
	return &Cache{pickers}
}

// Get returns the picker kept under key.
func (c *Cache) Get(key string) (Picker, bool) { return c.pickers.Get(key) }

// Put keeps a picker.
func (c *Cache) Put(key string, p Picker) { c.pickers.Add(key, p) }
