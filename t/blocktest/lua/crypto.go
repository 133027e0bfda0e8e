package lua

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"strings"
	"unicode/utf8"

	glua "github.com/yuin/gopher-lua"
)

var (
	stdBase64    = base64.RawStdEncoding
	rawURLBase64 = base64.RawURLEncoding
)

// decodeRune is the rune that s begins with, or its first byte.
func decodeRune(s string) (rune, int) { return utf8.DecodeRuneInString(s) }

var hashes = map[string]func() hash.Hash{
	"md5": md5.New, "sha1": sha1.New, "sha224": sha256.New224, "sha256": sha256.New,
	"sha384": sha512.New384, "sha512": sha512.New,
}

// hashState is an object of resty.sha256 and its like, and of resty.hmac.
type hashState struct{ hash.Hash }

func (rt *Runtime) restyHash(name string) *glua.LTable {
	class := rt.class("resty."+name, funcs{
		"update": func(L *glua.LState) int {
			self[*hashState](L).Write([]byte(checkText(L, 2)))
			return ret(L, glua.LTrue)
		},
		"final": func(L *glua.LState) int { return ret(L, str(string(self[*hashState](L).Sum(nil)))) },
		"reset": func(L *glua.LState) int { self[*hashState](L).Reset(); return ret(L, glua.LTrue) },
	})
	return module(rt.state, funcs{"new": func(L *glua.LState) int {
		return ret(L, object(L, class, &hashState{hashes[name]()}))
	}})
}

func (rt *Runtime) hmac() *glua.LTable {
	algorithms := rt.state.NewTable()
	for _, name := range []string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512"} {
		algorithms.RawSetString(strings.ToUpper(name), str(name))
	}
	class := rt.class("resty.hmac", funcs{
		"update": func(L *glua.LState) int {
			self[*hashState](L).Write([]byte(checkText(L, 2)))
			return ret(L, glua.LTrue)
		},
		"final": func(L *glua.LState) int {
			h := self[*hashState](L)
			if L.Get(2) != glua.LNil {
				h.Write([]byte(checkText(L, 2)))
			}
			sum := string(h.Sum(nil))
			if glua.LVAsBool(L.Get(3)) {
				sum = hex.EncodeToString([]byte(sum))
			}
			return ret(L, str(sum))
		},
		"reset": func(L *glua.LState) int { self[*hashState](L).Reset(); return ret(L, glua.LTrue) },
	})
	m := module(rt.state, funcs{"new": func(L *glua.LState) int {
		f := hashes[optText(L, 3, "md5")]
		if f == nil {
			return ret(L, glua.LNil)
		}
		return ret(L, object(L, class, &hashState{hmac.New(f, []byte(checkText(L, 2)))}))
	}})
	m.RawSetString("ALGOS", algorithms)
	return m
}

func (rt *Runtime) restyString() *glua.LTable {
	return module(rt.state, funcs{
		"to_hex": func(L *glua.LState) int { return ret(L, str(hex.EncodeToString([]byte(checkText(L, 1))))) },
		"atoi": func(L *glua.LState) int {
			n, _ := number(L.Get(1))
			return ret(L, num(n))
		},
	})
}

func (rt *Runtime) random() *glua.LTable {
	bytes := func(L *glua.LState) int {
		b := make([]byte, L.CheckInt(1))
		_, _ = rand.Read(b)
		return ret(L, str(string(b)))
	}
	return module(rt.state, funcs{"bytes": bytes, "token": func(L *glua.LState) int {
		b := make([]byte, L.CheckInt(1))
		_, _ = rand.Read(b)
		return ret(L, str(rawURLBase64.EncodeToString(b)[:len(b)]))
	}})
}

// aesState is an object of resty.aes: a key, a mode and what the mode needs.
type aesState struct {
	block cipher.Block
	mode  string
	iv    []byte
}

