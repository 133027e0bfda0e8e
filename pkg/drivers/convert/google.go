package convert

import (
	"net/http"

	"github.com/go-json-experiment/json/jsontext"
)

// googleError converts an error of Google's: one object, or a list of it where a stream was
// asked for.
func googleError(status int, body []byte) chatErrorBody {
	type failure struct {
		Error struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
			Status  string `json:"status"`
		} `json:"error"`
	}
	list := make([]failure, 1)
	ok := false
	if jsontext.Value(body).Kind() == '[' {
		ok = readAnswer(body, &list) && len(list) > 0
	} else {
		ok = readAnswer(body, &list[0])
	}
	e := failure{}.Error
	if ok {
		e = list[0].Error
	}
	if e.Message == "" && e.Status == "" {
		return wrapError(status, body)
	}
	if e.Code >= http.StatusBadRequest {
		status = e.Code
	}
	return openAIError(status, e.Message, e.Status)
}
