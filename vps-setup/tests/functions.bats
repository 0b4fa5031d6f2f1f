# The installer's functions, one by one, on made-up machines: its paths point into a folder of the
# test, and the programs it calls are stand-ins that write down how they were called.
# shellcheck shell=bash disable=SC2034,SC2030,SC2031,SC2016,SC2086,SC2153

bats_require_minimum_version 1.5.0

setup() {
    # run.sh gives one that writes down which of its functions were called.
    INSTALLER="${INSTALLER:-$BATS_TEST_DIRNAME/../install.sh}"
    # shellcheck source=vps-setup/install.sh
    source "$INSTALLER"
    ROOT="$BATS_TEST_TMPDIR"
    STATE="$ROOT/etc/wanbond-server"
    PROGRAM="$ROOT/usr/local/bin/wanbond-server"
    SETUP="$ROOT/usr/local/sbin/wanbond-setup"
    UNIT="$ROOT/systemd/wanbond-server.service"
    FIREWALL_UNIT="$ROOT/systemd/wanbond-server-firewall.service"
    SYSCTL="$ROOT/etc/60-wanbond-server.conf"
    NOTES="$ROOT/notes"
    OS_RELEASE="$ROOT/os-release"
    PROC="$ROOT/proc"
    TUN="$ROOT/tun"
    WORK="$ROOT/work"
    mkdir -p "$ROOT"/{bin,work,notes,systemd,etc,usr/local/{bin,sbin}} "$PROC"/sys/{kernel,net/ipv4,net/mptcp}
    CALLS="$ROOT/calls"
    : >"$CALLS"
    PATH="$ROOT/bin:$PATH"
    UNDO=() DONE=() ENDPOINTS=() PORTS=() PORT="" INNER="" ROUTED="" ETCD=() FLEET_KEY="" ETCD_ACCESS=() DRY_RUN="" YES=1 FROM="" SHA256="" BUILD="" COMMAND=install
    # As main has it; bats itself runs without.
    set -euo pipefail
}

# fake NAME [SCRIPT]: a stand-in for a program.
fake() {
    printf '#!/bin/bash\necho "%s $*" >>"%s"\n%s\n' "$1" "$CALLS" "${2:-}" >"$ROOT/bin/$1"
    chmod +x "$ROOT/bin/$1"
}

called() { grep -qxF -- "$1" "$CALLS"; }

# with_rules RULESET: what `nft list ruleset` shows.
with_rules() {
    cat >"$ROOT/ruleset"
    fake nft "[ \"\$*\" = 'list ruleset' ] && cat $ROOT/ruleset; true"
    fake iptables
    fake ip6tables
}

@test "arguments: defaults, values and the command in any order" {
    parse
    [ "$COMMAND" = install ]
    parse --port 443 upgrade --yes --endpoint a.example --endpoint '[2001:db8::1]:99'
    [ "$COMMAND $PORT $YES ${ENDPOINTS[*]}" = "upgrade 443 1 a.example [2001:db8::1]:99" ]
    parse add-router cabin
    [ "$COMMAND $ARGUMENT" = "add-router cabin" ]
    parse --router status
    [ "$COMMAND $ROUTER" = "install status" ]
}

@test "arguments: whatever is wrong is named" {
    for bad in "--port 0" "--port 65536" "--port x" "--port" "--speed 3" "nonsense" "install twice" \
        "add-router" "add-router a/b" "--router ../x" "--sha256 12" "--from http://x/y" "--build --from x" "firewall"; do
        run parse $bad
        [ "$status" = 2 ] || { echo "accepted: $bad" && false; }
        [[ "$output" == *"--help"* ]]
    done
}

@test "the help text is the comment on top" {
    run usage
    [[ "$output" == *"bash install.sh [COMMAND]"* ]]
    [[ "$output" == *"--dry-run"* ]]
    [[ "$output" != *"set -euo"* ]]
}

@test "systems: Debian 12 and 13, Ubuntu 22.04 and 24.04, no others" {
    for good in "debian 12" "debian 13" "ubuntu 22.04" "ubuntu 24.04"; do
        printf 'ID=%s\nVERSION_ID="%s"\nPRETTY_NAME="It"\n' ${good/ / } >"$OS_RELEASE"
        check_os
    done
    for bad in "debian 11" "ubuntu 20.04" "fedora 40" "openwrt 24.10"; do
        printf 'ID=%s\nVERSION_ID="%s"\nPRETTY_NAME="It"\n' ${bad/ / } >"$OS_RELEASE"
        run check_os
        [ "$status" = 1 ]
        [[ "$output" == *"Debian 12 or 13"* ]]
    done
    rm "$OS_RELEASE"
    run check_os
    [ "$status" = 1 ]
}

