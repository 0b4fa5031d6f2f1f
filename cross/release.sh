#!/usr/bin/env bash
# Makes what a VPS installs from: a tarball per architecture, and the list of their checksums.
#
#   bash cross/release.sh [--out DIR] [--program ARCH=FILE]... [ARCH...]
#
# ARCH         x86_64, aarch64; default: both
# --program    take this program instead of building one
# --out        where the tarballs and SHA256SUMS go; default build/release
#
# Each tarball holds one folder with wanbond-server, install.sh, its README and the licences:
# unpack it on the VPS and run `bash install.sh` there. From the same sources and programs come the
# same bytes.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

main() {
    local out=build/release arches=() arch file
    declare -A programs=()
    while [ $# -gt 0 ]; do
        case "$1" in
            --out)
                out="${2:?--out needs a folder}"
                shift
                ;;
            --program)
                [[ "${2:-}" =~ ^(x86_64|aarch64)=(.+)$ ]] || fail "--program needs ARCH=FILE"
                programs["${BASH_REMATCH[1]}"]="${BASH_REMATCH[2]}"
                shift
                ;;
            x86_64 | aarch64) arches+=("$1") ;;
            *) fail "'$1' is neither an option nor x86_64 nor aarch64; see the top of this script" ;;
        esac
        shift
    done
    [ "${#arches[@]}" -gt 0 ] || arches=(x86_64 aarch64)
    local version names=()
    version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
    [ -n "$version" ] || fail "Cargo.toml names no version"
    mkdir -p "$out"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    for arch in "${arches[@]}"; do
        file="${programs[$arch]:-}"
        # On a line of its own: a build that fails ends the script.
        [ -n "$file" ] || file=$(program "$arch")
        pack "$version" "$arch" "$file" "$out"
        names+=("wanbond-server-$version-linux-$arch.tar.gz")
    done
    (cd "$out" && sha256sum "${names[@]}" >SHA256SUMS)
    printf '%s/SHA256SUMS:\n' "$out"
    cat "$out/SHA256SUMS"
}

fail() {
    echo "cross/release.sh: $*" >&2
    exit 1
}

# program ARCH: builds it and says where it is. Static where cross/build.sh can, so that it runs on
# every distribution; else as this machine's own Rust makes it.
program() {
    if [ -f cross/build.sh ]; then
        bash cross/build.sh --bin wanbond-server --out build "$1" >&2
        echo "build/$1/wanbond-server"
    elif [ "$(uname -m)" = "$1" ]; then
        cargo build --release --locked -p wanbond-server >&2
        echo "${CARGO_TARGET_DIR:-target}/release/wanbond-server"
    else
        fail "only cross/build.sh can build for $1 on a $(uname -m)"
    fi
}

# pack VERSION ARCH PROGRAM OUT
pack() {
    local name="wanbond-server-$1-linux-$2" folder
    [ -f "$3" ] || fail "there is no $3"
    folder="$work/$name"
    mkdir "$folder"
    install -m 755 "$3" "$folder/wanbond-server"
    install -m 755 vps-setup/install.sh "$folder/install.sh"
    install -m 644 vps-setup/README.md LICENSE-APACHE LICENSE-MIT "$folder/"
    tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$(source_date)" -C "$work" -c "$name" |
        gzip -9n >"$4/$name.tar.gz"
}

# The commit's time, so that building twice gives the same bytes.
source_date() {
    echo "${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"
}

main "$@"
