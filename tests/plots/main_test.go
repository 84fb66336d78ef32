package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPicturesHaveAllPanels(t *testing.T) {
	for _, panels := range pictures {
		hasAllPanels(t, panels)
	}
}

func hasAllPanels(t *testing.T, panels picture) {
	dir := t.TempDir()
	in, out := filepath.Join(dir, "growth.json"), filepath.Join(dir, "growth.svg")
	var b strings.Builder
	for _, row := range panels {
		for _, p := range row {
			b.WriteString(`,"` + p.curve + `":[{"x":1,"y":2},{"x":1000,"y":3}]`)
		}
	}
	write(t, in, "{"+b.String()[1:]+"}")
	if err := run([]string{in, out}); err != nil {
		t.Fatal(err)
	}
	svg, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range panels {
		for _, p := range row {
			if !strings.Contains(string(svg), p.title) {
				t.Errorf("no panel %q", p.title)
			}
		}
	}
}

func TestFiguresThatAreMissingAreAnError(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "growth.json")
	for _, text := range []string{"", "{}", `{"create":[]}`, `{"levels":[{"x":1,"y":2}]}`, "nonsense"} {
		write(t, in, text)
		if err := run([]string{in, filepath.Join(dir, "out.svg")}); err == nil {
			t.Errorf("%q makes a picture", text)
		}
	}
	if err := run(nil); err == nil {
		t.Error("no arguments make a picture")
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}
