package resource

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"sync"

	"github.com/gosix/gosix/pkg/schema"
)

//go:embed schema/*.json
var schemaFiles embed.FS

// use stands in a schema file for a schema of common.json.
var use = regexp.MustCompile(`\{"\$use": "([a-z_]+)"\}`)

// loadSchemas returns the schemas of the files by name ("route", "secret_vault"). They are
// part of the program, so that a bad one is a panic, and compiled when they are needed.
func loadSchemas() map[string]*schema.Schema {
	files, err := schemaFiles.ReadDir("schema")
	if err != nil {
		panic(err)
	}
	loaded := make(map[string]*schema.Schema, len(files))
	for _, f := range files {
		if name := f.Name()[:len(f.Name())-len(path.Ext(f.Name()))]; name != "common" {
			loaded[name] = schema.Later(name, func() []byte {
				var doc bytes.Buffer
				if err := json.Compact(&doc, expand(mustRead(f.Name()))); err != nil {
					panic(fmt.Sprintf("schema/%s: %v", f.Name(), err))
				}
				return doc.Bytes()
			})
		}
	}
	return loaded
}

// common are the schemas that others use, by name.
var common = sync.OnceValue(func() map[string]json.RawMessage {
	all := map[string]json.RawMessage{}
	if err := json.Unmarshal(mustRead("common.json"), &all); err != nil {
		panic(fmt.Sprintf("schema/common.json: %v", err))
	}
	return all
})

// expand puts common schemas where a document uses them.
func expand(doc []byte) []byte {
	return use.ReplaceAllFunc(doc, func(m []byte) []byte {
		name := string(use.FindSubmatch(m)[1])
		part, ok := common()[name]
		if !ok {
			panic(fmt.Sprintf("schema/common.json has no %q", name))
		}
		return expand(part)
	})
}

func mustRead(file string) []byte {
	doc, err := schemaFiles.ReadFile("schema/" + file)
	if err != nil {
		panic(err)
	}
	return doc
}
