package browser

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// browser is a Chromium without a window, driven through chromedriver (W3C WebDriver).
type browser struct {
	t       testing.TB
	session string // its URL

	// patience is how long what has to happen may take, on a machine that does other things too.
	patience time.Duration
}

var driverPort = regexp.MustCompile(`started successfully on port (\d+)`)

// chromium starts a browser with a profile of its own. It resolves *.localhost to this machine by itself, and
// reaches nothing else.
func chromium(t testing.TB) *browser {
	t.Helper()
	program := need(t, "chromium", "chromium")
	driver := exec.Command(need(t, "chromedriver", "chromium-driver"), "--port=0")
	driver.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	said, err := driver.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := driver.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-driver.Process.Pid, syscall.SIGKILL) // its browser too, where it did not quit
		driver.Wait()
	})
	port := ""
	for lines := bufio.NewScanner(said); port == "" && lines.Scan(); {
		if m := driverPort.FindStringSubmatch(lines.Text()); m != nil {
			port = m[1]
		}
	}
	if port == "" {
		t.Fatal("chromedriver did not start")
	}
	go io.Copy(io.Discard, said)
	b := &browser{t: t, session: "http://127.0.0.1:" + port + "/session", patience: 30 * time.Second}
	var made struct{ SessionID string }
	b.call("POST", "", map[string]any{"capabilities": map[string]any{"alwaysMatch": map[string]any{
		"unhandledPromptBehavior": "accept",
		"goog:chromeOptions": map[string]any{"binary": program, "args": []string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
			"--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--user-data-dir=" + t.TempDir(),
			"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1",
		}},
	}}}, &made)
	b.session += "/" + made.SessionID
	t.Cleanup(func() { b.call("DELETE", "", nil, nil) })
	return b
}

// need finds a program, or skips the test.
func need(t testing.TB, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("needs %s: apt-get install %s", program, pkg)
	}
	return path
}

// call makes one call of the protocol.
func (b *browser) call(method, path string, in, out any) {
	b.t.Helper()
	if err := b.try(method, path, in, out); err != nil {
		b.t.Fatalf("%s %s: %v", method, path, err)
	}
}

func (b *browser) try(method, path string, in, out any) error {
	var body io.Reader
	if method == "POST" {
		if in == nil {
			in = struct{}{}
		}
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	r, err := http.NewRequest(method, b.session+path, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct{ Value json.RawMessage }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		var problem struct{ Error, Message string }
		json.Unmarshal(answer.Value, &problem)
		message, _, _ := strings.Cut(problem.Message, "\n")
		return fmt.Errorf("%s: %s", problem.Error, message)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer.Value, out)
}

func (b *browser) open(url string) {
	b.t.Helper()
	b.call("POST", "/url", map[string]string{"url": url}, nil)
}

// find gives the path of the first element that a CSS selector matches, once there is one.
func (b *browser) find(selector string) string {
	b.t.Helper()
	var found map[string]string
	b.until(selector+" is on the page", func() bool {
		return b.try("POST", "/element", map[string]string{"using": "css selector", "value": selector}, &found) == nil
	})
	for _, id := range found {
		return "/element/" + id
	}
	return ""
}

func (b *browser) click(selector string) {
	b.t.Helper()
	b.call("POST", b.find(selector)+"/click", nil, nil)
}

func (b *browser) write(selector, text string) {
	b.t.Helper()
	b.call("POST", b.find(selector)+"/value", map[string]string{"text": text}, nil)
}

// run runs a script in the page and gives what it returns, as JSON does.
func (b *browser) run(script string, args ...any) any {
	b.t.Helper()
	if args == nil {
		args = []any{}
	}
	var got any
	b.call("POST", "/execute/sync", map[string]any{"script": script, "args": args}, &got)
	return got
}

// see waits until the text of the first element that a selector matches holds a text.
func (b *browser) see(selector, text string) {
	b.t.Helper()
	var last string
	defer func() {
		if b.t.Failed() {
			b.t.Logf("%s was last: %s", selector, last)
		}
	}()
	b.until(fmt.Sprintf("%s says %q", selector, text), func() bool {
		var got any
		err := b.try("POST", "/execute/sync", map[string]any{"script": "return document.querySelector(arguments[0])?.innerText ?? ''", "args": []any{selector}}, &got)
		last = fmt.Sprint(got)
		return err == nil && strings.Contains(last, text)
	})
}

// until waits for something to become true: the browser tells nobody when it has.
func (b *browser) until(what string, holds func() bool) {
	b.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(b.patience); !holds(); <-tick.C {
		if time.Now().After(end) {
			b.t.Fatalf("waited %s, and it never came true that %s", b.patience, what)
		}
	}
}

// look sets the window's size, and whether the page is to be light or dark.
func (b *browser) look(width, height int, scheme string) {
	b.t.Helper()
	b.cdp("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
	b.cdp("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]string{"name": "prefers-color-scheme", "value": scheme}}})
}

func (b *browser) cdp(command string, params map[string]any) {
	b.t.Helper()
	b.call("POST", "/goog/cdp/execute", map[string]any{"cmd": command, "params": params}, nil)
}

// picture keeps a picture of the page, where pictures are wanted.
func (b *browser) picture(name string) {
	b.t.Helper()
	if *pictures == "" {
		return
	}
	var text string
	b.call("GET", "/screenshot", nil, &text)
	png, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*pictures, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
