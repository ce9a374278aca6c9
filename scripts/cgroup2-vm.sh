#!/bin/bash
# Runs a command as root on a kernel whose only cgroup hierarchy is v2, in a
# virtual machine that is thrown away, and returns the command's exit status.
#
#   scripts/cgroup2-vm.sh [FLAGS] DIR COMMAND [ARGUMENT...]
#
# The machine is a kernel and an archive in memory, no disk and no network. The
# archive holds busybox and what is in DIR, which the command finds as /t and
# its working directory. So whatever runs there has to be static, and is
# compiled before: under emulation a compiler is too slow.
#
#   -u          as an ordinary user with a cgroup subtree delegated to it
#   -t SECONDS  the longest it may take (180); then the exit status is 124
#   -m MIB      the machine's memory (3072)
#   -a ARCH     the machine's architecture: amd64, or arm64 with qemu-system-arm
#   -k PACKAGE  the Debian package of the kernel (linux-image-cloud-amd64 is the
#               release's own, linux-image-6.12-cloud-amd64 the default)
#
# Exit status 125: the machine did not come up or ended without a status.
# Needs qemu-system-x86_64 and, the first time, apt-get for the two packages
# that it unpacks (and does not install) under $FGW_VM_CACHE.
set -euo pipefail

user=root seconds=180 memory=3072 arch=amd64 package=
while getopts ut:m:a:k: flag; do
    case $flag in
    u) user=ordinary ;;
    t) seconds=$OPTARG ;;
    m) memory=$OPTARG ;;
    a) arch=$OPTARG ;;
    k) package=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ $# -ge 2 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }
content=$1; shift

say() { echo "cgroup2-vm: $*" >&2; }
# The first serial line is the kernel's, then one takes the command's output and one its status.
case $arch in
amd64)
    qemu=qemu-system-x86_64 from=qemu-system-x86 board=(-M q35 -cpu max) tty=(ttyS0 ttyS1 ttyS2)
    lines=(-serial chardev:output -serial chardev:status)
    ;;
arm64)
    qemu=qemu-system-aarch64 from=qemu-system-arm board=(-M virt,gic-version=3 -cpu "max,pauth-impdef=on") tty=(ttyAMA0 ttyS0 ttyS1)
    lines=(-device pci-serial,chardev=output -device pci-serial,chardev=status)
    ;;
*) say "no machine of architecture $arch is known: amd64 or arm64"; exit 2 ;;
esac
package=${package:-linux-image-6.12-cloud-$arch}
command -v $qemu >/dev/null || { say "$qemu is missing: apt-get install --no-install-recommends $from"; exit 125; }

# --- the kernel and busybox, once -------------------------------------------

if [ -z "${FGW_VM_CACHE:-}" ]; then
    FGW_VM_CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/fgw-cgroup2
fi
kernel=$FGW_VM_CACHE/$package/vmlinuz busybox=$FGW_VM_CACHE/$package/busybox packer=$FGW_VM_CACHE/$package/here/busybox

