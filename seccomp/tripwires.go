package seccomp

// tripwires are calls that no application makes: whoever tries one is attacking
// the kernel, and is stopped before trying the next.
func tripwires() []Rule {
	groups := []struct {
		why   string
		calls []string
	}{
		{"reads or steers another process", []string{
			"ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "pidfd_getfd",
			"move_pages", "migrate_pages", "perf_event_open", "lookup_dcookie",
		}},
		{"runs programs in the kernel", []string{
			"bpf", "io_uring_setup", "io_uring_enter", "io_uring_register",
			"init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
		}},
		{"changes mounts or namespaces", []string{
			"mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "fsopen", "fsconfig", "fsmount",
			"fspick", "open_tree", "move_mount", "mount_setattr", "open_by_handle_at", "name_to_handle_at",
		}},
		{"keys of the kernel", []string{"keyctl", "add_key", "request_key"}},
		{"has been the tool of many exploits", []string{
			"userfaultfd", "splice", "tee", "vmsplice", "modify_ldt", "personality", "memfd_secret",
			"fanotify_init", "mbind", "set_mempolicy", "add_key", "uselib", "remap_file_pages",
		}},
		{"administers the machine", []string{
			"reboot", "swapon", "swapoff", "acct", "quotactl", "syslog", "settimeofday", "clock_settime",
			"adjtimex", "clock_adjtime", "sethostname", "setdomainname", "vhangup", "iopl", "ioperm", "nfsservctl",
		}},
	}
	var rules []Rule
	seen := map[string]bool{}
	for _, g := range groups {
		for _, c := range g.calls {
			if !seen[c] {
				seen[c] = true
				rules = append(rules, Rule{Call: c, Arch: only86[c], Needs: g.why})
			}
		}
	}
	// Too new for libseccomp 2.5 to name; the same number everywhere.
	for _, c := range []struct {
		nr   int
		name string
	}{
		{453, "map_shadow_stack"}, {457, "statmount"}, {458, "listmount"},
		{460, "lsm_set_self_attr"}, {463, "setxattrat"}, {467, "open_tree_attr"}, {469, "file_setattr"}, {470, "listns"},
	} {
		rules = append(rules, Rule{Call: c.name, Nr: c.nr, Needs: "mounts, attributes, namespaces: interfaces newer than this policy"})
	}
	return rules
}

// only86 are calls that other architectures don't have.
var only86 = map[string]string{"modify_ldt": "amd64", "iopl": "amd64", "ioperm": "amd64", "uselib": "amd64"}

// except gives the tripwires without some calls that a trusted process does make.
func except(rules []Rule, calls ...string) []Rule {
	var kept []Rule
next:
	for _, r := range rules {
		for _, c := range calls {
			if r.Call == c {
				continue next
			}
		}
		kept = append(kept, r)
	}
	return kept
}