@test "Ubuntu's own os-release files" {
    cat >"$OS_RELEASE" <<'RELEASE'
PRETTY_NAME="Ubuntu 24.04.1 LTS"
NAME="Ubuntu"
VERSION_ID="24.04"
VERSION="24.04.1 LTS (Noble Numbat)"
VERSION_CODENAME=noble
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=noble
RELEASE
    run check_os
    [ "$status" = 0 ]
    [[ "$output" == *"Ubuntu 24.04.1 LTS"* ]]
    cat >"$OS_RELEASE" <<'RELEASE'
PRETTY_NAME="Ubuntu 22.04.5 LTS"
NAME="Ubuntu"
VERSION_ID="22.04"
VERSION="22.04.5 LTS (Jammy Jellyfish)"
VERSION_CODENAME=jammy
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=jammy
RELEASE
    run check_os
    [ "$status" = 0 ]
    [[ "$output" == *"Ubuntu 22.04.5 LTS"* ]]
}

@test "kernels: what an old one loses is said, and it goes on" {
    echo 1 >"$PROC/sys/net/mptcp/enabled"
    for good in 5.15.0-100-generic 6.1.0-18-amd64 6.12.3; do
        echo "$good" >"$PROC/sys/kernel/osrelease"
        run check_kernel
        [ "$status" = 0 ]
        [[ "$output" != *WARNING* ]]
    done
    echo 5.10.0-28-amd64 >"$PROC/sys/kernel/osrelease"
    run check_kernel
    [ "$status" = 0 ]
    [[ "$output" == *WARNING*5.15* ]]
    rm "$PROC/sys/net/mptcp/enabled"
    run check_kernel
    [ "$status" = 0 ]
    [[ "$output" == *"no MPTCP"* ]]
}

@test "OpenVZ is refused, other containers are judged by what they can" {
    fake systemd-detect-virt 'echo openvz'
    run check_container
    [ "$status" = 1 ]
    [[ "$output" == *KVM* ]]
    fake systemd-detect-virt 'echo lxc'
    check_container
    fake systemd-detect-virt 'echo none; exit 1'
    check_container
}

@test "a missing or closed TUN device is refused" {
    fake modprobe 'exit 1'
    run check_tun
    [ "$status" = 1 ]
    [[ "$output" == *"$TUN"* ]]
}

@test "little memory is warned of" {
    echo "MemTotal:         120000 kB" >"$PROC/meminfo"
    run check_memory
    [ "$status" = 0 ]
    [[ "$output" == *"117 MiB"* ]]
}

@test "a full disk is refused" {
    fake df 'printf "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 100 99 1024 99%% /\n"'
    run check_disk
    [ "$status" = 1 ]
    [[ "$output" == *"make room"* ]]
}

@test "a port in use is refused, with its user" {
    fake systemctl 'exit 3'
    fake ss 'echo "tcp LISTEN 0 5 0.0.0.0:65101 0.0.0.0:* users:((\"caddy\",pid=7,fd=3))"'
    PORTS=(65101)
    run check_ports
    [ "$status" = 1 ]
    [[ "$output" == *caddy* ]]
    [[ "$output" == *"--port"* ]]
    fake ss
    check_ports
}

@test "ports follow --port, endpoints, the default" {
    choose_ports
    [ "${PORTS[*]}" = 65101 ]
    PORTS=() PORT=443
    choose_ports
    [ "${PORTS[*]}" = 443 ]
    PORTS=() PORT="" ENDPOINTS=(a.example:99 '[2001:db8::1]' '[2001:db8::1]:7')
    choose_ports
    [ "${PORTS[*]}" = "7 99 65101" ]
}

@test "endpoints: its own public addresses, or a clear word" {
    PORTS=(65101)
    fake ip 'case "$*" in "-4 "*) echo "198.41.0.4 via 198.51.100.1 dev eth0 src 198.51.100.10 uid 0" ;; "-6 "*) echo "2001:503:ba3e::2:30 via fe80::1 dev eth0 src 2001:db8::10 metric 1" ;; esac'
    choose_endpoints
    [ "${ENDPOINTS[*]}" = "198.51.100.10:65101 [2001:db8::10]:65101" ]

    ENDPOINTS=()
    fake ip 'case "$*" in "-4 "*) echo "198.41.0.4 via 10.0.0.1 dev eth0 src 10.0.0.4 uid 0" ;; esac'
    run choose_endpoints
    [ "$status" = 1 ]
    [[ "$output" == *"--endpoint ADDRESS"* ]]

    fake ip 'echo "RTNETLINK answers: Network is unreachable" >&2; exit 2'
    run choose_endpoints
    [ "$status" = 1 ]
    [[ "$output" == *"no way out over IPv4"* ]]

    ENDPOINTS=(vps.example.net '[2001:db8::1]:443')
    choose_endpoints
    [ "${ENDPOINTS[*]}" = "vps.example.net:65101 [2001:db8::1]:443" ]
    for bad in 'a b:x' '2001:db8::1' 'host:port'; do
        ENDPOINTS=("$bad")
        run choose_endpoints
        [ "$status" = 1 ]
    done
}

