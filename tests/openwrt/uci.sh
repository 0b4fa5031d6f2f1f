#!/usr/bin/env bash
# Builds OpenWrt's own `uci`, from the source that the crate libuci-sys carries, which cargo fetches:
#
#   bash tests/openwrt/uci.sh FILE
#
# No distribution has it as a package. Nothing of the crate itself is built.
set -euo pipefail

CRATE=libuci-sys
VERSION=1.0.5

out="${1:?usage: uci.sh FILE}"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What its build script would need is left out.
{
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2024"\n\n[workspace]\n\n'
    printf '[dependencies]\n%s = "=%s"\n\n[patch.crates-io]\n' "$CRATE" "$VERSION"
    printf '%s = { path = "%s" }\n' bindgen bindgen cmake cmake
} >"$scratch/Cargo.toml"
empty() {
    mkdir -p "$scratch/$1/src"
    printf '[package]\nname = "%s"\nversion = "%s"\n' "$1" "$2" >"$scratch/$1/Cargo.toml"
    : >"$scratch/$1/src/lib.rs"
}
mkdir "$scratch/src"
: >"$scratch/src/lib.rs"
empty bindgen 0.58.1
empty cmake 0.1.45

# Prints the folder that cargo has unpacked the crate into.
source=$(cd "$scratch" && cargo metadata --format-version 1 --quiet |
    sed -n 's|.*"manifest_path":"\([^"]*/'"$CRATE-$VERSION"'\)/Cargo.toml".*|\1|p')
[ -d "$source/uci" ] || {
    echo "uci.sh: the source of uci is not in $CRATE $VERSION" >&2
    exit 1
}

sed '/#cmakedefine/d' "$source/uci/uci_config.h.in" >"$scratch/uci_config.h"
ln -s "$source/libubox" "$scratch/libubox"
parts=("$source"/uci/{libuci,file,util,delta,parse,blob,cli}.c
    "$source"/libubox/{avl,avl-cmp,blob,blobmsg,md5,utils,vlist}.c)
cc -std=gnu99 -O1 -w "-DUCI_PREFIX=\"/usr\"" -I"$scratch" -I"$source/uci" "${parts[@]}" -o "$scratch/uci"
mkdir -p "$(dirname "$out")"
# At once, for whoever finds it in the middle.
cp "$scratch/uci" "$out.new.$$"
mv "$out.new.$$" "$out"
