package plugin

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Decode reads a configuration that has been through its schema, or a part of one, into
// what v points to. Names are compared letter by letter, duplicate members and invalid
// UTF-8 are errors (spec/00 7); encoding/json would obey Anonymous_Consumer as
// anonymous_consumer, which no schema has judged. As schemas do, it takes 1.0 and 1e3 for
// integers, and an empty list for an empty object (spec/01 §4.2).
func Decode(p []byte, v any) error { return json.Unmarshal(p, v, dialect) }

var dialect = json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, v any) error {
	if _, own := v.(stdjson.Unmarshaler); own {
		return errors.ErrUnsupported
	}
	to := reflect.ValueOf(v).Elem()
	switch kind := d.PeekKind(); {
	case (to.Kind() == reflect.Struct || to.Kind() == reflect.Map) && kind == '[':
		raw, err := d.ReadValue()
		if err == nil && len(bytes.TrimSpace(raw[1:len(raw)-1])) > 0 {
			err = errors.New("a list where an object is expected")
		}
		return err
	case to.CanInt() && kind == '0':
		raw, err := d.ReadValue()
		if err != nil {
			return err
		}
		n, err := integer(string(raw))
		if err == nil && to.OverflowInt(n) {
			err = strconv.ErrRange
		}
		if err != nil {
			return fmt.Errorf("%s: %w", raw, err)
		}
		to.SetInt(n)
		return nil
	}
	return errors.ErrUnsupported // the library's own way
}))

// integer is a number's value, however it is written.
func integer(text string) (int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		return 0, err
	case f != math.Trunc(f):
		return 0, errors.New("not a whole number")
	case f < math.MinInt64 || f >= math.MaxInt64:
		return 0, strconv.ErrRange
	}
	return int64(f), nil
}