@test "private addresses" {
    for ip in 10.1.2.3 172.16.0.1 172.31.9.9 192.168.1.1 100.64.0.1 100.127.1.1 169.254.1.1 fd00::1 fe80::1; do
        is_private "$ip" || { echo "$ip" && false; }
    done
    for ip in 172.32.0.1 100.63.0.1 100.128.0.1 198.51.100.1 2001:db8::1; do
        run ! is_private "$ip"
    done
}

@test "networks overlap or don't" {
    overlap 10.239.0.0/16 10.239.4.1
    overlap 10.239.0.0/16 10.0.0.0/8
    overlap 10.239.0.0/16 10.239.128.0/17
    overlap 0.0.0.0/0 192.0.2.1
    run ! overlap 10.239.0.0/16 10.238.0.0/16
    run ! overlap 10.239.0.0/16 192.168.1.0/24
}

@test "an inner network in use here is refused" {
    fake ip 'printf "default via 10.239.0.1 dev eth0 \n10.239.0.0/24 dev eth0 proto kernel scope link src 10.239.0.5 \nlocal 10.239.0.5 dev eth0 table local proto kernel \n"'
    run check_inner
    [ "$status" = 1 ]
    [[ "$output" == *"10.239.0.0/24"* ]]
    INNER=10.200.0.0/16
    check_inner
    INNER=nonsense
    run check_inner
    [ "$status" = 1 ]
}

@test "processors and systems without systemd" {
    fake uname 'echo x86_64'
    check_arch
    [ "$ARCH" = x86_64 ]
    fake uname 'echo armv7l'
    run check_arch
    [ "$status" = 1 ]
    [[ "$output" == *"armv7l"* ]]
}

@test "missing packages are installed, noted, and taken out again unless others need them" {
    fake nft
    fake ip
    fake ss
    check_packages
    [ "${#PACKAGES[@]}" = 0 ]
    put_packages
    [ ! -s "$CALLS" ] || ! grep -q apt-get "$CALLS"

    PACKAGES=(nftables)
    fake apt-get 'case "$*" in *"install -s"*) printf "Inst libnftables1 (1 x)\nInst nftables (1 x)\n" ;; *"purge -s"*) printf "Purg nftables [1]\nPurg libnftables1 [1]\n" ;; esac'
    fake systemctl 'exit 1'
    put_packages
    called 'apt-get update -qq'
    called 'apt-get install -y -qq --no-install-recommends nftables'
    [ "$NEW_PACKAGES" = "libnftables1 nftables " ]
    remove_packages "$NEW_PACKAGES"
    called 'apt-get purge -y -qq libnftables1 nftables'

    # Something else has come to stand on them.
    fake apt-get 'case "$*" in *"purge -s"*) printf "Purg nftables [1]\nRemv firewalld [1]\nPurg libnftables1 [1]\n" ;; esac'
    : >"$CALLS"
    run remove_packages "libnftables1 nftables"
    [[ "$output" == *kept* ]]
    run ! grep -q "purge -y" "$CALLS"
}

@test "downloads: with curl, with wget, with neither" {
    local path="$PATH"
    fake curl
    download https://x/y "$ROOT/z"
    grep -q "^curl .* -o $ROOT/z https://x/y$" "$CALLS"
    mkdir "$ROOT/bare"
    for program in bash sed tail cat; do
        ln -s "$(command -v "$program")" "$ROOT/bare/"
    done
    mv "$ROOT/bin" "$ROOT/with-curl"
    mkdir "$ROOT/bin"
    fake wget
    PATH="$ROOT/bin:$ROOT/bare"
    download https://x/y "$ROOT/z"
    PATH="$path" && rm "$ROOT/bin/wget" && PATH="$ROOT/bin:$ROOT/bare"
    run download https://x/y "$ROOT/z"
    PATH="$path"
    [ "$status" = 1 ]
    [[ "$output" == *"apt-get install curl"* ]]
    called "wget -q --tries=3 --timeout=60 -O $ROOT/z https://x/y"
}

