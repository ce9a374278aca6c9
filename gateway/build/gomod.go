package build

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// defaultModule is the path of a source that has no go.mod.
const defaultModule = "app"

// modFile is what of a go.mod has a meaning here.
type modFile struct {
	path      string
	goVersion string // "" where it has none
}

var (
	modulePath = regexp.MustCompile(`^[A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*$`)
	goVersion  = regexp.MustCompile(`^1\.[0-9]{1,3}(\.[0-9]{1,3}|rc[0-9]{1,2}|beta[0-9]{1,2})?$`)
)

// directiveLine is one directive of a go.mod, those in blocks with the block's word in front.
type directiveLine struct {
	line     int
	words    []string
	indirect bool // marked as // indirect
}

// goMod reads the source's go.mod ("" for none) and checks what it asks for.
func (c *checker) goMod(text string) modFile {
	m := modFile{path: defaultModule}
	for _, d := range directives(text) {
		word, args := d.words[0], d.words[1:]
		bad := func(format string, a ...any) { c.add("go.mod", d.line, 1, format, a...) }
		switch word {
		case "module":
			if len(args) != 1 || !validModule(args[0]) || args[0] == "std" || args[0] == "cmd" || within(args[0], sdkModule) {
				bad("module %s: no path that a source can have", quoted(args))
			} else {
				m.path = args[0]
			}
		case "go":
			if len(args) != 1 || !goVersion.MatchString(args[0]) {
				bad("go %s: no version of Go", quoted(args))
			} else if have := strings.TrimPrefix(c.toolchain, "go"); newer(args[0], have) {
				bad("go %s: this gateway builds with Go %s", args[0], have)
			} else {
				m.goVersion = args[0]
			}
		case "require":
			c.required(d, bad)
		case "retract":
		case "toolchain", "replace", "exclude", "tool", "godebug", "ignore":
			bad("%s is refused in go.mod: the gateway chooses toolchain and modules", word)
		default:
			bad("%.40q is no directive of go.mod", word)
		}
	}
	return m
}

// validModule reports whether a module can have that path. It becomes part of file names.
func validModule(path string) bool {
	return len(path) <= maxName && modulePath.MatchString(path) && !strings.Contains("/"+path+"/", "/../") && !strings.Contains("/"+path+"/", "/./")
}

// required checks one requirement against what is allowed.
func (c *checker) required(d directiveLine, bad func(string, ...any)) {
	if len(d.words) != 3 {
		bad("require wants a path and a version")
		return
	}
	path, version := d.words[1], d.words[2]
	if path == sdkModule || d.indirect {
		return // whatever the version: the SDK is the gateway's own, and what a module needs comes with it
	}
	for _, m := range c.tree.requires {
		if m.Path == path {
			if m.Version != version {
				bad("%s: this gateway allows %s", quoted(d.words[1:]), m.Version)
			}
			return
		}
	}
	bad("module %s is not among those that this gateway allows; its administrator can allow it: fgw modules allow %s@%s", quoted(d.words[1:2]), quoted(d.words[1:2]), quoted(d.words[2:]))
}

// quoted shows words of a source's, cut short.
func quoted(words []string) string {
	s := strings.Join(words, " ")
	if !printable(s) || len(s) > 200 {
		return fmt.Sprintf("%.200q", s)
	}
	return s
}

// directives splits a go.mod into its directives. What is no go.mod at all gives directives that nobody knows.
func directives(text string) (list []directiveLine) {
	block := ""
	for i, line := range strings.Split(text, "\n") {
		line, comment, _ := strings.Cut(line, "//")
		words := modWords(line)
		indirect := strings.TrimSpace(comment) == "indirect"
		switch {
		case len(words) == 0:
		case block != "" && words[0] == ")":
			block = ""
		case block != "":
			list = append(list, directiveLine{i + 1, append([]string{block}, words...), indirect})
		case len(words) == 2 && words[1] == "(":
			block = words[0]
		default:
			list = append(list, directiveLine{i + 1, words, indirect})
		}
	}
	return list
}

// modWords splits a line at blanks; a word may be quoted.
func modWords(line string) []string {
	words := strings.Fields(line)
	for i, w := range words {
		if s, err := strconv.Unquote(w); err == nil && !strings.ContainsAny(s, " \t") {
			words[i] = s
		}
	}
	return words
}

// newer reports whether Go version a is newer than b; both are 1.N, 1.N.P, or 1.NrcP.
func newer(a, b string) bool {
	x, y := versionParts(a), versionParts(b)
	for i := range x {
		if x[i] != y[i] {
			return x[i] > y[i]
		}
	}
	return false
}

// versionParts orders versions: 1.26 before 1.26rc1, as the language version stands before all its releases,
// and that before 1.26.0.
func versionParts(v string) (p [4]int) {
	fmt.Sscanf(v, "%d.%d", &p[0], &p[1])
	rest := strings.TrimLeft(strings.TrimPrefix(v, fmt.Sprintf("%d.%d", p[0], p[1])), " ")
	switch {
	case strings.HasPrefix(rest, "beta"):
		p[2], p[3] = 1, number(rest[4:])
	case strings.HasPrefix(rest, "rc"):
		p[2], p[3] = 2, number(rest[2:])
	case strings.HasPrefix(rest, "."):
		p[2], p[3] = 3, number(rest[1:])
	}
	return p
}

func number(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}
