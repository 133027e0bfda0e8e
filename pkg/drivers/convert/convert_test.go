package convert

import (
	"testing"
)

func FuzzEmbeddingsToPredict(f *testing.F) { fuzz(f, embeddingsToPredict) }
