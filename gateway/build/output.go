package build

import (
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/facetgateway/fgw/sdk/wire"
)

// maxMessage bounds one diagnostic's text.
const maxMessage = 2 << 10

// position is how the toolchain begins a line about a place in a file; a //line comment may name any kind of file.
var position = regexp.MustCompile(`^(?:\./|/src/|\.\./)?([^:\s][^:]*\.[A-Za-z0-9]+):([0-9]{1,9}):(?:([0-9]{1,9}):)? ?(.*)$`)

// crash is how the last words of a program of the toolchain's begin; the stacks that follow are of no use to the author.
var crash = regexp.MustCompile(`^(?:fatal error|panic|runtime|unexpected fault address|SIG[A-Z]+): ?`)

// where is what the go command adds to say where it looked: a path of the sandbox's.
var where = regexp.MustCompile(` \(/go/src/[^)]*\)| in /src\b`)

// parseOutput makes diagnostics of what the toolchain said: at least one, at most maxDiagnostics, each with the file as its
// author named it. The text is a stranger's: it may be anything.
func parseOutput(output string) []wire.Diagnostic {
	var found []wire.Diagnostic
	for line := range strings.Lines(strings.ToValidUTF8(output, "�")) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.TrimSpace(line) == "", strings.HasPrefix(line, "# "), strings.Contains(line, ": too many errors"):
			continue
		case (line[0] == '\t' || line[0] == ' ') && len(found) > 0:
			last := &found[len(found)-1]
			last.Message = cut(last.Message + "\n" + clean(line))
			continue
		case len(found) == maxDiagnostics:
			return found
		case crash.MatchString(line):
			return append(found, wire.Diagnostic{Message: cut("the toolchain crashed: " + clean(line))})
		}
		found = append(found, parseLine(line))
	}
	if len(found) == 0 {
		found = append(found, wire.Diagnostic{Message: "the build failed, and the toolchain did not say why"})
	}
	return found
}

func parseLine(line string) wire.Diagnostic {
	m := position.FindStringSubmatch(line)
	if m == nil {
		return wire.Diagnostic{Message: cut(clean(line))}
	}
	return wire.Diagnostic{File: m[1], Line: number(m[2]), Column: number(m[3]), Message: cut(clean(m[4]))}
}

// clean leaves out paths of the sandbox, which say nothing to the author.
func clean(s string) string {
	s = where.ReplaceAllString(s, "")
	s = strings.ReplaceAll(s, sourceDir+"/", "")
	return strings.ReplaceAll(s, toolchainDir+"/pkg/tool/", "")
}

func cut(s string) string {
	if len(s) <= maxMessage {
		return s
	}
	s = s[:maxMessage]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "…"
}
