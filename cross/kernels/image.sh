# The file system that a virtual machine boots into. To be sourced by cross/kernels.sh.
# shellcheck shell=bash

# image ARCH KERNEL BIN FILE ARGUMENT...: Debian's programs and modules, what is to be tested (from
# the folder BIN), and an init that runs wanbond-kernels with the arguments and switches off.
image() {
    local guest="$STORE/$1-guest" kernel="$STORE/$1-$2" bin="$3" file="$4" root="$4.root" program
    shift 4
    rm -rf "$root"
    mkdir -p "$root"/{bin,dev,proc,run,sys,tmp}
    cp -a "$guest/root/." "$root/"
    cp -a "$kernel/modules" "$root/modules"
    for program in "${PROGRAMS[@]}"; do
        cp "$bin/$program" "$root/bin/$program"
        libraries "$bin/$program" "$root"
    done
    init "$@" >"$root/init"
    chmod 755 "$root/init"
    (cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >"$file"
}

# libraries FILE ROOT: what this machine's own kind of binary loads; a static one loads nothing.
libraries() {
    local library
    ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | while read -r library; do
        mkdir -p "$2$(dirname "$library")"
        cp -L --remove-destination "$library" "$2$library"
    done
}

# init ARGUMENT...
init() {
    cat <<END
#!/bin/busybox sh
/bin/busybox mkdir -p /dev /proc /sys /tmp /run
# Debian's ip and the like are not to be overridden.
for applet in \$(/bin/busybox --list); do
    [ -e "/bin/\$applet" ] || [ -e "/sbin/\$applet" ] || [ -e "/usr/bin/\$applet" ] || /bin/busybox ln -s busybox "/bin/\$applet"
done
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/ TMPDIR=/tmp WANBOND_BIN_DIR=/bin RUST_BACKTRACE=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
mount -t tmpfs run /run
mkdir -p /dev/net /var
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
while read -r module; do insmod "/modules/\$module" || echo "no module \$module"; done </modules/order
ip link set lo up
echo "KERNEL \$(uname -r) \$(uname -m)"
wanbond-kernels $*
echo "FINISHED \$?"
poweroff -f
END
}
