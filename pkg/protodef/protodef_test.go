package protodef

import (
	"context"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
)

const definition = `syntax = "proto3"; // the second
package pond;
import "google/protobuf/timestamp.proto";
message Ask { string n = 1; google.protobuf.Timestamp at = 2; }
service Pond { rpc Find (Ask) returns (Ask); }`

// some is what a test wants that asks for any error.
const some = "some error"

func TestCheck(t *testing.T) {
	tests := map[string]struct{ content, want string }{
		"a definition":                     {definition, ""},
		"one without a package":            {`syntax = "proto3"; message A {}`, ""},
		"proto2":                           {`message A { optional string n = 1; extensions 100 to 199; } extend A { optional int32 x = 100; }`, ""},
		"brackets in comments and strings": {"/* " + strings.Repeat("{", 200) + " */ syntax = 'proto3'; // " + strings.Repeat("(", 200) + "\noption go_package = \"\\\"" + strings.Repeat("<", 200) + "\";", ""},
		"comments that look like strings":  {"// it's\nsyntax = \"proto3\"; /* \" */ message A {}", ""},
		"very many comments":               {strings.Repeat("message A {} /* */", 1) + strings.Repeat("/**/", 1<<17), ""},
		"no definition":                    {"hello", `1:1: syntax error: unexpected identifier`},
		"a type that is not there":         {"syntax = \"proto3\";\nmessage A {\n  Missing m = 1;\n}", `3:3: field A.m: unknown type Missing`},
		"the place behind a comment":       {"/* e */ messag A {}", `1:9: syntax error: unexpected identifier`},
		"a number twice":                   {`syntax = "proto3"; message A { string a = 1; string b = 1; }`, `1:57: message A: fields a and b both have the same tag 1`},
		"an import from elsewhere":         {`syntax = "proto3"; import "pond.proto";`, `1:27: could not resolve path "pond.proto": file does not exist`},
		"an import of itself":              {`syntax = "proto3"; import "content";`, `1:27: cycle found in imports: "content" -> "content"`},
		"a message that does not end":      {`syntax = "proto3"; message A {`, `1:31: syntax error: unexpected $end`},
		"messages in messages":             {strings.Repeat("message A {", 40) + strings.Repeat("}", 40), `1:342: message nesting depth must be less than 32`},
		"brackets that nest without end":   {strings.Repeat("message A {", 60000), `nested more than 100 deep`},
		"a set of descriptors":             {descriptors(t, true), ""},
		"a set without what it imports":    {descriptors(t, false), ""},
		"a set on lines of its own":        {"\n" + descriptors(t, true) + "\n", ""},
		"base64 of no set":                 {base64.StdEncoding.EncodeToString([]byte("hello")), `1:1: syntax error: unexpected identifier`},
		"base64 of a set that is no sense": {base64.StdEncoding.EncodeToString(twice(t)), some},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got := ""
			if err := Check(tt.content); err != nil {
				got = err.Error()
			}
			if got != tt.want && (tt.want != some || got == "") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// descriptors is the definition as protoc writes it, in base64, with or without its imports.
func descriptors(t *testing.T, imports bool) string {
	t.Helper()
	raw, err := proto.Marshal(descriptorSet(t, imports))
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func descriptorSet(t *testing.T, imports bool) *descriptorpb.FileDescriptorSet {
	t.Helper()
	c := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{"pond.proto": definition}),
	})}
	files, err := c.Compile(context.Background(), "pond.proto")
	if err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if imports {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(files[0].FindImportByPath("google/protobuf/timestamp.proto")))
	}
	set.File = append(set.File, protodesc.ToFileDescriptorProto(files[0]))
	return set
}

// twice is a set in which one message stands twice.
func twice(t *testing.T) []byte {
	t.Helper()
	set := descriptorSet(t, true)
	last := set.GetFile()[1]
	last.MessageType = append(last.MessageType, last.GetMessageType()[0])
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func FuzzCheck(f *testing.F) {
	f.Add(definition)
	f.Add("// it's\nmessage A { reserved 1 to max; } /* \" */")
	f.Add("CgMKAWE=")
	f.Fuzz(func(t *testing.T, content string) {
		text, nesting := withoutComments(content)
		if len(text) != len(content) || strings.Count(text, "\n") != strings.Count(content, "\n") || nesting < 0 || nesting > len(content) {
			t.Fatalf("of %q remains %q, nested %d deep", content, text, nesting)
		}
		if !strings.Contains(content, "/") && text != content {
			t.Fatalf("without a comment, of %q remains %q", content, text)
		}
		_ = Check(content) // it ends, and without a panic
	})
}
