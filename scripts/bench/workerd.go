package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// workerd is the peer: Cloudflare's runtime, with a supervisor whose facet runs code that was loaded at run time. It
// is none of this program's dependencies: it comes from the npm registry, and only when it is asked for.
type workerd struct{ addr string }

// envPeers asks for the peers; withoutPeer is the note of the rows that need one.
const (
	envPeers    = "BENCH_PEERS"
	envWorkerd  = "BENCH_WORKERD" // an executable that is here already
	withoutPeer = "workerd was not measured: " + envPeers + "=1 installs it from the npm registry"
)

// startPeer starts workerd where it was asked for.
func (b *bench) startPeer() error {
	program := os.Getenv(envWorkerd)
	if program == "" && os.Getenv(envPeers) != "1" {
		return nil
	}
	dir := filepath.Join(b.dir, "workerd")
	if err := os.MkdirAll(filepath.Join(dir, "objects"), 0o755); err != nil {
		return err
	}
	if program == "" {
		npm := exec.Command("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", dir, "workerd")
		if said, err := npm.CombinedOutput(); err != nil {
			return fmt.Errorf("npm install workerd: %w\n%s", err, said)
		}
		// The package's own command is a script that is put right by a script; the executable is in the package of the platform.
		found, err := filepath.Glob(filepath.Join(dir, "node_modules/@cloudflare/workerd-linux-*/bin/workerd"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("npm installed no executable of workerd for this machine")
		}
		program = found[0]
	}
	addr, err := freeAddr()
	if err != nil {
		return err
	}
	files := map[string]string{"bench.capnp": fmt.Sprintf(peerConfig, addr, filepath.Join(dir, "objects")), "supervisor.js": peerSupervisor, "facet.js": peerFacet}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	cmd := exec.Command(program, "serve", "--experimental", filepath.Join(dir, "bench.capnp"))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = diesWithUs()
	if err := cmd.Start(); err != nil {
		return err
	}
	b.atEnd(func() { cmd.Process.Kill(); cmd.Wait() })
	b.peer = &workerd{addr}
	for end := time.Now().Add(answerTime); ; time.Sleep(50 * time.Millisecond) {
		// The first answer says that it works at all.
		if _, err = fetch("http://" + addr + "/increment"); err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("workerd does not answer: %w", err)
		}
	}
}

// freeAddr is one that nobody listened at a moment ago: workerd can't say which it was given.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

const peerConfig = `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .main),
    (name = "objects", disk = (path = "%[2]s", writable = true)),
  ],
  sockets = [(name = "http", address = "%[1]s", http = (), service = "main")],
);

const main :Workerd.Worker = (
  modules = [
    (name = "supervisor.js", esModule = embed "supervisor.js"),
    (name = "facet.txt", text = embed "facet.js"),
  ],
  compatibilityDate = "2026-01-01",
  compatibilityFlags = ["experimental", "nodejs_compat"],
  durableObjectNamespaces = [(className = "Supervisor", uniqueKey = "bench", enableSql = true)],
  durableObjectStorage = (localDisk = "objects"),
  bindings = [
    (name = "OBJECTS", durableObjectNamespace = "Supervisor"),
    (name = "LOADER", workerLoader = ()),
  ],
);
`

// peerSupervisor passes each request to its one facet, as the documentation of facets has it.
const peerSupervisor = `import { DurableObject } from "cloudflare:workers";
import code from "facet.txt";

export class Supervisor extends DurableObject {
  fetch(request) {
    const facet = this.ctx.facets.get("app", () => {
      const worker = this.env.LOADER.get("v1", () => ({
        compatibilityDate: "2026-01-01",
        mainModule: "facet.js",
        modules: { "facet.js": code },
        globalOutbound: null,
      }));
      return { class: worker.getDurableObjectClass("App") };
    });
    return facet.fetch(request);
  }
}

export default {
  fetch(request, env) {
    const name = new URL(request.url).searchParams.get("object") ?? "warm";
    return env.OBJECTS.get(env.OBJECTS.idFromName(name)).fetch(request);
  },
};
`

// peerFacet is what the app of the benchmarks is here: hello, and a durable increment. workerd's output gate
// holds the answer until the write is on disk.
const peerFacet = `import { DurableObject } from "cloudflare:workers";

export class App extends DurableObject {
  fetch(request) {
    if (!request.url.includes("/increment")) return new Response("hello\n");
    if (!this.ready) {
      this.ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS counter (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)");
      this.ctx.storage.sql.exec("INSERT OR IGNORE INTO counter VALUES (1, 0)");
      this.ready = true;
    }
    const n = this.ctx.storage.sql.exec("UPDATE counter SET n = n + 1 WHERE id = 1 RETURNING n").one().n;
    return new Response(n + "\n");
  }
}
`
