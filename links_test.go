package gefs9p

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// A document is a file of Markdown.
type document struct {
	anchors map[string]bool
	links   []string // targets as they are written
	names   []string // what stands between backticks
}

var (
	linkText = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	codeText = regexp.MustCompile("`([^`]+)`")
	heading  = regexp.MustCompile(`^#{1,6} (.*)$`)
)

// parse reads a document. What stands in fenced blocks is neither link nor heading.
func parse(text string) document {
	d := document{anchors: make(map[string]bool)}
	fenced := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			fenced = !fenced
		}
		if fenced {
			continue
		}
		if m := heading.FindStringSubmatch(line); m != nil {
			d.anchors[anchor(m[1])] = true
		}
		for _, m := range codeText.FindAllStringSubmatch(line, -1) {
			d.names = append(d.names, m[1])
		}
		for _, m := range linkText.FindAllStringSubmatch(codeText.ReplaceAllString(line, "code"), -1) {
			d.links = append(d.links, m[1])
		}
	}
	return d
}

// anchor returns the name under which a heading is linked to.
func anchor(title string) string {
	if m := linkText.FindStringIndex(title); m != nil {
		title = strings.TrimPrefix(title[:m[0]], "[")
	}
	var b strings.Builder
	for _, r := range strings.ToLower(title) {
		switch {
		case r == ' ' || r == '-':
			b.WriteByte('-')
		case r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			b.WriteRune(r)
		}
	}
	return b.String()
}

// documents returns the Markdown of the project, by path.
func documents(t *testing.T) map[string]document {
	t.Helper()
	docs := make(map[string]document)
	err := filepath.WalkDir(".", func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && p != "." && strings.HasPrefix(e.Name(), "."):
			return fs.SkipDir
		case e.IsDir() || filepath.Ext(p) != ".md":
			return nil
		}
		text, err := os.ReadFile(p)
		for i, line := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(line, "<<<<<<< ") || strings.HasPrefix(line, ">>>>>>> ") {
				t.Errorf("%s:%d: left over from a merge: %s", p, i+1, line)
			}
		}
		docs[filepath.ToSlash(p)] = parse(string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return docs
}

// target returns the path and the anchor that a link in the file from leads to; inside is false if it leads
// out of the project.
func target(from, link string) (to, at string, inside bool) {
	if strings.Contains(link, "://") || strings.HasPrefix(link, "mailto:") {
		return "", "", false
	}
	to, at, _ = strings.Cut(link, "#")
	if to == "" {
		return from, at, true
	}
	return path.Join(path.Dir(from), to), at, true
}

func TestLinksAmongDocumentsLeadSomewhere(t *testing.T) {
	docs := documents(t)
	for _, from := range slices.Sorted(maps.Keys(docs)) {
		for _, link := range docs[from].links {
			to, at, inside := target(from, link)
			if !inside {
				continue
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: link to %s: %v", from, link, err)
			} else if d, ok := docs[to]; ok && at != "" && !d.anchors[at] {
				t.Errorf("%s: link to %s: %s has no such heading", from, link, to)
			}
		}
	}
}

// TestEveryDocumentIsInTheIndex: what is in docs is linked from docs/README.md, so that a newcomer finds
// it; pictures and data from any document.
func TestEveryDocumentIsInTheIndex(t *testing.T) {
	docs := documents(t)
	linked := make(map[string]bool)
	for from, d := range docs {
		for _, link := range d.links {
			if to, _, inside := target(from, link); inside && (from == "docs/README.md" || path.Ext(to) != ".md") {
				linked[to] = true
			}
		}
	}
	err := filepath.WalkDir("docs", func(p string, e fs.DirEntry, err error) error {
		if p = filepath.ToSlash(p); err == nil && !e.IsDir() && p != "docs/README.md" && !linked[p] {
			t.Errorf("no link leads to %s: it belongs into docs/README.md", p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFilesThatDocumentsNameExist looks at what stands between backticks and begins with a folder of ours, such as
// `scripts/bench` or `mount/errno.go`.
func TestFilesThatDocumentsNameExist(t *testing.T) {
	docs := documents(t)
	plain := regexp.MustCompile(`^[A-Za-z0-9_./-]+$`)
	identifier := regexp.MustCompile(`\.[A-Z][A-Za-z0-9]*$`) // of a package
	for _, from := range slices.Sorted(maps.Keys(docs)) {
		for _, name := range docs[from].names {
			name, _, _ = strings.Cut(name, " ") // a command's arguments
			name = strings.TrimPrefix(strings.TrimSuffix(name, "/..."), "./")
			name = identifier.ReplaceAllString(name, "")
			first, _, nested := strings.Cut(name, "/")
			if !nested || !plain.MatchString(name) {
				continue
			}
			if info, err := os.Stat(first); err != nil || !info.IsDir() {
				continue
			}
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s names %s: %v", from, name, err)
			}
		}
	}
}

// TestDocumentsAreReadAsTheyAreShown is about this file.
func TestDocumentsAreReadAsTheyAreShown(t *testing.T) {
	d := parse("# A title, `code` & more: [link](x.md#y)\n```sh\n# no heading [no](link)\n```\n[see](b.md) and `not [a](link)` [and](#c)\n")
	if want := []string{"x.md#y", "b.md", "#c"}; !slices.Equal(d.links, want) {
		t.Errorf("links %q, want %q", d.links, want)
	}
	if want := map[string]bool{"a-title-code--more-link": true}; !maps.Equal(d.anchors, want) {
		t.Errorf("anchors %v, want %v", d.anchors, want)
	}
	for _, tt := range []struct{ from, link, to, at string }{
		{"docs/a.md", "b.md#c", "docs/b.md", "c"}, {"docs/a.md", "../README.md", "README.md", ""}, {"docs/a.md", "#c", "docs/a.md", "c"},
	} {
		if to, at, inside := target(tt.from, tt.link); to != tt.to || at != tt.at || !inside {
			t.Errorf("%s in %s leads to %q, %q", tt.link, tt.from, to, at)
		}
	}
	if _, _, inside := target("a.md", "https://example.com/b.md"); inside {
		t.Error("another site is taken for a file")
	}
}