fetch() {
    local scratch real options=()
    scratch=$(mktemp -d "$FGW_VM_CACHE/fetch.XXXXXX")
    if [ "$arch" != "$(dpkg --print-architecture)" ]; then # lists of its own: this machine's stay as they are
        mkdir -p "$scratch"/apt/{lists,cache/archives}/partial
        options=(-o "APT::Architecture=$arch" -o "APT::Architectures::=$arch" -o "Dir::State::lists=$scratch/apt/lists" -o "Dir::Cache=$scratch/apt/cache")
        apt-get "${options[@]}" -qq update
    fi
    # The package of that name is empty and points to the current version.
    real=$(apt-cache "${options[@]}" depends "$package" | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    (
        cd "$scratch"
        apt-get "${options[@]}" -qq download "${real:-$package}" busybox-static 2> >(grep -v 'unsandboxed as root' >&2)
        for deb in *.deb; do dpkg -x "$deb" unpacked; done
        apt-get -qq download busybox-static 2> >(grep -v 'unsandboxed as root' >&2)
        dpkg -x busybox-static_*"$(dpkg --print-architecture)".deb here
    ) || { rm -rf "$scratch"; say "can't fetch $package and busybox-static: run apt-get update, or pick another kernel with -k"; return 1; }
    mkdir -p "${packer%/*}"
    cp "$scratch"/here/bin/busybox "$packer"
    cp "$scratch"/unpacked/bin/busybox "$busybox"
    cp "$scratch"/unpacked/boot/vmlinuz-* "$kernel.new"
    mv "$kernel.new" "$kernel" # last: it says that the two are complete
    rm -rf "$scratch"
}

mkdir -p "$FGW_VM_CACHE"
(
    flock 9
    { [ -e "$kernel" ] && [ -e "$packer" ]; } || fetch
) 9>"$FGW_VM_CACHE/lock" || exit 125

# --- what the machine starts from -------------------------------------------

work=$(mktemp -d "${TMPDIR:-/tmp}/fgw-vm.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/root/{bin,etc,t}
cp "$busybox" "$work/root/bin/busybox"
cp -R --dereference "$content/." "$work/root/t/"
printf 'root:x:0:0::/root:/bin/sh\nordinary:x:1000:1000::/tmp:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$work/root/etc/passwd"
printf 'root:x:0:\nordinary:x:1000:\nnogroup:x:65534:\n' >"$work/root/etc/group"
printf '127.0.0.1 localhost\n' >"$work/root/etc/hosts"
{ printf 'exec'; printf ' %q' "$@"; echo; } >"$work/root/etc/command"

# A process whose root is the first one, into which the kernel unpacks, can't
# pivot away from it, which is how each facet gets its empty root. So the files
# move into a file system of their own before anything runs.
cat >"$work/root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox mkdir -p /new
/bin/busybox mount -t tmpfs -o size=90%,mode=755 root /new
/bin/busybox cp -a /bin /etc /t /new
/bin/busybox --install -s /new/bin
exec /bin/busybox switch_root /new /bin/sh /etc/boot
INIT

cat >"$work/root/etc/boot" <<'BOOT'
export PATH=/bin HOME=/root
mkdir -p /proc /sys /dev /tmp /root /run /var/lib
chmod 1777 /tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t securityfs security /sys/kernel/security
mount -t tmpfs run /run
mount --make-rshared /
ip link set lo up
ln -sf /proc/self/fd /dev/fd

# As systemd leaves a machine: every controller on, and no process in the root
# of the hierarchy. An ordinary user owns what Delegate=yes hands over.
cgroups=/sys/fs/cgroup
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 $cgroups
echo '+cpuset +cpu +io +memory +pids' >$cgroups/cgroup.subtree_control
mkdir $cgroups/session.scope
become=
if [ "$FGW_VM_USER" = ordinary ]; then
    cd $cgroups/session.scope
    chown 1000:1000 . cgroup.procs cgroup.threads cgroup.subtree_control
    chown -R 1000:1000 /t
    become=yes
    mkdir -p /run/user/1000 && chown 1000:1000 /run/user/1000 && chmod 700 /run/user/1000
fi
set -o pipefail
stty -F /dev/$FGW_VM_OUTPUT raw -echo
stty -F /dev/$FGW_VM_STATUS raw -echo
(
    echo 0 >$cgroups/session.scope/cgroup.procs
    cd /t
    if [ -n "$become" ]; then
        export HOME=/tmp XDG_RUNTIME_DIR=/run/user/1000
        exec su -p ordinary -s /bin/sh -c '. /etc/command'
    fi
    . /etc/command
) </dev/null 2>&1 | cat >/dev/$FGW_VM_OUTPUT # through a pipe: what runs should see no terminal
echo "status $?" >/dev/$FGW_VM_STATUS
poweroff -f
BOOT
sed -i "2i export FGW_VM_USER=$user FGW_VM_OUTPUT=${tty[1]} FGW_VM_STATUS=${tty[2]}" "$work/root/etc/boot"
chmod +x "$work/root/init"
(cd "$work/root" && find . | sort | "$packer" cpio -o -H newc -R 0:0 2>/dev/null) >"$work/archive"

# --- the machine -------------------------------------------------------------

# Emulation alone, one thread for both processors: nested or paravirtual KVM
# does not boot a stock kernel everywhere, and with a thread for each processor
# a boot now and then ends in a panic.
machine() {
    timeout --foreground "$seconds" "$qemu" \
        -accel tcg,thread=single "${board[@]}" -smp 2 -m "$memory" \
        -nodefaults -no-user-config -display none -no-reboot \
        -kernel "$kernel" -initrd "$work/archive" \
        -append "console=${tty[0]} loglevel=5 panic=-1" \
        -serial "file:$work/kernel.log" -chardev stdio,id=output,signal=off \
        -chardev "file,id=status,path=$work/status" "${lines[@]}" </dev/null
}

outcome=0
machine || outcome=$?
status=$(sed -n 's/^status \([0-9]*\).*/\1/p' "$work/status" 2>/dev/null || :)
[ -z "$status" ] || exit "$status"
[ "$outcome" != 124 ] || { say "the time is up (${seconds}s)"; exit 124; }
say "no exit status came back (qemu: $outcome); the end of the kernel's log:"
tail -n 25 "$work/kernel.log" >&2 || :
exit 125
