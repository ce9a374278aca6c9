package sandboxd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"sync"
	"syscall"

	"github.com/facetgateway/fgw/sandboxd/confine"
	"github.com/facetgateway/fgw/sandboxd/protocol"
	"golang.org/x/sys/unix"
)

// Where things lie in a builder's world. Package build, whose process it is, relies on them.
const (
	buildToolchain = "/go"    // the Go toolchain, read-only
	buildModules   = "/mod"   // what may be imported, read-only
	buildCache     = "/cache" // compiled packages: read-only, but for the builder that warms it
	buildSources   = "/src"
	buildScratch   = "/tmp"
	buildSeed      = "/seed"      // for the builder that warms the cache: the administrator's own, read-only
	buildCopier    = "/fgw-cache" // and this program, which copies from it
)

// Sizes of a builder's scratch trees. They are in memory and charged to the builder, whose
// limit is usually met first.
const (
	sourceBytes  = 64 << 20
	scratchBytes = 1 << 30
)

// Names below the data directory. The gateway writes the module trees, sandboxd makes the cache.
const (
	buildDir   = "build"
	cacheDir   = "cache"
	modulesDir = "modules"
)

// Shares of CPU time against a facet's 100: somebody waits for a build, but everybody for the facets; nobody
// waits for the filling of the cache but the first build.
const (
	buildWeight = 50
	warmWeight  = 20
)

var (
	errNoToolchain   = errors.New("this gateway was started without a Go toolchain")
	errNoBuildWorld  = errors.New("sources are built only where namespaces can be had")
	errNoModulesTree = errors.New("no such tree of modules")
)

// builds are the builders that run.
type builds struct {
	mu      sync.Mutex // guards the fields below
	running map[*process]bool
	closed  bool
	wg      sync.WaitGroup // one per builder being started or running
}

func (b *builds) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.wg.Add(1)
	return true
}

// enter notes a builder that runs; one that comes too late is killed at once.
func (b *builds) enter(p *process) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.running == nil {
		b.running = map[*process]bool{}
	}
	b.running[p] = true
	if b.closed {
		p.kill()
	}
}

func (b *builds) leave(p *process) {
	b.mu.Lock()
	delete(b.running, p)
	b.mu.Unlock()
	b.wg.Done()
}

