package openai

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/gosix/gosix/pkg/drivers/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRecordedAnswers(t *testing.T) { drivertest.Run(t, Providers()["openai"], "testdata/answers") }