@test "building from the sources" {
    run build_program "$ROOT"
    [ "$status" = 1 ]
    [[ "$output" == *"clone the repository"* ]]
    : >"$ROOT/Cargo.toml"
    fake cargo 'exit 1'
    run build_program "$ROOT"
    [[ "$output" == *"the build failed"* ]]
    printf 'int main(){puts("wanbond-server 1.2.3");}' >"$ROOT/p.c"
    mkdir -p "$ROOT/target/release"
    gcc -w -include stdio.h -o "$ROOT/target/release/wanbond-server" "$ROOT/p.c"
    fake cargo
    ARCH=$(uname -m)
    CARGO_TARGET_DIR="" build_program "$ROOT"
    [ "$VERSION" = 1.2.3 ]
    called "cargo build --release --locked -p wanbond-server"
}

@test "firewalld: a zone's file that says nothing new goes, another stays" {
    FIREWALLD="$ROOT/etc/firewalld" FIREWALLD_OWN="$ROOT/own"
    mkdir -p "$FIREWALLD/zones" "$FIREWALLD_OWN/zones"
    printf '<zone>\n  <service name="ssh"/>\n  <forward/>\n</zone>\n' | tee "$FIREWALLD_OWN/zones/public.xml" >"$FIREWALLD_OWN/zones/trusted.xml"
    printf '<zone/>\n' >"$FIREWALLD/zones/trusted.xml"
    fake firewall-cmd 'echo public'
    note_zones
    [ "$(noted zone.public)$(noted zone.trusted)" = public ]
    note zone.trusted trusted
    printf '<zone>\n  <forward/>\n  <service name="ssh"/>\n</zone>\n' | tee "$FIREWALLD/zones/public.xml" >"$FIREWALLD/zones/public.xml.old"
    forget_zones
    [ ! -e "$FIREWALLD/zones/public.xml" ]
    [ ! -e "$FIREWALLD/zones/public.xml.old" ]
    [ -e "$FIREWALLD/zones/trusted.xml" ]
}

@test "doctor: what etcd lacks is said" {
    FOUND=0
    server_in ""
    run doctor_fleet
    [ -z "$output" ]
    server_in http://a:1
    run doctor_fleet
    [[ "$output" == "ok    etcd"* ]]
    printf '#!/bin/bash\ncase "$*" in *check) echo "fleet: x" ;; *) echo "can'"'"'t be used: routers/x: damaged" ;; esac\n' >"$PROGRAM"
    run doctor_fleet
    [[ "$output" == *"BAD   entries in etcd that make no sense: routers/x: damaged"* ]]
    printf '#!/bin/bash\ncase "$*" in *check) echo "fleet: x" ;; *) echo "etcd: x"; echo "no luck" >&2; exit 1 ;; esac\n' >"$PROGRAM"
    run doctor_fleet
    [[ "$output" == "BAD   no luck"* ]]
}

@test "IPv6 networks: what is part of what" {
    [ "$(digits6 2001:db8::1)" = 20010db8000000000000000000000001 ]
    [ "$(digits6 2001:db8:77::)" = 20010db8007700000000000000000000 ]
    [ "$(digits6 ::1)" = 00000000000000000000000000000001 ]
    [ "$(digits6 2001:db8:1:2:3:4:5:6)" = 20010db8000100020003000400050006 ]
    within6 2001:db8:77:f::/64 2001:db8:77::/56
    within6 2001:db8:77:ff::1 2001:db8:77::/56
    within6 2001:db8:77:3::1 2001:db8:77:2::/63
    within6 2001:db8::/40 2001:db8::/39
    run ! within6 2001:db8:77:100::/64 2001:db8:77::/56
    run ! within6 2001:db8:77:4::1 2001:db8:77:2::/63
    run ! within6 2001:db8::/48 2001:db8:77::/56
}