// stop kills every builder and waits until what they held is given back.
func (b *builds) stop() {
	b.mu.Lock()
	b.closed = true
	for p := range b.running {
		p.kill()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// startBuild starts a builder: a child of sandboxd's own and not of the launcher's, since it has a file
// system of its own. Its user and its group are like a facet's.
func (s *server) startBuild(id uint64, b protocol.Build, job, output int) (*process, error) {
	switch {
	case s.cfg.Toolchain == "":
		return nil, errNoToolchain
	case !s.plan.Namespaces:
		return nil, errNoBuildWorld
	case !s.builds.begin():
		return nil, errStopped
	}
	p := &process{id: id, name: "a builder", uid: s.facets.one, index: -1, limits: b.Limits}
	err := s.buildMeans(p, b)
	if err == nil {
		err = s.forkBuild(p, b, job, output)
	}
	if err != nil {
		s.endBuild(p, b)
		return nil, err
	}
	p.expendable() // what it starts inherits it
	s.builds.enter(p)
	go func() {
		<-p.done
		s.endBuild(p, b)
	}()
	return p, nil
}

// buildMeans takes a user and a group for a builder.
func (s *server) buildMeans(p *process, b protocol.Build) (err error) {
	if s.facets.uids != nil {
		if b.Warm {
			p.uid = s.warmUID()
		} else if uid, ok := s.facets.uids.take(); ok {
			p.uid = uid
		} else {
			return errTooMany
		}
	}
	if s.slots != nil {
		limits := facetLimits(b.Limits)
		limits.Weight = buildWeight
		if b.Warm {
			limits.Weight = warmWeight
		}
		p.group, err = s.slots.alone.take(limits)
	}
	return err
}

// endBuild gives back what a builder held.
func (s *server) endBuild(p *process, b protocol.Build) {
	if p.group != nil {
		s.slots.remove(p.group, nil)
	}
	if s.facets.uids != nil && !b.Warm && p.uid != s.facets.one {
		s.facets.uids.give(p.uid)
	}
	s.builds.leave(p)
}

// warmUID is the user who owns the build cache: the last of the directory's, given to nobody else. So no
// builder could change what others are built from, not even where it may write.
func (s *server) warmUID() int {
	if s.facets.uids == nil {
		return s.facets.one
	}
	return s.uid + uidsPerDirectory - 1
}

// forkBuild starts the builder's process in its world.
func (s *server) forkBuild(p *process, b protocol.Build, job, output int) error {
	profile, err := s.plan.profile("builder", confine.Builder)
	if err != nil {
		return err
	}
	modules, err := s.data.openBelow(buildDir, modulesDir, strconv.FormatInt(b.Tree, 10))
	if err != nil {
		return fmt.Errorf("%w: %w", errNoModulesTree, err)
	}
	defer modules.Close()
	cache, err := s.data.buildCache(s.warmUID())
	if err != nil {
		return err
	}
	defer cache.Close()
	spec := s.spec()
	spec.Files = []int{int(s.null.Fd()), output, output, job}
	spec.UID, spec.GID = p.uid, p.uid
	spec.Env = append(spec.Env, "GOMAXPROCS="+strconv.FormatInt(max(1, (b.CPUMilli+999)/1000), 10))
	spec.Dir = "/"
	binds := []confine.Bind{
		{Path: s.cfg.Toolchain, Target: buildToolchain},
		{FD: int(modules.Fd()), Target: buildModules},
		{FD: int(cache.Fd()), Target: buildCache, Writable: b.Warm},
		{Path: os.DevNull, Target: os.DevNull, Writable: true, Devices: true},
		{Target: buildSources, Scratch: sourceBytes, Owner: p.uid},
		{Target: buildScratch, Scratch: scratchBytes, Owner: p.uid},
	}
	if exe := s.visibleProgram(); exe != nil && b.Warm && s.cfg.GoCache != "" {
		defer exe.Close()
		binds = append(binds,
			confine.Bind{Path: s.cfg.GoCache, Target: buildSeed, Optional: true},
			confine.Bind{FD: int(exe.Fd()), Target: buildCopier})
	}
	if spec.Root, err = confine.NewRoot(binds...); err != nil {
		return fmt.Errorf("prepare the builder's root: %w", err)
	}
	defer spec.Root.Close()
	if s.plan.LandlockABI >= 2 {
		if spec.Ruleset, err = s.buildRuleset(spec.Root, b.Warm); err != nil {
			return err
		}
		defer closeFDs([]int{spec.Ruleset})
	}
	return s.fork(p, profile, spec)
}

// buildRuleset allows to read everything in the world, to execute the toolchain alone, to write scratch alone.
func (s *server) buildRuleset(root *confine.Root, warm bool) (int, error) {
	allow := []confine.Allow{
		{FD: int(s.exe.Fd()), Right: confine.Exec},
		{FD: root.FD(), Right: confine.Read},
		{FD: root.Tree(buildToolchain), Right: confine.Exec},
		{FD: root.Tree(buildToolchain), Right: confine.Read},
		{FD: root.Tree(buildModules), Right: confine.Read},
		{FD: root.Tree(buildCache), Right: confine.Read},
		{FD: root.Tree(os.DevNull), Right: confine.Write},
		{FD: root.Tree(buildSources), Right: confine.Write},
		{FD: root.Tree(buildScratch), Right: confine.Write},
	}
	if warm {
		allow = append(allow, confine.Allow{FD: root.Tree(buildCache), Right: confine.Write})
		if seed := root.Tree(buildSeed); seed >= 0 {
			allow = append(allow, confine.Allow{FD: seed, Right: confine.Read})
		}
	}
	return confine.NewRuleset(s.plan.LandlockABI, false, allow...)
}

// visibleProgram opens this program where it lies in this mount namespace, as a mount can be made of it only there; nil
// where it does not, or not any longer.
func (s *server) visibleProgram() *os.File {
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", s.exe.Fd()))
	if err != nil {
		return nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil
	}
	own, err := s.exe.Stat()
	if found, err2 := f.Stat(); err != nil || err2 != nil || !os.SameFile(own, found) {
		f.Close()
		return nil
	}
	return f
}

// openBelow opens a directory below the data directory, part by part: what the gateway may have put in place
// of one, a link above all, is not followed.
func (d *dataDir) openBelow(parts ...string) (*os.File, error) {
	fd := d.fd()
	for _, part := range parts {
		next, err := unix.Openat(fd, part, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if fd != d.fd() {
			unix.Close(fd)
		}
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", part, err)
		}
		fd = next
	}
	return os.NewFile(uintptr(fd), parts[len(parts)-1]), nil
}

// buildCache opens the cache, making it where it is missing. One that belongs to someone else, as after a move
// of the data directory to another machine, is made anew.
func (d *dataDir) buildCache(uid int) (*os.File, error) {
	dir, err := d.openBelow(buildDir)
	if err != nil {
		return nil, fmt.Errorf("open the build cache: %w", err)
	}
	defer dir.Close()
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), cacheDir, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && int(st.Uid) != uid {
		err = removeBelow(d.path, cacheDir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("renew the build cache: %w", err)
	}
	switch err := unix.Mkdirat(int(dir.Fd()), cacheDir, 0o755); {
	case err == nil:
		if err := unix.Fchownat(int(dir.Fd()), cacheDir, uid, uid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return nil, fmt.Errorf("make the build cache: %w", err)
		}
	case err != syscall.EEXIST:
		return nil, fmt.Errorf("make the build cache: %w", err)
	}
	return d.openBelow(buildDir, cacheDir)
}

// removeBelow removes what is in the build directory under a name; os.Root follows no link out of it.
func removeBelow(data, name string) error {
	root, err := os.OpenRoot(data)
	if err != nil {
		return err
	}
	defer root.Close()
	below, err := root.OpenRoot(buildDir)
	if err != nil {
		return err
	}
	defer below.Close()
	return below.RemoveAll(name)
}

// spawnBuild answers the gateway's request for a builder.
func (d *desk) spawnBuild(m protocol.Message, files []int, r *protocol.Message) error {
	if len(files) != 2 {
		return errDescriptors
	}
	b := protocol.Build{Limits: d.clamp(limitsOf(m)), Tree: m.Args[3], Warm: m.Flags&protocol.Warm != 0}
	if !d.takeFiles(filesOf(false)) {
		return noFiles()
	}
	p, err := d.startBuild(d.number(), b, files[0], files[1])
	if err != nil {
		d.giveFiles(filesOf(false))
	} else {
		p.files = filesOf(false)
	}
	return d.started(p, err, r)
}
