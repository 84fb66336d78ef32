package watch_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gefs9p/gefs"
	"gefs9p/ninep"
)

// attacks are texts that do something in a page that does not take them for text. All set the title.
var attacks = []string{
	`<script>document.title="owned"</script>`,
	`<img src=x onerror=document.title="owned">`,
	`"><svg onload=document.title="owned">`,
	`' onmouseover='document.title="owned"' autofocus onfocus='document.title="owned"`,
	`<title>owned<title>`,
	`{{.}}</style><script>document.title="owned"<script>`,
	`javascript:document.title="owned"`,
	"\u202edoog si siht",
}

// attacked is a rig in which all that clients and operators name is hostile.
func attacked(t testing.TB) *rig {
	r := newRig(t, gefs.Options{}, func(r *rig) { r.w.Disk = attacks[0] + attacks[2] })
	_, adm := r.attach("glenda", "%adm")
	f, err := adm.Walk("users")
	if err == nil {
		err = f.Open(ninep.OWRITE | ninep.OTRUNC)
	}
	text := "-1:adm::glenda\n0:none::\n1:glenda:glenda:\n"
	for i, a := range attacks {
		name := strings.NewReplacer(":", "", "/", "", ",", "", " ", "_", "\u202e", "").Replace(a)
		text += fmt.Sprintf("%d:%s::glenda\n", 100+i, name)
	}
	if err == nil {
		_, err = f.WriteAt([]byte(text), 0)
	}
	if err == nil {
		err = f.Clunk()
	}
	if err == nil {
		err = r.fs.ReloadUsers()
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range r.fs.Users().Users() {
		if u.ID >= 100 {
			r.attach(u.Name, "main")
		}
	}
	_, root := r.attach("glenda", "main")
	for i, a := range attacks {
		name := strings.ReplaceAll(a, "/", "⁄")
		r.put(root, name, []byte("x"))
		r.label("main", name, i%2 == 0)
		r.log.Error(a, a, a, "file", name)
	}
	r.fs.Store().Latch(hostile(strings.Join(attacks, " ")))
	return r
}

func TestHostileNamesStayText(t *testing.T) {
	t.Parallel()
	r := attacked(t)
	_, body := r.get("/")
	for _, bad := range []string{"<script", "<img", "<svg onload", "onerror=document.title=\"", "<title>owned", "\u202e", "ZgotmplZ"} {
		if strings.Contains(body, bad) {
			t.Errorf("the page has %q in it", bad)
		}
	}
	for _, want := range []string{"&lt;img src=x onerror=", `\u202edoog`, "&lt;script&gt;"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page does not show %q", want)
		}
	}
	if got := strings.Count(body, "\u202e"); got > 0 {
		t.Errorf("%d times the direction of writing is turned", got)
	}
	_, body = r.get("/metrics")
	parseExposition(t, body)
}

// TestHostileNamesDoNothingInABrowser looks at the page without the policy that forbids scripts, so that nothing
// but the escaping is between the names and the browser; and at one with the same names unescaped, to see that
// they would do harm.
func TestHostileNamesDoNothingInABrowser(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("a browser takes some seconds")
	}
	chromium(t)
	r := attacked(t)
	bare := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		rec := httptest.NewRecorder()
		r.w.Handler(true).ServeHTTP(rec, req)
		rw.Header().Set("Content-Type", rec.Header().Get("Content-Type"))
		rw.Write(rec.Body.Bytes())
	}))
	defer bare.Close()
	title := func(dom string) string {
		_, rest, _ := strings.Cut(dom, "<title>")
		s, _, _ := strings.Cut(rest, "</title>")
		return s
	}
	dom := browse(t, "--dump-dom", bare.URL+"/?refresh=0")
	if got := title(dom); got == "owned" || !strings.Contains(got, "gefs9p") {
		t.Errorf("the title is %q", got)
	}
	if n := strings.Count(dom, "<script"); n > 0 {
		t.Errorf("the browser finds %d scripts", n)
	}
	for _, want := range []string{"Requests", "Blocks", "Snapshots", "</html>"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the browser shows no %q", want)
		}
	}
	file := filepath.Join(t.TempDir(), "harm.html")
	if err := os.WriteFile(file, []byte("<!DOCTYPE html><title>harmless</title>"+attacks[1]), 0o644); err != nil {
		t.Fatal(err)
	}
	if dom := browse(t, "--dump-dom", "--virtual-time-budget=2000", "file://"+file); title(dom) != "owned" {
		t.Errorf("the attack does nothing even unescaped: the title is %q", title(dom))
	}
}