@test "a routed IPv6 network: taken if it is delegated and free, told of if in doubt" {
    fake ip 'case "$*" in *route*) cat '"$ROOT/routes"' ;; *addr*) cat '"$ROOT/addresses"' ;; esac'
    echo '2: eth0    inet6 2001:db8:5::1/48 scope global' >"$ROOT/addresses"
    printf '%s\n' 'default via fe80::1 dev eth0 metric 1024 pref medium' \
        '2001:db8:5::/48 dev eth0 proto kernel metric 256 pref medium' \
        'unreachable fd00:1::/48 dev lo metric 1024 pref medium' \
        'unreachable 2001:db8:9::/64 dev lo metric 1024 pref medium' >"$ROOT/routes"
    run choose_routed
    [[ "$output" == *"2001:db8:5::1/48 is on this VPS's link"*"--routed-ipv6"* ]]
    choose_routed
    [ -z "$ROUTED" ]

    echo 'unreachable 2001:db8:77::/56 dev lo proto dhcp metric 1024 pref medium' >>"$ROOT/routes"
    choose_routed
    [ "$ROUTED" = 2001:db8:77::/56 ]
    # Not asked again, and not when it was said what to do.
    run choose_routed
    [ -z "$output" ]
    ROUTED=none
    run choose_routed
    [ -z "$output" ]

    ROUTED=""
    echo '2001:db8:77:5::/64 dev docker0 proto kernel metric 256 pref medium' >>"$ROOT/routes"
    run choose_routed
    [[ "$output" == *"partly in use here (2001:db8:77:5::/64)"* ]]
    choose_routed
    [ -z "$ROUTED" ]
    sed -i 's/docker0/wanbond0/' "$ROOT/routes"
    choose_routed
    [ "$ROUTED" = 2001:db8:77::/56 ]
    ROUTED=""
    mkdir -p "$STATE"
    : >"$STATE/server.toml"
    choose_routed
    [ -z "$ROUTED" ]
}

@test "a routed network can be given up again" {
    mkdir -p "$STATE"
    printf 'endpoints = ["a"]\nrouted_ipv6 = "2001:db8:1::/56"\n[egress]\n' >"$STATE/server.toml"
    drop_setting routed_ipv6
    [ "$(cat "$STATE/server.toml")" = $'endpoints = ["a"]\n#routed_ipv6 = "2001:db8:1::/56"\n[egress]' ]
    run drop_setting routed_ipv6
    [ -z "$output" ]
}

# server_in FLEET: a stand-in for the program, of a VPS in the fleet at that etcd.
server_in() {
    printf '#!/bin/bash\necho "server $*" >>"%s"\ncase "$*" in *check) [ -z "%s" ] || echo "fleet: %s" ;; *"fleet key") echo K ;; esac\n' \
        "$CALLS" "$1" "$1" >"$PROGRAM"
    chmod +x "$PROGRAM"
}

@test "a fleet: arguments" {
    parse --etcd https://a:2379 --etcd http://b:2379 --etcd-user u --etcd-password-file /p --fleet-key -
    [ "${ETCD[*]} $FLEET_KEY ${ETCD_ACCESS[*]}" = "https://a:2379 http://b:2379 - --user u --password-file /p" ]
    for bad in "--etcd a:2379" "--etcd" "--etcd-user u" "--fleet-key x" "--etcd http://u:p@a:1" "--etcd-speed 3"; do
        run parse $bad
        [ "$status" = 2 ] || { echo "accepted: $bad" && false; }
    done
}

