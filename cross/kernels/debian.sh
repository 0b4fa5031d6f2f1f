# What the virtual machines are made of: Debian's packages, got by apt and kept. To be sourced by
# cross/kernels.sh.
# shellcheck shell=bash

STORE="${WANBOND_KERNELS:-${XDG_CACHE_HOME:-$HOME/.cache}/wanbond/kernels}"
MIRROR="${WANBOND_DEBIAN:-http://deb.debian.org/debian}"
# Each machine's programs, of its own processor's kind. Always of bookworm, whatever the kernel.
GUEST_PACKAGES=(busybox-static iproute2 nftables util-linux)
GUEST_PROGRAMS=(bin/busybox bin/ip sbin/tc usr/sbin/nft usr/bin/setpriv)
# What the lab and the daemons need of a kernel beyond what it has built in.
MODULES=(
    tun veth bridge sch_netem sch_tbf tcp_bbr nf_tables nf_conntrack nft_ct nft_chain_nat nft_nat nft_masq
    nft_redir nft_reject_inet nft_fib_inet nft_tproxy nft_queue nft_limit nft_log
)

# debian_arch ARCH: Debian's name for it.
debian_arch() {
    case "$1" in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) echo "$1" ;;
    esac
}

# kernel_package ARCH: what depends on the newest kernel there.
kernel_package() {
    case "$1" in
        x86_64) echo linux-image-cloud-amd64 ;;
        aarch64) echo linux-image-arm64 ;;
        mipsel) echo linux-image-4kc-malta ;;
        *) fail "no kernel for $1; there are x86_64, aarch64 and mipsel" ;;
    esac
}

# kernel_suite KERNEL: the Debian release that has it.
kernel_suite() {
    case "$1" in
        6.1) echo bookworm ;;
        6.12) echo trixie ;;
        *) fail "no kernel $1; there are 6.1 and 6.12" ;;
    esac
}

# fetch_kernel ARCH KERNEL: $STORE/ARCH-KERNEL/vmlinuz, and modules/ with their order.
fetch_kernel() {
    local folder="$STORE/$1-$2" suite package release module
    ! is_kept "$folder" "${MODULES[*]}" || return 0
    suite=$(kernel_suite "$2")
    echo "fetching Linux $2 for $1 from Debian $suite"
    new_folder "$folder"
    own_apt "$folder" "$1" "$suite" apt-get -qq update
    package=$(own_apt "$folder" "$1" "$suite" apt-cache depends "$(kernel_package "$1")" |
        sed -n 's/^ *Depends: \(linux-image-[^:]*\).*/\1/p' | head -n 1)
    [ -n "$package" ] || fail "Debian $suite names no kernel for $1"
    download "$folder" "$1" "$suite" "$package"
    # trixie keeps modules in /usr/lib, which depmod takes for no place of theirs.
    [ -e "$folder/root/lib/modules" ] || ln -s usr/lib "$folder/root/lib"
    release=$(ls "$folder/root/lib/modules")
    depmod -b "$folder/root" "$release"
    mkdir "$folder/modules"
    for module in "${MODULES[@]}"; do
        modprobe -S "$release" -d "$folder/root" --show-depends "$module" 2>/dev/null ||
            echo "$(basename "$folder"): no module $module" >&2
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r module; do
        # busybox's insmod knows plain ones only.
        case "$module" in
            *.xz) xz -dc "$module" >"$folder/modules/$(basename "$module" .xz)" ;;
            *) cp "$module" "$folder/modules/" ;;
        esac
        basename "$module" .xz >>"$folder/modules/order"
    done
    mv "$folder/root/boot/vmlinuz-$release" "$folder/vmlinuz"
    rm -rf "$folder/root"
    keep "$folder" "${MODULES[*]}"
}

# fetch_guest ARCH: the programs and what they load, as they lie in a file system, in
# $STORE/ARCH-guest/root.
fetch_guest() {
    local folder="$STORE/$1-guest" packages program
    ! is_kept "$folder" "${GUEST_PROGRAMS[*]}" || return 0
    echo "fetching programs for $1 from Debian bookworm"
    new_folder "$folder"
    own_apt "$folder" "$1" bookworm apt-get -qq update
    # All that they depend on, as on a machine that has nothing yet.
    mapfile -t packages < <(own_apt "$folder" "$1" bookworm apt-get -qq --no-install-recommends --simulate \
        install "${GUEST_PACKAGES[@]}" | sed -n 's/^Inst \([^ ]*\).*/\1/p')
    [ "${#packages[@]}" -gt 0 ] || fail "Debian has no programs for $1"
    download "$folder" "$1" bookworm "${packages[@]}"
    mv "$folder/root" "$folder/all"
    mkdir "$folder/root"
    (cd "$folder/all" && find lib* usr/lib -maxdepth 2 \( -name '*.so*' -o -type l \) -print0 |
        cpio --quiet -0pdm "$folder/root")
    for program in "${GUEST_PROGRAMS[@]}"; do
        mkdir -p "$folder/root/$(dirname "$program")"
        cp -a "$folder/all/$program" "$folder/root/$program"
    done
    rm -rf "$folder/all"
    keep "$folder" "${GUEST_PROGRAMS[*]}"
}

# is_kept FOLDER WHAT: whether a folder is whole, and made of the same.
is_kept() {
    [ "$(cat "$1/done" 2>/dev/null)" = "$2" ]
}

# keep FOLDER WHAT: marks it as whole.
keep() {
    rm -rf "$1/apt" "$1/debs"
    echo "$2" >"$1/done"
}

new_folder() {
    rm -rf "$1"
    mkdir -p "$1/root" "$1/debs" "$1/apt/lists/partial" "$1/apt/cache/archives/partial"
    : >"$1/apt/status"
}

# download FOLDER ARCH SUITE PACKAGE...: unpacked in FOLDER/root.
download() {
    local folder="$1" arch="$2" suite="$3" deb
    shift 3
    (cd "$folder/debs" && own_apt "$folder" "$arch" "$suite" apt-get -qq download "$@")
    for deb in "$folder"/debs/*.deb; do
        dpkg -x "$deb" "$folder/root"
    done
}

# own_apt FOLDER ARCH SUITE COMMAND...: apt with lists, architecture and state of its own: this
# machine's is to know nothing of it.
own_apt() {
    local folder="$1" arch="$2" suite="$3" keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    shift 3
    arch=$(debian_arch "$arch")
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$MIRROR" "$suite" >"$folder/apt/sources.list"
    "$@" -o Dir::Etc::sourcelist="$folder/apt/sources.list" -o Dir::Etc::sourceparts=- \
        -o Dir::State="$folder/apt" -o Dir::State::lists="$folder/apt/lists" \
        -o Dir::State::status="$folder/apt/status" -o Dir::Cache="$folder/apt/cache" \
        -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root \
        -o Acquire::Languages=none
}
