#!/usr/bin/env bash
# Runs the daemons on other kernels, in virtual machines:
#
#   bash cross/kernels.sh [--short] [--bin DIR | --lab] [--scenario NAME]... [--only CHECK]...
#       [ARCH-KERNEL...]
#
# ARCH-KERNEL  x86_64-6.1 x86_64-6.12 aarch64-6.1 mipsel-6.1; default: all
# --short      x86_64-6.12 alone, and there only the half of it: 4 min at most
# --bin        where DIR/ARCH/wanbond, wanbond-server and wanbond-kernels are; what is missing there is
#              built. Default: build/
# --lab        instead, what `cargo build --profile lab` has built for this machine, an x86_64
# --scenario   the links: 20+10, or one of the lab's (adsl, fibre-lte); default: 20+10, and without
#              --short adsl too
# --only       of auto, mptcp, stream, goodput, upload, cut, quiet
#
# The machine's clock is virtual: it counts the emulated processor's instructions and skips what is
# idle, so it stands still while this machine is busy with something else. On x86_64 figures are
# asserted: shares of the links' sum, silences at a cut, the return. On the other processors, that what
# user-mode emulation lacks does its part: MPTCP, TUN, nftables, endpoints.
#
# The kernels are Debian's, 6.1 of bookworm and 6.12 of trixie; OpenWrt 24.10 has 6.6, 25.12 has 6.12.
# apt gets them, into ${WANBOND_KERNELS:-~/.cache/wanbond/kernels}. Nothing of this machine's kernel
# or network is in play, and no root is needed but to install qemu.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR/..
source tests/setup.sh
# shellcheck source-path=SCRIPTDIR/..
source cross/kernels/debian.sh
# shellcheck source-path=SCRIPTDIR/..
source cross/kernels/image.sh

ALL=(x86_64-6.1 x86_64-6.12 aarch64-6.1 mipsel-6.1)
PROGRAMS=(wanbond wanbond-server wanbond-kernels)
PACKAGES=(kmod cpio xz-utils debian-archive-keyring)
# For all of a machine's life, seconds of this machine's clock.
MOST_SECONDS=2400

bins=build
only=()
scratch=""

main() {
    local short=0 lab=0 scenarios=() machines=() machine failed=() packages=("${PACKAGES[@]}")
    while [ $# -gt 0 ]; do
        case "$1" in
            --short) short=1 ;;
            --lab) lab=1 ;;
            --bin) bins="${2:?--bin needs a folder}" && shift ;;
            --only) only+=(--only "${2:?--only needs a check}") && shift ;;
            --scenario) scenarios+=("${2:?--scenario needs a name}") && shift ;;
            -*) usage ;;
            *) machines+=("$(known "$1")") || usage ;;
        esac
        shift
    done
    if [ "${#machines[@]}" = 0 ]; then
        machines=("${ALL[@]}")
        [ "$short" = 0 ] || machines=(x86_64-6.12)
    fi
    if [ "${#scenarios[@]}" = 0 ]; then
        scenarios=(20+10)
        [ "$short" = 1 ] || scenarios+=(adsl)
    fi
    for machine in "${machines[@]}"; do
        packages+=("$(emulator_package "${machine%-*}")")
    done
    install_packages "${packages[@]}"
    need_commands depmod modprobe cpio xz apt-get dpkg
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    [ "$lab" = 0 ] || strip_lab
    for machine in "${machines[@]}"; do
        run "${machine%-*}" "${machine#*-}" "$short" "${scenarios[@]}" || failed+=("$machine")
    done
    [ "${#failed[@]}" = 0 ] || fail "failed on ${failed[*]}"
}