@test "a fleet is begun, joined, and left as it is" {
    mkdir -p "$STATE"
    server_in ""
    put_fleet
    [ ! -s "$CALLS" ]
    ETCD=(http://a:1) ETCD_ACCESS=(--user u)
    put_fleet
    called "server --state $STATE fleet start --etcd http://a:1 --user u"
    echo K >"$ROOT/key"
    FLEET_KEY="$ROOT/key"
    check_fleet
    put_fleet
    called "server --state $STATE fleet join --fleet-key $WORK/fleet-key --etcd http://a:1 --user u"

    # Again.
    server_in http://a:1
    : >"$CALLS"
    put_fleet
    FLEET_KEY=""
    put_fleet
    run ! grep -q "fleet start\|fleet join" "$CALLS"
    ETCD=(http://other:1)
    run put_fleet
    [ "$status" = 1 ]
    [[ "$output" == *"in a fleet already"* ]]

    FLEET_KEY="$ROOT/nowhere"
    run check_fleet
    [ "$status" = 1 ]
    [[ "$output" == *"wanbond-server fleet key"* ]]
    FLEET_KEY="" ETCD_ACCESS=(--ca "$ROOT/nowhere")
    run check_fleet
    [[ "$output" == *"--etcd-ca"* ]]
}

@test "the program: checksums, damage and the wrong kind are told apart" {
    ARCH=$(uname -m)
    printf 'int main(){puts("wanbond-server 1.2.3");}' >"$ROOT/p.c"
    gcc -w -include stdio.h -o "$ROOT/wanbond-server" "$ROOT/p.c"
    FROM="$ROOT/wanbond-server" SHA256=$(printf '0%.0s' {1..64})
    run fetch_program
    [ "$status" = 1 ]
    [[ "$output" == *"get it again"* ]]
    SHA256=$(sha256sum "$FROM" | cut -d' ' -f1)
    fetch_program
    [ "$VERSION" = 1.2.3 ]

    # In a tarball, with the list of sums that a release has beside it.
    mkdir "$ROOT/release"
    tar -czf "$ROOT/release/w.tar.gz" -C "$ROOT" wanbond-server
    (cd "$ROOT/release" && sha256sum w.tar.gz >SHA256SUMS)
    FROM="$ROOT/release/w.tar.gz" SHA256=""
    fetch_program
    rm -rf "$WORK/tar"
    # Cut on its way: the list says so; without the list, gzip does.
    truncate -s -200 "$FROM"
    run fetch_program
    [ "$status" = 1 ]
    [[ "$output" == *"as SHA256SUMS says"* ]]
    rm "$ROOT/release/SHA256SUMS"
    run fetch_program
    [ "$status" = 1 ]
    [[ "$output" == *"cut or damaged"* ]]

    FROM="$ROOT/wanbond-server" ARCH=$([ "$ARCH" = x86_64 ] && echo aarch64 || echo x86_64)
    run fetch_program
    [[ "$output" == *"another kind of processor"* ]]
    ARCH=$(uname -m) FROM=/bin/true
    run fetch_program
    [[ "$output" == *"not wanbond-server"* ]]
    echo text >"$ROOT/text"
    FROM="$ROOT/text"
    run fetch_program
    [[ "$output" == *"no program for Linux"* ]]
    FROM="$ROOT/nowhere"
    run fetch_program
    [[ "$output" == *"there is no file"* ]]
}

@test "the program is looked for beside the script" {
    ARCH=x86_64
    mkdir "$ROOT/release"
    [ -z "$(beside "$ROOT/release")" ]
    touch "$ROOT/release/wanbond-server-1.0-linux-"{aarch64,x86_64}.tar.gz
    [ "$(beside "$ROOT/release")" = "$ROOT/release/wanbond-server-1.0-linux-x86_64.tar.gz" ]
    touch "$ROOT/release/wanbond-server"
    [ "$(beside "$ROOT/release")" = "$ROOT/release/wanbond-server" ]
}

@test "a release's own script goes on with it" {
    ARCH=$(uname -m)
    fake flock
    mkdir "$ROOT/release"
    echo 'echo "the new script: $*"; exit 7' >"$ROOT/release/install.sh"
    cp /bin/true "$ROOT/release/wanbond-server"
    tar -czf "$ROOT/w.tar.gz" -C "$ROOT" release
    parse upgrade --yes --from "$ROOT/w.tar.gz"
    run fetch_program
    [ "$status" = 7 ]
    [[ "$output" == *"the new script: upgrade --yes --from $ROOT/w.tar.gz" ]]
    # One like this is this one.
    cp "$INSTALLER" "$ROOT/release/install.sh"
    tar -czf "$ROOT/w.tar.gz" -C "$ROOT" release
    rm -rf "$WORK/tar"
    run fetch_program
    [[ "$output" == *"not wanbond-server"* ]]
}

@test "a URL that can't be had" {
    fake curl 'exit 6'
    FROM=https://nowhere.example/w.tar.gz SHA256=$(printf '0%.0s' {1..64})
    run fetch_program
    [ "$status" = 1 ]
    [[ "$output" == *"can't download https://nowhere.example/w.tar.gz"*"run it again"* ]]
}

@test "files are written once, with their mode, and shown only in a dry run" {
    DRY_RUN=1
    run put_file "$ROOT/file" 640 <<<"one"
    [[ "$output" == *"+one"* ]]
    [ ! -e "$ROOT/file" ]
    DRY_RUN=""
    put_file "$ROOT/file" 640 <<<"one"
    [ "$(stat -c %a "$ROOT/file") $(cat "$ROOT/file")" = "640 one" ]
    run put_file "$ROOT/file" 640 <<<"one"
    [[ "$output" == *"already so"* ]]
}

@test "a run that fails undoes what it did, last things first" {
    echo old >"$ROOT/file"
    cat >"$ROOT/run.sh" <<RUN
source "$INSTALLER"
set -euo pipefail
DRY_RUN=""
LOCK="$ROOT/lock"
mktemp() { mkdir -p "$ROOT/w"; echo "$ROOT/w"; }
flock() { :; }
begin
put_file "$ROOT/file" 644 <<<new
put_file "$ROOT/other" 644 <<<new
on_failure sh -c "echo undone >>'$ROOT/order'; cat '$ROOT/file' >>'$ROOT/order'"
change "make a folder" mkdir "$ROOT/folder"
change "fail" sh -c 'echo "disk full" >&2; exit 1'
RUN
    run bash "$ROOT/run.sh"
    [ "$status" = 1 ]
    [[ "$output" == *"disk full"* ]]
    [[ "$output" == *"could not: fail"* ]]
    [[ "$output" == *"Everything is as it was"* ]]
    [ "$(cat "$ROOT/file")" = old ]
    [ ! -e "$ROOT/other" ]
    [ "$(cat "$ROOT/order")" = $'undone\nnew' ]
    [ ! -e "$ROOT/w" ]
}

@test "notes: one line per key" {
    note user wanbond-server
    note packages "a b"
    note user other
    [ "$(noted user)" = other ]
    [ "$(noted packages)" = "a b" ]
    [ -z "$(noted nothing)" ]
    [ "$(stat -c %a "$NOTES/notes")" = 600 ]
}

@test "settings: replaced, taken out of their comment, or added before the first section" {
    mkdir -p "$STATE"
    printf 'endpoints = ["a"]\n#inner_ipv4 = "10.239.0.0/16"\n[egress]\n' >"$STATE/server.toml"
    put_setting inner_ipv4 '"10.1.0.0/16"'
    put_setting ports '[443]'
    put_setting ports '[444]'
    [ "$(cat "$STATE/server.toml")" = $'endpoints = ["a"]\ninner_ipv4 = "10.1.0.0/16"\nports = [444]\n[egress]' ]
    run put_setting ports '[444]'
    [ -z "$output" ]
}

@test "kernel settings only grow, and what was before is noted" {
    echo "MemTotal: 2000000 kB" >"$PROC/meminfo"
    printf '4096\t131072\t6291456\n' >"$PROC/sys/net/ipv4/tcp_rmem"
    printf '4096\t16384\t33554432\n' >"$PROC/sys/net/ipv4/tcp_wmem"
    echo 1 >"$PROC/sys/net/mptcp/enabled"
    put_sysctls
    [ "$(cat "$PROC/sys/net/ipv4/tcp_rmem")" = "4096 131072 16777216" ]
    grep -q "^net.ipv4.tcp_rmem = 4096 131072 16777216$" "$SYSCTL"
    run ! grep -q "tcp_wmem\|mptcp" "$SYSCTL"
    [ "$(noted sysctl.tcp_rmem)" = "4096 131072 6291456" ]
    # Again: the same file, the same note.
    FILES_CHANGED=""
    put_sysctls
    [ -z "$FILES_CHANGED" ]
    [ "$(noted sysctl.tcp_rmem)" = "4096 131072 6291456" ]
}

@test "a small machine keeps its own buffers; MPTCP that is off is turned on" {
    echo "MemTotal: 300000 kB" >"$PROC/meminfo"
    echo 0 >"$PROC/sys/net/mptcp/enabled"
    put_sysctls
    [ "$(cat "$PROC/sys/net/mptcp/enabled")" = 1 ]
    [ "$(grep -c = "$SYSCTL")" = 1 ]
    [ "$(noted sysctl.mptcp_enabled)" = 0 ]
}

@test "firewalls: none, and rules that let everything in" {
    with_rules </dev/null
    [ "$(firewall_kind)" = none ]
    with_rules <<'RULES'
table inet f2b-table {
	set addr-set-sshd {
		type ipv4_addr
	}
	chain f2b-chain {
		type filter hook input priority filter - 1; policy accept;
		tcp dport 22 ip saddr @addr-set-sshd reject with icmp port-unreachable
	}
}
table inet wanbond-server {
	chain forwarded {
		type filter hook forward priority filter; policy drop;
	}
}
RULES
    [ "$(firewall_kind)" = none ]
}

@test "firewalls: closed chains are found, by policy and by a last rule" {
    with_rules <<'RULES'
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
		tcp dport 22 accept
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		counter packets 12 bytes 700 log prefix "no: " drop
	}
	chain output {
		type filter hook output priority filter; policy drop;
	}
}
table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
}
RULES
    fake iptables 'printf -- "-P INPUT DROP\n-P FORWARD ACCEPT\n-P OUTPUT ACCEPT\n"'
    run closed_chains
    [ "$output" = $'nft inet filter input input\nnft inet filter forward forward\niptables - filter INPUT input' ]
    [ "$(firewall_kind)" = rules ]
}

