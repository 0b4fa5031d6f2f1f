#!/usr/bin/env bash
# The demonstration: two WANs, one connection, seen working in one command.
#
#   bash tests/demo.sh [--scenario FILE|NAME]... [--quick] [--keep] [--no-install]
#
# Builds a small Internet out of network namespaces on this machine, runs wanbond's real daemons in
# it, downloads over each line alone and through wanbond, cuts one line in the middle of a download
# and mends it. Prints a table, and leaves a plot per scenario in target/demo/.

set -euo pipefail

usage() {
    cat <<'TEXT'
bash tests/demo.sh [OPTIONS]

  --scenario FILE|NAME  a scenario file, or one of tests/lab/scenarios by name; again for more
                        (default: adsl and fibre-lte)
  --quick               half the time, less telling figures
  --keep                leave the last lab up and print how to look around in it
  --no-install          install nothing, only say what is missing
  -h, --help            this text
TEXT
}

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "demo: $*"
    exit 1
}

ensure_programs() {
    local install=$1
    # Debian keeps ip and nft here, which is not on every user's path.
    PATH=$PATH:/usr/sbin:/sbin
    if ! command -v cargo >/dev/null && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    if [[ $install == yes ]]; then
        install_packages "${BUILD_PACKAGES[@]}"
    fi
    need_commands cargo gcc ip nft setpriv nsenter unshare
}

# Root makes namespaces; others may through user namespaces, which wanbond-lab tries by itself.
ensure_tun() {
    [[ -e /dev/net/tun ]] || modprobe tun 2>/dev/null || true
    [[ -e /dev/net/tun ]] || die "/dev/net/tun is missing: load the kernel module tun (modprobe tun)"
}

build() {
    say "building wanbond, wanbond-server and wanbond-lab (the first time takes some minutes)"
    cargo build --profile lab --locked -p wanbond -p wanbond-server -p wanbond-lab >&2
}

# Where cargo puts things, which the user may have set anywhere.
target_folder() {
    local metadata
    metadata=$(cargo metadata --format-version 1 --no-deps --locked)
    metadata=${metadata##*\"target_directory\":\"}
    printf '%s\n' "${metadata%%\"*}"
}

main() {
    local install=yes target arguments=()
    while [[ $# -gt 0 ]]; do
        case $1 in
        --scenario)
            [[ $# -ge 2 ]] || die "--scenario needs a file or a name"
            # A path is the caller's own; the build below runs elsewhere.
            if [[ $2 == */* || $2 == *.* ]]; then
                arguments+=(--scenario "$(realpath -m -- "$2")")
            else
                arguments+=(--scenario "$2")
            fi
            shift
            ;;
        --quick | --keep) arguments+=("$1") ;;
        --no-install) install=no ;;
        -h | --help)
            usage
            return 0
            ;;
        *)
            usage >&2
            die "unknown option $1"
            ;;
        esac
        shift
    done
    cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
    # shellcheck source=tests/setup.sh
    source tests/setup.sh
    ensure_programs "$install"
    ensure_tun
    build
    target=$(target_folder)
    # Not exec: its output stays in order behind ours when both go to a file.
    "$target/lab/wanbond-lab" demo --out "$target/demo" "${arguments[@]}"
}

main "$@"
