# What the scripts here share: finding and installing what they need. To be sourced.
# shellcheck shell=bash

# Debian's packages that building and testing need.
BUILD_PACKAGES=(build-essential ca-certificates iproute2 nftables)
# shellcheck disable=SC2034 # used by run.sh
TEST_PACKAGES=("${BUILD_PACKAGES[@]}" tcpdump shellcheck iputils-ping ethtool procps dnsmasq-base
    shfmt bats debootstrap systemd-container iperf3 jq util-linux chromium fonts-liberation
    etcd-server etcd-client openssl python3-venv qemu-user-static busybox
    qemu-system-x86 kmod cpio xz-utils debian-archive-keyring binutils)
# Node may be there from elsewhere, and its npm with it.
command -v npm >/dev/null || TEST_PACKAGES+=(nodejs npm)

# install_packages NAME...: installs those that are missing, where apt and root allow it.
install_packages() {
    local name missing=()
    command -v dpkg-query >/dev/null || return 0
    for name in "$@"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null)" = installed ] ||
            missing+=("$name")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    if [ "$(id -u)" != 0 ]; then
        echo "missing packages; install them with: sudo apt-get install ${missing[*]}" >&2
        return 0
    fi
    echo "installing ${missing[*]}"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        "${missing[@]}" >/dev/null
}

# need_commands NAME...: all of them, or a text that says where they come from.
need_commands() {
    local name failed=0
    for name in "$@"; do
        command -v "$name" >/dev/null && continue
        failed=1
        case "$name" in
            cargo) echo "cargo is missing: install Rust from https://rustup.rs" >&2 ;;
            ip) echo "ip is missing: install the package iproute2" >&2 ;;
            systemd-nspawn) echo "systemd-nspawn is missing: install the package systemd-container" >&2 ;;
            nft) echo "nft is missing: install the package nftables" >&2 ;;
            *) echo "$name is missing: install the package of that name" >&2 ;;
        esac
    done
    [ "$failed" = 0 ]
}