@test "firewalls: our rules go to the head of closed chains, marked" {
    with_rules <<'RULES'
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
	}
	chain forward {
		type filter hook forward priority filter; policy drop;
	}
}
RULES
    PORTS=(443)
    firewall_rules open
    called 'nft insert rule inet filter input tcp dport 443 accept comment "wanbond-server"'
    called 'nft insert rule inet filter input udp dport 443 accept comment "wanbond-server"'
    called 'nft insert rule inet filter forward oifname wanbond0 accept comment "wanbond-server"'
    [ "$(grep -c 'insert' "$CALLS")" = 4 ]
    fake iptables 'printf -- "-P INPUT DROP\n-P FORWARD DROP\n"'
    firewall_rules open
    called 'iptables -I INPUT -p udp --dport 443 -m comment --comment wanbond-server -j ACCEPT'
    called 'iptables -I FORWARD -i wanbond0 -m comment --comment wanbond-server -j ACCEPT'
}

@test "firewalls: only marked rules are taken out" {
    cat >"$ROOT/ruleset" <<'RULES'
table inet filter { # handle 3
	chain input { # handle 1
		type filter hook input priority filter; policy drop;
		tcp dport 65101 accept comment "wanbond-server" # handle 9
		tcp dport 22 accept comment "ssh" # handle 4
	}
}
RULES
    fake nft "[[ \"\$*\" != *'list ruleset' ]] || cat $ROOT/ruleset"
    fake iptables '[ "$1" != -S ] || printf -- "-P INPUT DROP\n-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 65101 -m comment --comment wanbond-server -j ACCEPT\n"'
    fake ip6tables
    PORTS=(65101)
    firewall_rules close
    [ "$(grep 'delete' "$CALLS")" = "nft delete rule inet filter input handle 9" ]
    [ "$(grep -e ' -D ' "$CALLS")" = "iptables -D INPUT -p tcp -m tcp --dport 65101 -m comment --comment wanbond-server -j ACCEPT" ]
}

