package sandboxd

import (
	"fmt"
	"slices"

	"github.com/facetgateway/fgw/sandboxd/cgroup"
)

// Layer is one row of what a facet is confined by: in use or not, why, and what
// a person can do about it.
type Layer struct {
	Layer    string `json:"layer"`
	Active   bool   `json:"active"`
	Required bool   `json:"required"`
	Detail   string `json:"detail"`
	Mend     string `json:"mend"`
}

// Options is what the administrator asks for.
type Options struct {
	Insecure []string // required layers without which code may run all the same
}

// Decision is how this machine's gateway confines.
type Decision struct {
	Layers  []Layer
	Missing []Layer // required, not to be had, and not waived

	UserNS      bool // everything happens within a user namespace, as one user
	Namespaces  bool
	Identity    bool
	Cgroups     cgroup.Mode // None where groups can't be had
	Seccomp     bool
	LandlockABI int
	MDWE        bool
}

const (
	runAsRoot    = "run fgw as root"
	delegate     = "as root, run fgw as root; as an ordinary user with systemd and cgroup v2: systemd-run --user --scope -p Delegate=yes fgw serve …"
	allowUserNS  = "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces, or kernel.apparmor_restrict_unprivileged_userns=0), or run fgw as root"
	newerKernel  = "a kernel of version %s or newer"
	noFilter     = "a kernel with CONFIG_SECCOMP_FILTER; inside a container, one that permits the seccomp system call"
	landlockMend = "a kernel with Landlock (5.13 or newer) that lists it in the boot parameter lsm="
)

// Plan decides from probes alone which layers are used, what is missing, and what would mend it. `doctor` shows it,
// Serve acts on it.
func Plan(p Probes, o Options) Decision {
	d := Decision{
		UserNS:      !p.Root && p.UserNS == nil && p.Namespaces == nil,
		Namespaces:  p.Namespaces == nil,
		Identity:    p.Root && p.Identity == nil,
		Seccomp:     p.Seccomp == nil,
		LandlockABI: p.LandlockABI,
		MDWE:        p.MDWE == nil,
	}
	if p.Memory == nil {
		d.Cgroups = p.Cgroups
	}
	groups := "cgroup " + p.Cgroups.String()
	d.row("namespaces", true, p.Namespaces, "pid for each facet; mount, net, ipc, uts and cgroup empty and shared", namespacesMend(p))
	if p.Root {
		d.row("uid", true, p.Identity, "a user of its own for each facet", "map more user ids into this container, or leave some out of /etc/subuid")
	} else {
		d.row("uid", false, p.Identity, "", runAsRoot)
	}
	d.row("memory", true, p.Memory, groups+", out-of-memory kills are the facet's own", delegate)
	d.row("pids", true, p.Memory, groups, delegate)
	d.row("no_new_privs", true, p.NoNewPrivs, "no program can raise privileges", "a newer kernel")
	d.row("seccomp", true, p.Seccomp, "an allow-list of system calls, with tripwires that kill", noFilter)
	d.row("cpu", false, p.CPU, groups+", weight and quota", delegate)
	d.row("memory_swap", false, p.Swap, "no swap for facets", "boot with swapaccount=1")
	d.row("landlock", false, landlockError(p), fmt.Sprintf("version %d of its interface", p.LandlockABI), landlockMend)
	d.row("mdwe", false, p.MDWE, "no memory becomes executable", fmt.Sprintf(newerKernel, "6.3"))
	killMend := fmt.Sprintf(newerKernel, "5.14")
	if p.Cgroups != cgroup.V2 {
		killMend = "nothing needs mending: the facet's pid namespace dies as a whole"
	}
	d.row("cgroup_kill", false, p.CgroupKill, "a facet's group dies as a whole", killMend)
	d.row("files", false, p.Files, fmt.Sprintf("room for %d facets at once, or more", facetsWanted), filesMend)
	for _, l := range d.Layers {
		if l.Required && !l.Active && !slices.Contains(o.Insecure, l.Layer) {
			d.Missing = append(d.Missing, l)
		}
	}
	return d
}

// row adds a layer: active unless err, which is then its detail.
func (d *Decision) row(name string, required bool, err error, detail, mend string) {
	l := Layer{Layer: name, Active: err == nil, Required: required, Detail: detail}
	if err != nil {
		l.Detail, l.Mend = err.Error(), mend
	}
	d.Layers = append(d.Layers, l)
}

func namespacesMend(p Probes) string {
	if p.Root {
		return "a kernel of version 5.12 or newer; inside a container, one with CAP_SYS_ADMIN and permission for clone3 and mount"
	}
	return allowUserNS
}

func landlockError(p Probes) error {
	if p.LandlockABI == 0 {
		return fmt.Errorf("this kernel has no Landlock, or it is not switched on")
	}
	return nil
}

// RequiredLayers names the layers without which Serve refuses to run code, unless Config.Insecure waives one.
func RequiredLayers() []string {
	return []string{"namespaces", "uid", "memory", "pids", "no_new_privs", "seccomp"}
}
