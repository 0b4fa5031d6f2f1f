#!/usr/bin/env bash
# Makes OpenWrt packages of built binaries (cross/build.sh), and feeds of them, without OpenWrt's SDK:
#
#   bash cross/package.sh [--bin DIR] [--out DIR] [ARCH...]
#
# ARCH    x86_64 aarch64 armv7 mipsel mips riscv64; default: all that are built
# --bin   where DIR/ARCH/wanbond is; default build/
# --out   the feeds go to DIR/RELEASE/OPENWRT-ARCH/; default build/packages/
#
# RELEASE is 24.10 (.ipk, opkg) or 25.12 (.apk). A router is pointed at a folder on a web server with
#   24.10: echo 'src/gz wanbond https://…/24.10/mipsel_24kc' >> /etc/opkg/customfeeds.conf
#   25.12: echo 'https://…/25.12/mipsel_24kc/packages.adb' >> /etc/apk/repositories.d/customfeeds.list
# or a single file is installed: opkg install ./wanbond_*.ipk; apk add --allow-untrusted ./wanbond-*.apk
# The same commit gives the same bytes: times are the commit's, or SOURCE_DATE_EPOCH.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR/..
source cross/targets.sh

# A package may be this large, compressed.
MOST=1200000

main() {
    local bin=build out=build/packages wanted=() arch release name epoch
    while [ $# -gt 0 ]; do
        case "$1" in
            --bin) bin="${2:?--bin needs a folder}" && shift ;;
            --out) out="${2:?--out needs a folder}" && shift ;;
            *) rust_target "$1" >/dev/null || fail "usage: package.sh [--bin DIR] [--out DIR] [ARCH...], ARCH one of: ${ARCHES[*]}"
                wanted+=("$1") ;;
        esac
        shift
    done
    command -v python3 >/dev/null || fail "python3 is missing: it writes the packages"
    if [ "${#wanted[@]}" = 0 ]; then
        for arch in "${ARCHES[@]}"; do
            [ ! -e "$bin/$arch/wanbond" ] || wanted+=("$arch")
        done
    fi
    [ "${#wanted[@]}" -gt 0 ] || fail "nothing is built in $bin; run cross/build.sh first"
    epoch="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || true)}"
    [ -n "$epoch" ] || fail "no git history here: set SOURCE_DATE_EPOCH"
    for arch in "${wanted[@]}"; do
        [ -e "$bin/$arch/wanbond" ] || fail "$bin/$arch/wanbond is missing; run cross/build.sh $arch"
        for release in 24.10 25.12; do
            for name in $(openwrt_arches "$arch" "$release"); do
                feed "$release" "$name" "$bin/$arch/wanbond" "$out/$release/$name" "$epoch"
            done
        done
    done
}

fail() {
    echo "cross/package.sh: $*" >&2
    exit 1
}

# feed RELEASE OPENWRT-ARCH BINARY OUT EPOCH
feed() {
    local format=ipk packages=(--package "openwrt/wanbond=$3")
    [ "$1" = 24.10 ] || format=apk
    if [ -e luci-app/luci-app-wanbond/Makefile ]; then
        packages+=(--package luci-app/luci-app-wanbond)
    fi
    PYTHONPATH=cross PYTHONDONTWRITEBYTECODE=1 python3 -m wrtpack --format "$format" --arch "$2" "${packages[@]}" \
        --epoch "$5" --most "$MOST" --out "$4"
}

main "$@"