@test "ufw: rules are added once, noted and taken back" {
    fake ufw 'case "$*" in status) echo "Status: active" ;; *--dry-run*65101/udp*) echo "Skipping adding existing rule" ;; esac'
    [ "$(firewall_kind)" = ufw ]
    ufw_rule allow 65101/tcp
    ufw_rule allow 65101/udp
    ufw_rule route allow in on wanbond0
    called "ufw allow 65101/tcp comment wanbond-server"
    run ! called "ufw allow 65101/udp comment wanbond-server"
    called "ufw route allow in on wanbond0 comment wanbond-server"
    [ "$(grep -c '^ufw' "$NOTES/notes")" = 2 ]
    # Another port: the old one is closed.
    PORTS=(443)
    close_old_ports
    called "ufw delete allow 65101/tcp"
    [ "$(grep -c '^ufw' "$NOTES/notes")" = 1 ]
    ufw_delete "route allow in on wanbond0"
    called "ufw route delete allow in on wanbond0"
}

@test "firewalld: now and for good" {
    fake ufw 'echo "Status: inactive"'
    fake firewall-cmd '[[ "$*" != *--query* ]]'
    [ "$(firewall_kind)" = firewalld ]
    FIREWALL=1 PORTS=(65101)
    open_firewall
    for protocol in tcp udp; do
        called "firewall-cmd --add-port=65101/$protocol"
        called "firewall-cmd --permanent --add-port=65101/$protocol"
    done
    called "firewall-cmd --permanent --zone=trusted --add-interface=wanbond0"
    [ "$(grep -c '^firewalld' "$NOTES/notes")" = 3 ]
    while read -r key rule; do close_noted "$key" "$rule"; done < <(cat "$NOTES/notes")
    called "firewall-cmd --permanent --remove-port=65101/udp"
    called "firewall-cmd --zone=trusted --remove-interface=wanbond0"
    [ ! -s "$NOTES/notes" ]
}

@test "packages: Ubuntu's and Debian's names for what is missing" {
    for name in ip ss; do ln -s /bin/true "$ROOT/bin/$name"; done
    PATH="$ROOT/bin" check_packages
    [ "${PACKAGES[*]}" = nftables ]
}

@test "a script that was cut on its way does nothing" {
    local total size
    total=$(stat -c %s "$BATS_TEST_DIRNAME/../install.sh")
    # At every length: either the shell finds it broken or nothing is called.
    for size in 100 2000 9000 20000 $((total / 2)) $((total - 400)) $((total - 250)); do
        head -c "$size" "$BATS_TEST_DIRNAME/../install.sh" >"$ROOT/cut.sh"
        run env PATH="$ROOT/bin:$PATH" bash "$ROOT/cut.sh" --help
        [[ "$output" != *"Commands"* ]]
        [[ "$output" != *"==>"* ]]
    done
}

@test "not root: said so, nothing done" {
    fake id 'echo 1000'
    for command in install upgrade uninstall status doctor "add-router x"; do
        run bash "$INSTALLER" $command
        [ "$status" = 1 ]
        [[ "$output" == *"needs root"* ]]
    done
}

@test "from a pipe: told to save it first" {
    run bash -c "cat '$INSTALLER' | bash"
    [ "$status" = 2 ]
    [[ "$output" == *"save it to a file first"* ]]
}
