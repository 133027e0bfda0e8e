package adminapi

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/gosix/gosix/pkg/resource"
	"github.com/gosix/gosix/pkg/store"
)

// Nobody else may have a consumer's key, for which what is stored is looked through.
func BenchmarkPutConsumerAmong10000(b *testing.B) {
	w := newWorld(b, nil)
	consumers := resource.ByName("consumers")
	for i := range 10_000 {
		key := fmt.Sprintf("/apisix/consumers/c%d", i)
		doc, err := w.api.seal(consumers, key, fmt.Appendf(nil,
			`{"username":"c%d","desc":"a consumer","plugins":{"door":{"key":"key-%d"}},"create_time":1700000000,"update_time":1700000000}`, i, i))
		if err != nil {
			b.Fatal(err)
		}
		if _, err := w.store.Commit(b.Context(), nil, []store.Op{{Key: key, Value: doc}}); err != nil {
			b.Fatal(err)
		}
	}
	w.expect(b, "PUT", "/consumers", `{"username":"ann","plugins":{"door":{"key":"key-9999"}}}`, http.StatusBadRequest, "found with consumer: c9999")
	w.expect(b, "PUT", "/consumers", `{"username":"ann","plugins":{"door":{"key":"mine"}}}`, http.StatusCreated, "")
	b.ReportAllocs()
	for b.Loop() {
		w.expect(b, "PUT", "/consumers", `{"username":"ann","plugins":{"door":{"key":"mine"}}}`, http.StatusOK, "")
	}
}
