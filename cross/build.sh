#!/usr/bin/env bash
# Builds static release binaries for routers (musl, no shared library), each checked for its kind and
# its size:
#
#   bash cross/build.sh [--bin NAME]... [--tests] [--out DIR] [ARCH...]
#
# ARCH      x86_64 aarch64 armv7 mipsel mips riscv64; default: all
# --bin     wanbond (default), wanbond-server; may be repeated
# --tests   the protocol's tests too, to DIR/ARCH/tests/
# --out     where DIR/ARCH/NAME goes; default build/
#
# Needs Rust and its library's source, and zig as linker and C library. With rustup, the source is
# `rustup component add rust-src`; where its downloads can't be had, Debian's packages rustc-web,
# cargo-web and rust-web-src do. zig and cargo-zigbuild come from PyPI, into
# ${WANBOND_TOOLS:-~/.cache/wanbond/tools}. What is missing is installed if it can be, or named.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR/..
source cross/targets.sh

ZIG=0.15.2
ZIGBUILD=0.24.0
TOOLS="${WANBOND_TOOLS:-${XDG_CACHE_HOME:-$HOME/.cache}/wanbond/tools}"
# Each target leaves 350 MB there.
TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/cross"

main() {
    local out=build tests=0 bins=() wanted=() arch bin std=std,panic_abort
    while [ $# -gt 0 ]; do
        case "$1" in
            --bin) bins+=("${2:?--bin needs a name}") && shift ;;
            --out) out="${2:?--out needs a folder}" && shift ;;
            --tests) tests=1 ;;
            -*) usage ;;
            *) rust_target "$1" >/dev/null || fail "unknown ARCH '$1'; there are: ${ARCHES[*]}"
                wanted+=("$1") ;;
        esac
        shift
    done
    [ "${#bins[@]}" -gt 0 ] || bins=(wanbond)
    # The same for binaries and tests, so that what they share is built once.
    [ "$tests" = 0 ] || std+=,test
    [ "${#wanted[@]}" -gt 0 ] || wanted=("${ARCHES[@]}")
    find_rust
    find_zig
    for arch in "${wanted[@]}"; do
        for bin in "${bins[@]}"; do
            build "$arch" "$bin" "$out" "$std"
        done
        [ "$tests" = 0 ] || build_tests "$arch" "$out" "$std"
    done
}

