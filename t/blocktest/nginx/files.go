package nginx

import (
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gosix/gosix/t/blocktest/lua"
)

// types are the media types of the extensions that suites serve; nginx without a types
// block knows these three.
var types = map[string]string{".html": "text/html", ".gif": "image/gif", ".jpg": "image/jpeg"}

// file is where root or alias has the file of a URI.
func (r *request) file(uri string) string {
	if r.loc.alias != nil {
		return r.loc.alias.expand(r) + strings.TrimPrefix(uri, r.loc.path)
	}
	return strings.TrimSuffix(r.loc.settings.root.expand(r), "/") + uri
}

// files serves the file that the URI names.
func (r *request) files(loc *location) error {
	if r.loc = loc; loc.settings.root == nil && loc.alias == nil {
		r.logError("error", "%q is not found (2: No such file or directory)", r.URI)
		return &lua.ExitError{Status: 404}
	}
	if strings.HasSuffix(r.URI, "/") {
		for _, name := range loc.settings.index {
			if _, err := os.Stat(r.file(r.URI + name)); err == nil {
				return r.sendFile(r.file(r.URI + name))
			}
		}
		if _, err := os.Stat(r.file(r.URI)); err == nil {
			r.logError("error", "directory index of %q is forbidden", r.file(r.URI))
			return &lua.ExitError{Status: 403}
		}
	}
	return r.sendFile(r.file(r.URI))
}

func (r *request) sendFile(name string) error {
	if r.Method != "GET" && r.Method != "HEAD" {
		return &lua.ExitError{Status: 405}
	}
	info, err := os.Stat(name)
	if err == nil && info.IsDir() {
		return r.redirect(301, r.URI+"/")
	}
	text, err := os.ReadFile(name)
	if err != nil {
		r.logError("error", "open() %q failed (2: No such file or directory)", name)
		return &lua.ExitError{Status: 404}
	}
	mediaType, ok := types[path.Ext(name)]
	if !ok {
		mediaType = r.loc.settings.defaultType.expand(r)
	}
	at := info.ModTime().UTC()
	r.Status = 200
	r.OutHeader = append(r.OutHeader,
		lua.Field{Name: "Content-Type", Value: mediaType},
		lua.Field{Name: "Last-Modified", Value: at.Format(httpTime)},
		lua.Field{Name: "ETag", Value: `"` + strconv.FormatInt(at.Unix(), 16) + "-" + strconv.FormatInt(info.Size(), 16) + `"`},
		lua.Field{Name: "Accept-Ranges", Value: "bytes"})
	return r.whole(text)
}

// tryFiles takes the first file that is there, else the last word: a URI, a named
// location or =code.
func (r *request) tryFiles(loc *location) error {
	last := len(loc.tryFiles) - 1
	for _, t := range loc.tryFiles[:last] {
		uri := t.expand(r)
		info, err := os.Stat(filepath.FromSlash(r.file(uri)))
		if err == nil && info.IsDir() == strings.HasSuffix(uri, "/") {
			r.URI = uri
			return r.files(loc)
		}
	}
	to := loc.tryFiles[last].expand(r)
	if code, ok := strings.CutPrefix(to, "="); ok {
		status, err := strconv.Atoi(code)
		if err != nil {
			status = 500
		}
		return &lua.ExitError{Status: status}
	}
	return r.errorPage(errorPage{to: template{{text: to}}, status: 0}, 0)
}
