package resource

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"path"
	"regexp"

	"github.com/gosix/gosix/pkg/schema"
)

//go:embed schema/*.json
var schemaFiles embed.FS

// use stands in a schema file for a schema of common.json.
var use = regexp.MustCompile(`\{"\$use": "([a-z_]+)"\}`)

// loadSchemas compiles the schema files by name ("route", "secret_vault"). They are
// part of the program, so that a bad one is a panic.
func loadSchemas() map[string]*schema.Schema {
	common := map[string]json.RawMessage{}
	if err := json.Unmarshal(mustRead("common.json"), &common); err != nil {
		panic(fmt.Sprintf("schema/common.json: %v", err))
	}
	var expand func(doc []byte) []byte
	expand = func(doc []byte) []byte {
		return use.ReplaceAllFunc(doc, func(m []byte) []byte {
			name := string(use.FindSubmatch(m)[1])
			part, ok := common[name]
			if !ok {
				panic(fmt.Sprintf("schema/common.json has no %q", name))
			}
			return expand(part)
		})
	}

	files, err := schemaFiles.ReadDir("schema")
	if err != nil {
		panic(err)
	}
	compiled := make(map[string]*schema.Schema, len(files))
	for _, f := range files {
		if name := f.Name()[:len(f.Name())-len(path.Ext(f.Name()))]; name != "common" {
			var doc bytes.Buffer
			if err := json.Compact(&doc, expand(mustRead(f.Name()))); err != nil {
				panic(fmt.Sprintf("schema/%s: %v", f.Name(), err))
			}
			compiled[name] = schema.MustCompile(name, doc.Bytes())
		}
	}
	return compiled
}

func mustRead(file string) []byte {
	doc, err := schemaFiles.ReadFile("schema/" + file)
	if err != nil {
		panic(err)
	}
	return doc
}