usage() {
    sed -n 's/^# \{0,1\}//; 2,/^set /{/^set /!p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

fail() {
    echo "cross/build.sh: $*" >&2
    exit 1
}

# build ARCH BIN OUT PARTS-OF-STD
build() {
    local arch="$1" bin="$2" out="$3/$1" profile=small built
    [ "$bin" = wanbond ] || profile=release
    echo "building $bin for $arch"
    zigbuild "$arch" "$4" --profile "$profile" -p "$bin" --bin "$bin"
    built="$TARGET_DIR/$(rust_target "$arch")/$profile/$bin"
    check_kind "$arch" "$built"
    mkdir -p "$out"
    python3 cross/sstrip.py "$built" "$out/$bin"
    [ "$bin" != wanbond ] || check_size "$arch" "$out/$bin"
    printf '%s/%s: %d bytes\n' "$out" "$bin" "$(stat -c %s "$out/$bin")"
}

# build_tests ARCH OUT PARTS-OF-STD
build_tests() {
    local arch="$1" out="$2/$1/tests" built
    echo "building the protocol's tests for $arch"
    rm -rf "$out"
    mkdir -p "$out"
    # -Z panic-abort-tests: the library is built without unwinding.
    zigbuild "$arch" "$3" --profile small -p wanbond-proto --tests \
        -Z panic-abort-tests --message-format json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' |
        while read -r built; do
            check_kind "$arch" "$built"
            cp "$built" "$out/"
        done
    [ -n "$(ls "$out")" ] || fail "no tests were built"
}

# zigbuild ARCH PARTS-OF-STD ARGUMENT...: cargo, with zig as linker.
zigbuild() {
    local arch="$1" std="$2" flags
    shift 2
    flags=$(rust_flags "$arch")
    # Paths of this machine have no place in a binary.
    flags+=" -Z location-detail=none --remap-path-prefix=$PWD=. --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    # RUSTC_BOOTSTRAP: build-std is not in stable Rust; without it mips can't be built at all, and
    # everything is larger.
    RUSTC="$rustc" CARGO="$cargo" RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags" CARGO_TARGET_DIR="$TARGET_DIR" \
        PATH="$TOOLS/bin:$PATH" \
        cargo-zigbuild zigbuild --locked --target "$(rust_target "$arch")" "$@" \
        -Z build-std="$std" -Z build-std-features=optimize_for_size
}

# check_kind ARCH FILE: the right processor, and nothing to be loaded at its start.
check_kind() {
    local bytes class data machine
    mapfile -t bytes < <(od -An -v -tu1 -w1 -N20 "$2")
    class=$((bytes[4])) data=$((bytes[5]))
    if [ "$data" = 2 ]; then
        machine=$((bytes[18] * 256 + bytes[19]))
    else
        machine=$((bytes[19] * 256 + bytes[18]))
    fi
    [ "$class$data $machine" = "$(elf_machine "$1")" ] ||
        fail "$2 is not for $1 (ELF class $class, data $data, machine $machine)"
    if grep -qa '/lib/ld-musl-' "$2"; then
        fail "$2 is not static"
    fi
}

# check_size ARCH FILE: the size that routers' flash has room for.
check_size() {
    local size most
    size=$(stat -c %s "$2")
    most=$(most_bytes "$1")
    [ "$size" -le "$most" ] ||
        fail "$2 has $size bytes, the budget for $1 is $most: see what has grown (cargo bloat), or argue for more in cross/targets.sh"
}

# Sets rustc and cargo to a pair that has the source of its library.
find_rust() {
    if command -v rustc >/dev/null && has_source rustc; then
        rustc=$(command -v rustc) cargo=$(command -v cargo)
        return
    fi
    if command -v rustup >/dev/null && rustup component add rust-src >/dev/null 2>&1 && has_source rustc
    then
        rustc=$(command -v rustc) cargo=$(command -v cargo)
        return
    fi
    if ! { [ -x /usr/bin/rustc ] && has_source /usr/bin/rustc; } &&
        command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
        echo "installing rustc-web cargo-web rust-web-src"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            rustc-web cargo-web rust-web-src >/dev/null || true
    fi
    if ! [ -x /usr/bin/rustc ] || ! [ -x /usr/bin/cargo ] || ! has_source /usr/bin/rustc; then
        fail "the source of Rust's library is missing; get it with 'rustup component add rust-src', or on Debian 12 with 'apt-get install rustc-web cargo-web rust-web-src'"
    fi
    rustc=/usr/bin/rustc cargo=/usr/bin/cargo
}

has_source() {
    [ -d "$("$1" --print sysroot)/lib/rustlib/src/rust/library/std" ]
}

find_zig() {
    if [ "$(cat "$TOOLS/versions" 2>/dev/null)" = "$ZIG $ZIGBUILD" ]; then
        return
    fi
    command -v python3 >/dev/null || fail "python3 is missing: it installs zig, from PyPI"
    echo "installing zig $ZIG and cargo-zigbuild $ZIGBUILD from PyPI into $TOOLS"
    rm -rf "$TOOLS"
    mkdir -p "$TOOLS"
    python3 -m venv "$TOOLS" ||
        fail "no Python environment can be made in $TOOLS; on Debian: apt-get install python3-venv"
    "$TOOLS/bin/pip" install --quiet --disable-pip-version-check \
        "ziglang==$ZIG" "cargo-zigbuild==$ZIGBUILD" || fail "PyPI can't be reached"
    echo "$ZIG $ZIGBUILD" >"$TOOLS/versions"
}

main "$@"