func (rt *Runtime) aes() *glua.LTable {
	class := rt.class("resty.aes", funcs{"encrypt": aesEncrypt, "decrypt": aesDecrypt})
	L := rt.state
	names := L.NewTable()
	for name := range hashes {
		names.RawSetString(name, str(name))
	}
	m := module(L, funcs{
		"cipher": func(L *glua.LState) int {
			t := L.NewTable()
			t.RawSetString("size", num(L.OptInt(1, 128)))
			t.RawSetString("cipher", str(optText(L, 2, "cbc")))
			return ret(L, t)
		},
		"new": func(L *glua.LState) int {
			key := []byte(checkText(L, 2))
			size, _ := number(field(L.Get(4), "size"))
			if size == 0 {
				size = 128
			}
			s := &aesState{mode: stringField(L.Get(4), "cipher", "cbc")}
			iv, given := text(field(L.Get(5), "iv"))
			if !given {
				unsupported(L, "resty.aes without an iv")
			}
			if field(L.Get(5), "method") != glua.LNil {
				unsupported(L, "resty.aes with a method of its own")
			}
			if len(key) != size/8 {
				return fail(L, "bad key length")
			}
			s.iv = []byte(iv)
			if s.mode != "ecb" && s.mode != "gcm" && len(iv) != aes.BlockSize {
				return fail(L, "bad iv")
			}
			var err error
			if s.block, err = aes.NewCipher(key); err != nil {
				return fail(L, err.Error())
			}
			return ret(L, object(L, class, s))
		},
	})
	m.RawSetString("hash", names)
	return m
}

func pad(b []byte) []byte {
	n := aes.BlockSize - len(b)%aes.BlockSize
	for i := 0; i < n; i++ {
		b = append(b, byte(n))
	}
	return b
}

func unpad(b []byte) ([]byte, bool) {
	if len(b) == 0 || len(b)%aes.BlockSize != 0 {
		return nil, false
	}
	n := int(b[len(b)-1])
	if n == 0 || n > aes.BlockSize {
		return nil, false
	}
	for _, c := range b[len(b)-n:] {
		if int(c) != n {
			return nil, false
		}
	}
	return b[:len(b)-n], true
}

// ecb applies a block cipher block by block.
func ecb(b []byte, one func(dst, src []byte)) {
	for ; len(b) >= aes.BlockSize; b = b[aes.BlockSize:] {
		one(b, b)
	}
}

func aesEncrypt(L *glua.LState) int {
	s := self[*aesState](L)
	in := []byte(checkText(L, 2))
	switch s.mode {
	case "cbc":
		b := pad(in)
		cipher.NewCBCEncrypter(s.block, s.iv).CryptBlocks(b, b)
		return ret(L, str(string(b)))
	case "ecb":
		b := pad(in)
		ecb(b, s.block.Encrypt)
		return ret(L, str(string(b)))
	case "ctr":
		cipher.NewCTR(s.block, s.iv).XORKeyStream(in, in)
		return ret(L, str(string(in)))
	case "gcm":
		g, err := cipher.NewGCMWithNonceSize(s.block, len(s.iv))
		if err != nil {
			return fail(L, err.Error())
		}
		sealed := g.Seal(nil, s.iv, in, nil)
		cut := len(sealed) - g.Overhead()
		return ret(L, list(L, str(string(sealed[:cut])), str(string(sealed[cut:]))))
	}
	unsupported(L, "resty.aes with "+s.mode)
	return 0
}

func aesDecrypt(L *glua.LState) int {
	s := self[*aesState](L)
	in := []byte(checkText(L, 2))
	switch s.mode {
	case "cbc", "ecb":
		if len(in) == 0 || len(in)%aes.BlockSize != 0 {
			return ret(L, glua.LNil)
		}
		if s.mode == "cbc" {
			cipher.NewCBCDecrypter(s.block, s.iv).CryptBlocks(in, in)
		} else {
			ecb(in, s.block.Decrypt)
		}
		out, ok := unpad(in)
		if !ok {
			return ret(L, glua.LNil)
		}
		return ret(L, str(string(out)))
	case "ctr":
		cipher.NewCTR(s.block, s.iv).XORKeyStream(in, in)
		return ret(L, str(string(in)))
	case "gcm":
		g, err := cipher.NewGCMWithNonceSize(s.block, len(s.iv))
		if err != nil {
			return fail(L, err.Error())
		}
		out, err := g.Open(nil, s.iv, append(in, checkText(L, 3)...), nil)
		if err != nil {
			return ret(L, glua.LNil)
		}
		return ret(L, str(string(out)))
	}
	unsupported(L, "resty.aes with "+s.mode)
	return 0
}
