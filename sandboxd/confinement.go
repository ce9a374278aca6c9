package sandboxd

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
	"github.com/facetgateway/fgw/sandboxd/protocol"
)

// confinement reads back from the kernel how a process is confined. That Landlock was applied is the one thing
// which the kernel has no way to tell.
func (p *process) confinement(landlock bool) (protocol.Confinement, error) {
	c := protocol.Confinement{Landlock: landlock, Namespaces: []string{}, Cgroups: map[string]string{}}
	dir := "/proc/" + strconv.Itoa(p.pid)
	status, err := readStatus(dir + "/status")
	if err != nil {
		return c, err
	}
	if uid := strings.Fields(status["Uid"]); len(uid) > 0 {
		c.UID, _ = strconv.Atoi(uid[0])
	}
	c.NoNewPrivs = status["NoNewPrivs"] == "1"
	c.Seccomp = map[string]string{"0": "disabled", "1": "strict", "2": "filter"}[status["Seccomp"]]
	var caps uint64
	for _, set := range []string{"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"} {
		v, err := strconv.ParseUint(status[set], 16, 64)
		if err != nil {
			return c, fmt.Errorf("read %s: %w", set, err)
		}
		caps |= v
	}
	c.Capabilities = strconv.FormatUint(caps, 16)
	for _, ns := range []string{"cgroup", "ipc", "mnt", "net", "pid", "uts", "user"} {
		theirs, err := os.Readlink(dir + "/ns/" + ns)
		if err != nil {
			return c, err
		}
		if ours, _ := os.Readlink("/proc/self/ns/" + ns); ours != theirs {
			c.Namespaces = append(c.Namespaces, ns)
		}
	}
	paths, err := cgroup.PathsOf(strconv.Itoa(p.pid))
	if err != nil {
		return c, err
	}
	for _, controller := range []string{"memory", "pids", "cpu", "cpuacct"} {
		if path, ok := paths[controller]; ok {
			c.Cgroups[controller] = path
		} else if path, ok := paths[""]; ok && controller != "cpuacct" {
			c.Cgroups[controller] = path
		}
	}
	return c, nil
}

// readStatus reads a process's status file.
func readStatus(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fields := map[string]string{}
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok {
			fields[k] = strings.TrimSpace(v)
		}
	}
	return fields, nil
}