usage() {
    sed -n 's/^# \{0,1\}//; 2,/^set /{/^set /!p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

fail() {
    echo "cross/kernels.sh: $*" >&2
    exit 1
}

# known NAME: the machine of that name; of x86_64 alone, the newer.
known() {
    local machine
    for machine in "${ALL[@]}"; do
        if [ "$1" = "$machine" ]; then
            echo "$machine"
            return
        fi
    done
    return 1
}

# run ARCH KERNEL SHORT SCENARIO...: boots it and shows what it says.
run() {
    local arch="$1" kernel="$2" short="$3" arguments=() options log="$scratch/log" start=$SECONDS
    shift 3
    build "$arch"
    fetch_guest "$arch"
    fetch_kernel "$arch" "$kernel"
    if [ "$arch" = x86_64 ]; then
        [ "$short" = 0 ] || arguments+=(--short)
        arguments+=("${only[@]}" "$@")
    else
        arguments=(--works)
    fi
    image "$arch" "$kernel" "$bins/$arch" "$scratch/image" "${arguments[@]}"
    read -ra options < <(machine "$arch")
    echo "=== Linux $kernel on $arch: ${arguments[*]}"
    # Not niced: starved, x86's boot gives up on its timer.
    timeout "$MOST_SECONDS" "$(emulator "$arch")" "${options[@]}" -nodefaults -display none -no-reboot \
        -serial stdio -kernel "$STORE/$arch-$kernel/vmlinuz" -initrd "$scratch/image" \
        -append "console=$(console "$arch") quiet panic=-1" </dev/null 2>&1 |
        sed -u 's/\r//' | tee "$log" || true
    if grep -E 'BUG:|Oops|cut here|Kernel panic' "$log"; then
        echo "Linux $kernel on $arch: the kernel complained"
        return 1
    fi
    if ! grep -q '^FINISHED 0$' "$log"; then
        echo "Linux $kernel on $arch: FAILED after $((SECONDS - start)) s"
        return 1
    fi
    echo "Linux $kernel on $arch: done in $((SECONDS - start)) s"
}

# Takes the lab profile's binaries, which are large for what they say to debuggers.
strip_lab() {
    local program from="${CARGO_TARGET_DIR:-target}/lab"
    [ "$(uname -m)" = x86_64 ] || fail "--lab needs an x86_64"
    bins="$scratch/bin"
    mkdir -p "$bins/x86_64"
    for program in "${PROGRAMS[@]}"; do
        [ -x "$from/$program" ] ||
            fail "$from/$program is missing; cargo build --profile lab ${PROGRAMS[*]/#/-p }"
        strip -o "$bins/x86_64/$program" "$from/$program"
    done
}

# build ARCH: those of the three programs that are not there.
build() {
    local program missing=()
    for program in "${PROGRAMS[@]}"; do
        [ -x "$bins/$1/$program" ] || missing+=(--bin "$program")
    done
    [ "${#missing[@]}" = 0 ] || bash cross/build.sh "${missing[@]}" --out "$bins" "$1"
}

emulator() {
    case "$1" in
        x86_64) echo qemu-system-x86_64 ;;
        aarch64) echo qemu-system-aarch64 ;;
        mipsel) echo qemu-system-mipsel ;;
    esac
}

emulator_package() {
    case "$1" in
        x86_64) echo qemu-system-x86 ;;
        aarch64) echo qemu-system-arm ;;
        mipsel) echo qemu-system-mips ;;
    esac
}

# machine ARCH: what is emulated. Never this machine's own processor by KVM: a clock can't be virtual
# there.
machine() {
    # 2 ns an instruction: a router's speed.
    local virtual="-accel tcg -smp 1 -icount shift=1,sleep=off"
    case "$1" in
        # QEMU 7.2 breaks flags around cmpxchg16b.
        x86_64) echo "-cpu Nehalem-v1,-cx16 -m 1024 $virtual" ;;
        aarch64) echo "-M virt -cpu cortex-a53 -m 1024 $virtual" ;;
        # Its clock is not the processor's: virtual time would make it a snail.
        mipsel) echo "-M malta -cpu 24Kf -m 512 -accel tcg -smp 1" ;;
    esac
}

console() {
    case "$1" in
        aarch64) echo ttyAMA0 ;;
        *) echo ttyS0 ;;
    esac
}

main "$@"
