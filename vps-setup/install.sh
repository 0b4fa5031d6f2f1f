#!/usr/bin/env bash
# Sets up wanbond-server on a VPS, and takes it away again.
#
#   bash install.sh [COMMAND] [OPTIONS]
#
# Commands
#   install            (default) set up, or bring what is set up to what is asked; prints a pairing code
#   upgrade            another version of the program; back to the old one if it does not come up well
#   uninstall          everything back to how it was; asks about the keys
#   status             what runs, which routers are connected
#   add-router NAME    admit one more router: prints its pairing code, once
#   doctor             look for what may be wrong, and say what to do
#
# Options
#   --endpoint HOST[:PORT]  where routers reach this VPS (default: its public addresses); repeatable
#   --port PORT             the port listened on, UDP and TCP (default 65101)
#   --router NAME           the first router's name (default home)
#   --from FILE|URL         a release tarball or the program (default: what lies beside this script)
#   --sha256 SUM            what it must hash to; needed with a URL
#   --build                 build the program from the sources this script lies in
#   --inner-ipv4 NETWORK    addresses inside the tunnel (default 10.239.0.0/16)
#   --routed-ipv6 NETWORK   a network that the provider routes to this VPS, for the routers' LANs
#                           (default: one that is delegated to it already, if any); none: not at all
#   --etcd URL              share the list of routers with other VPSes in this etcd; repeatable. The
#                           first VPS begins the fleet, each other one needs its key: there,
#                           wanbond-server fleet key
#   --fleet-key FILE        the fleet's key, to join; - is the standard input
#   --etcd-user NAME, --etcd-password-file FILE, --etcd-ca FILE, --etcd-certificate FILE,
#   --etcd-private-key FILE how to get into etcd: all are copied, the files can go afterwards.
#                           etcd gets the routers' public keys and settings, sealed with the fleet's
#                           key; never that key, a VPS's own key, or a pairing code
#   --no-firewall           leave every firewall to its owner
#   --remove-keys, --keep-keys   for uninstall: what becomes of /etc/wanbond-server
#   --dry-run               show every change, make none
#   --yes                   don't ask
#
# It leaves the kernel, the distribution's packages, SSH and everybody else's firewall rules alone,
# and needs no reboot. Every step looks first whether anything is to be done, so it can be run again
# at any time. If a step fails, those before it are undone.

# shellcheck disable=SC2034 # some are read by the tests only
{
    USER_NAME=wanbond-server
    PROGRAM=/usr/local/bin/wanbond-server
    SETUP=/usr/local/sbin/wanbond-setup
    STATE=/etc/wanbond-server
    UNIT=/etc/systemd/system/wanbond-server.service
    FIREWALL_UNIT=/etc/systemd/system/wanbond-server-firewall.service
    SYSCTL=/etc/sysctl.d/60-wanbond-server.conf
    NOTES=/var/lib/wanbond-setup # what was found and done, for uninstall
    OS_RELEASE=/etc/os-release
    PROC=/proc
    TUN=/dev/net/tun
    SYSTEMD=/run/systemd/system
    RUNTIME=/run/wanbond-server # the daemon's
    LOCK=/run/wanbond-setup.lock
    FIREWALLD=/etc/firewalld
    FIREWALLD_OWN=/usr/lib/firewalld
    DEVICE=wanbond0
    TABLE=wanbond-server # the daemon's own nftables table
    COMMENT=wanbond-server
    DEFAULT_PORT=65101
    DEFAULT_INNER=10.239.0.0/16
    NEEDED_KIB=65536
}

main() {
    set -Eeuo pipefail
    trap 'echo "ERROR: this script does not know why, but this failed (line $LINENO): $BASH_COMMAND" >&2' ERR
    umask 022
    # Everything below compares what programs print.
    export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"
    parse "$@"
    case "$COMMAND" in
        help) usage ;;
        firewall) need_root && firewall_rules "$ARGUMENT" ;;
        status) need_root && cmd_status ;;
        doctor) need_root && cmd_doctor ;;
        add-router) need_root && cmd_add_router ;;
        install | upgrade | uninstall)
            need_root
            begin
            "cmd_$COMMAND"
            ;;
    esac
}

# ---------------------------------------------------------------------------------- arguments

parse() {
    ALL=("$@") COMMAND="" ARGUMENT="" PORT="" ROUTER="" FROM="" SHA256="" BUILD="" INNER="" ROUTED=""
    FIREWALL=1 KEYS="" DRY_RUN="" YES="" ENDPOINTS=() PORTS=() ETCD=() FLEET_KEY="" ETCD_ACCESS=()
    while [ $# -gt 0 ]; do
        case "$1" in
            --endpoint | --port | --router | --from | --sha256 | --inner-ipv4 | --routed-ipv6 | --fleet-key | \
                --etcd | --etcd-user | --etcd-password-file | --etcd-ca | --etcd-certificate | --etcd-private-key)
                [ -n "${2:-}" ] || usage_error "$1 needs a value"
                ;;
        esac
        case "$1" in
            install | upgrade | uninstall | status | doctor | add-router | firewall | help)
                if [ -n "$COMMAND" ]; then
                    take_argument "$1"
                else
                    COMMAND="$1"
                fi
                ;;
            --endpoint) ENDPOINTS+=("$2") && shift ;;
            --port) PORT="$2" && shift ;;
            --router) ROUTER="$2" && shift ;;
            --from) FROM="$2" && shift ;;
            --sha256) SHA256="${2,,}" && shift ;;
            --inner-ipv4) INNER="$2" && shift ;;
            --routed-ipv6) ROUTED="$2" && shift ;;
            --etcd) ETCD+=("$2") && shift ;;
            --fleet-key) FLEET_KEY="$2" && shift ;;
            --etcd-user | --etcd-password-file | --etcd-ca | --etcd-certificate | --etcd-private-key)
                ETCD_ACCESS+=("--${1#--etcd-}" "$2") && shift
                ;;
            --build) BUILD=1 ;;
            --no-firewall) FIREWALL="" ;;
            --remove-keys) KEYS=remove ;;
            --keep-keys) KEYS=keep ;;
            --dry-run) DRY_RUN=1 ;;
            --yes | -y) YES=1 ;;
            --help | -h) COMMAND=help ;;
            -*) usage_error "there is no option $1" ;;
            *) take_argument "$1" ;;
        esac
        shift
    done
    COMMAND="${COMMAND:-install}"
    check_arguments
}

take_argument() {
    [ -z "$ARGUMENT" ] || usage_error "'$1' is one word too many"
    ARGUMENT="$1"
}

check_arguments() {
    case "$COMMAND" in
        add-router) [ -n "$ARGUMENT" ] || usage_error "add-router needs the router's name" ;;
        firewall) [[ "$ARGUMENT" =~ ^(open|close)$ ]] || usage_error "firewall open, or firewall close" ;;
        *) [ -z "$ARGUMENT" ] || usage_error "there is no command '$ARGUMENT'" ;;
    esac
    if [ -n "$PORT" ] && ! { [[ "$PORT" =~ ^[1-9][0-9]{0,4}$ ]] && [ "$PORT" -le 65535 ]; }; then
        usage_error "--port '$PORT' is no port; give a number from 1 to 65535"
    fi
    local name
    for name in "$ROUTER" "$ARGUMENT"; do
        [ -z "$name" ] || [[ "$name" =~ ^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$ ]] ||
            usage_error "'$name' is no router name; use up to 64 letters, digits, '-', '_' and '.'"
    done
    [ -z "$SHA256" ] || [[ "$SHA256" =~ ^[0-9a-f]{64}$ ]] ||
        usage_error "--sha256 needs 64 hexadecimal digits"
    case "$FROM" in
        http://* | https://*)
            [ -n "$SHA256" ] || usage_error "with a URL, say with --sha256 what the file must hash to"
            ;;
    esac
    [ -z "$BUILD" ] || [ -z "$FROM" ] || usage_error "either --build or --from"
    [ "${#ETCD[@]}" -gt 0 ] || [ -z "$FLEET_KEY${ETCD_ACCESS[*]}" ] || usage_error "a fleet needs --etcd URL"
    for name in "${ETCD[@]}"; do
        [[ "$name" =~ ^https?://[^/@[:space:]]+/?$ ]] ||
            usage_error "--etcd '$name' is no address of etcd; such as https://10.0.0.5:2379"
    done
}

usage() {
    sed -n '2,/^$/{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

usage_error() {
    echo "install.sh: $1 (bash install.sh --help shows all)" >&2
    exit 2
}

# ------------------------------------------------------------------------ saying and changing

say() { printf '%s\n' "$*"; }
step() { printf '==> %s\n' "$*"; }
warn() { printf 'WARNING: %s\n' "$*" >&2; }

# die WHAT [WHAT TO DO]: ends. What was changed in this run is undone on the way out.
die() {
    printf 'ERROR: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf '       %s\n' "$2" >&2
    exit 1
}

need_root() {
    [ "$(id -u)" = 0 ] || die "this needs root" "run it as root, or with: sudo bash $0 $COMMAND"
}

# Makes a folder for this run, keeps others from running at the same time, and sees to the end.
begin() {
    WORK=$(mktemp -d) || die "no room for temporary files in ${TMPDIR:-/tmp}"
    UNDO=() DONE=() HANDED_OVER=""
    trap 'finish $?' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    exec 9>"$LOCK"
    flock -n 9 || die "another run of this script is going on" "wait for it to end"
}

# finish STATUS: at every exit. A run that failed takes back what it did.
finish() {
    local status="$1" i left=""
    trap - EXIT INT TERM HUP
    if [ "$status" = 0 ] || [ -n "$HANDED_OVER" ]; then
        :
    elif [ "${#DONE[@]}" = 0 ]; then
        say "Nothing was changed."
    else
        set +e
        say ""
        say "It did not work. Done until then, and undone now:"
        for ((i = ${#DONE[@]} - 1; i >= 0; i--)); do
            say "    ${DONE[i]}"
        done
        for ((i = ${#UNDO[@]} - 1; i >= 0; i--)); do
            eval "${UNDO[i]}" || { left=1 && warn "could not be undone, do it by hand: ${UNDO[i]}"; }
        done
        say "Everything${left:+ else} is as it was before this run. When the reason above is out of the way, run it again."
    fi
    rm -rf "$WORK"
    exit "$status"
}

# on_failure COMMAND...: what undoes the change that follows.
on_failure() { UNDO+=("$(printf '%q ' "$@")"); }

# change WHAT COMMAND...: the only way anything is changed; with --dry-run it is only shown.
change() {
    local what="$1"
    shift
    say "    $what"
    [ -z "$DRY_RUN" ] || return 0
    DONE+=("$what")
    "$@" >"$WORK/output" 2>&1 || {
        sed 's/^/        /' "$WORK/output" >&2
        die "could not: $what" "the command was: $*"
    }
}

already() { say "    already so: $*"; }

# put_file PATH MODE: the standard input becomes the file, whole or not at all.
put_file() {
    local path="$1" mode="$2" new="$WORK/new"
    cat >"$new"
    if [ -f "$path" ] && cmp -s "$new" "$path" && [ "$(stat -c %a "$path")" = "$mode" ]; then
        already "$path"
        return 0
    fi
    FILES_CHANGED=1
    [ -d "${path%/*}" ] || make_folder "${path%/*}"
    keep_for_undo "$path"
    change "write $path" replace_file "$new" "$path" "$mode"
    if [ -n "$DRY_RUN" ] && grep -qI . "$new" && [ "$(wc -l <"$new")" -lt 200 ]; then
        diff -u "$([ -f "$path" ] && echo "$path" || echo /dev/null)" "$new" | sed '1,2d; s/^/        /' || true
    fi
}

# make_folder PATH: one that most systems have; uninstall removes it if it is empty then.
make_folder() {
    [ -n "$DRY_RUN" ] || on_failure rmdir "$1"
    change "make $1" mkdir "$1"
    note "folder.$1" "$1"
}

replace_file() {
    # Beside it and renamed: a running program can be replaced, a full disk leaves the old file.
    if ! install -m "$3" "$1" "$2.new" || ! sync "$2.new" || ! mv -f "$2.new" "$2"; then
        rm -f "$2.new"
        return 1
    fi
}

# keep_for_undo PATH: puts a file or folder back as it is now, or away if there is none.
keep_for_undo() {
    [ -z "$DRY_RUN" ] || return 0
    if [ -e "$1" ]; then
        local copy="$WORK/kept.${#UNDO[@]}"
        cp -a "$1" "$copy" || die "no room in ${TMPDIR:-/tmp} to keep a copy of $1"
        on_failure put_back "$copy" "$1"
    else
        on_failure rm -rf "$1"
    fi
}

put_back() {
    rm -rf "$2" && cp -a "$1" "$2"
}

remove_file() {
    [ -e "$1" ] || return 0
    keep_for_undo "$1"
    change "remove $1" rm -rf "$1"
}

confirm() {
    local answer=""
    [ -z "$YES" ] || return 0
    [ -z "$DRY_RUN" ] || return 0
    [ -t 0 ] || die "there is nobody to ask" "run it again with --yes"
    read -r -p "$1 [y/N] " answer
    [[ "$answer" =~ ^[yYjJ] ]]
}

# note KEY VALUE…, noted KEY, forget KEY: what uninstall must know. One line per key.
note() {
    [ -z "$DRY_RUN" ] || return 0
    keep_for_undo "$NOTES/notes"
    { noted_others "$1" && printf '%s\n' "$*"; } >"$WORK/notes"
    replace_file "$WORK/notes" "$NOTES/notes" 600 || die "can't write $NOTES/notes"
}
noted() { [ ! -f "$NOTES/notes" ] || sed -n "s/^$1 //p" "$NOTES/notes"; }
noted_others() { [ ! -f "$NOTES/notes" ] || awk -v key="$1" '$1 != key' "$NOTES/notes"; }

# ------------------------------------------------------------------------------- looking first

is_installed() { [ -f "$UNIT" ] && [ -x "$PROGRAM" ]; }

has() { command -v "$1" >/dev/null 2>&1; }

# All that can be wrong is looked for before anything is changed.
preflight() {
    step "looking at this machine"
    check_os
    check_arch
    check_systemd
    check_container
    check_kernel
    check_tun
    check_memory
    check_disk
    check_packages
}

# The settings that will be in force, and whether they fit this machine.
look_at_settings() {
    choose_ports
    check_ports
    choose_endpoints
    check_inner
    choose_routed
    check_fleet
}

check_os() {
    local ID="" VERSION_ID="" PRETTY_NAME="an unknown system"
    # shellcheck disable=SC1090 # the system's own
    [ ! -r "$OS_RELEASE" ] || . "$OS_RELEASE"
    case "$ID $VERSION_ID" in
        "debian 12" | "debian 13" | "ubuntu 22.04" | "ubuntu 24.04") say "    $PRETTY_NAME" ;;
        "debian "* | "ubuntu "*) die "$PRETTY_NAME is not among the systems this is made for" \
            "use Debian 12 or 13, or Ubuntu 22.04 or 24.04" ;;
        *) die "$PRETTY_NAME is neither Debian nor Ubuntu" \
            "use Debian 12 or 13, or Ubuntu 22.04 or 24.04; on others, see vps-setup/README.md" ;;
    esac
}

check_arch() {
    ARCH=$(uname -m)
    case "$ARCH" in
        x86_64 | aarch64) ;;
        *) die "there is no wanbond-server for $ARCH" "x86_64 and aarch64 are supported; others: --build" ;;
    esac
}

check_systemd() {
    [ -d "$SYSTEMD" ] || die "systemd does not run here" "this script sets up a systemd service"
}

check_container() {
    local kind=""
    ! has systemd-detect-virt || kind=$(systemd-detect-virt --container || true)
    case "$kind" in
        openvz) die "this VPS is an OpenVZ container: it has no kernel of its own to set up" \
            "choose a VPS with KVM" ;;
        none | "") ;;
        *) say "    a container ($kind): it has to be allowed /dev/net/tun and nftables" ;;
    esac
}

check_kernel() {
    local release major minor
    release=$(cat "$PROC/sys/kernel/osrelease")
    IFS=.- read -r major minor _ <<<"$release"
    minor="${minor%%[!0-9]*}"
    say "    Linux $release"
    if [ ! -e "$PROC/sys/net/mptcp/enabled" ]; then
        warn "this kernel has no MPTCP: TCP goes through the tunnel instead, which costs both ends more work"
    elif [ "$major" -lt 5 ] || { [ "$major" = 5 ] && [ "$minor" -lt 15 ]; }; then
        warn "MPTCP is young in Linux before 5.15 (no path manager by netlink worth the name): expect TCP to use one link at a time, or to go through the tunnel"
    fi
}

check_tun() {
    [ -c "$TUN" ] || ! has modprobe || modprobe -q tun || true
    if ! { [ -c "$TUN" ] && : <>"$TUN"; } 2>/dev/null; then
        die "there is no usable $TUN" "in a container, its owner must allow it; otherwise the kernel lacks the module tun"
    fi
    # The daemon opens it as a user without rights; what it may do there, its capabilities say.
    [[ "$(stat -c %a "$TUN")" =~ [67]$ ]] ||
        die "only root may open $TUN" "udev gives it mode 0666; where there is no udev: chmod 666 $TUN at each start"
}

check_memory() {
    local kib
    kib=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' "$PROC/meminfo")
    [ "$kib" -ge 240000 ] || warn "only $((kib / 1024)) MiB of memory: enough for one router, hardly for more"
}

check_disk() {
    local folder free
    for folder in "${PROGRAM%/*}" /etc /var/lib; do
        free=$(df -Pk "$folder" | awk 'END { print $4 }')
        [ "$free" -ge "$NEEDED_KIB" ] ||
            die "only $((free / 1024)) MiB are free where $folder is" "make room for $((NEEDED_KIB / 1024)) MiB and run it again"
    done
}

# What the daemon and this script call. All of it is there on an ordinary server.
check_packages() {
    PACKAGES=()
    has nft || PACKAGES+=(nftables)
    { has ip && has ss; } || PACKAGES+=(iproute2)
    [ "${#PACKAGES[@]}" = 0 ] || say "    to be installed: ${PACKAGES[*]}"
    has ip || die "the program ip is missing" "apt-get install iproute2"
    ! has nft || nft list tables >/dev/null 2>&1 || die "nftables can't be used here" "in a container, its owner must allow it"
}

# setting NAME: what server.toml says, as `wanbond-server check` tells it.
setting() {
    local program="$PROGRAM"
    [ -x "$program" ] || program="${WORK:-}/program"
    "$program" --state "$STATE" check 2>/dev/null | sed -n "s/^$1: //p" || true
}

# Whether there are settings, be it of an installation that was removed but for its keys.
has_settings() { [ -f "$STATE/server.toml" ]; }

# The ports that will be listened on: --port, else those of the endpoints, else those of before.
choose_ports() {
    local endpoint
    if [ -n "$PORT" ]; then
        PORTS=("$PORT")
        # Who moves the port means the endpoints too.
        if [ "${#ENDPOINTS[@]}" = 0 ] && has_settings; then
            mapfile -t ENDPOINTS < <(setting endpoint | sed "s/:[0-9]*\$/:$PORT/")
        fi
    elif [ "${#ENDPOINTS[@]}" -gt 0 ]; then
        for endpoint in "${ENDPOINTS[@]}"; do
            [[ "$endpoint" =~ [^:]:([0-9]+)$ ]] && PORTS+=("${BASH_REMATCH[1]}") || PORTS+=("$DEFAULT_PORT")
        done
        mapfile -t PORTS < <(printf '%s\n' "${PORTS[@]}" | sort -un)
    elif has_settings; then
        mapfile -t PORTS < <(setting port)
    fi
    [ "${#PORTS[@]}" -gt 0 ] || PORTS=("$DEFAULT_PORT")
}

check_ports() {
    local port users own=""
    ! systemctl -q is-active wanbond-server.service || own=" $(setting port | paste -sd' ') "
    for port in "${PORTS[@]}"; do
        [[ "$own" != *" $port "* ]] || continue
        users=$(ss -Hlntup "sport = :$port" 2>/dev/null || true)
        [ -z "$users" ] || die "port $port is in use:
$users" "stop that program, or choose another port with --port"
    done
}

# own_address FAMILY TARGET: the address this VPS has towards the Internet.
own_address() { ip "$1" -o route get "$2" 2>/dev/null | sed -n 's/.* src \([0-9a-f.:]*\).*/\1/p' || true; }

is_private() {
    case "$1" in
        10.* | 127.* | 169.254.* | 192.168.* | fc* | fd* | fe80:*) ;;
        172.1[6-9].* | 172.2[0-9].* | 172.3[01].*) ;;
        100.6[4-9].* | 100.[7-9][0-9].* | 100.1[01][0-9].* | 100.12[0-7].*) ;;
        *) return 1 ;;
    esac
}

choose_endpoints() {
    local v4 v6
    if [ "${#ENDPOINTS[@]}" = 0 ] && ! has_settings; then
        # Nothing is sent: the kernel's routes are asked. These belong to DNS root servers.
        v4=$(own_address -4 198.41.0.4)
        v6=$(own_address -6 2001:503:ba3e::2:30)
        if [ -z "$v4" ]; then
            die "this VPS has no way out over IPv4" \
                "check its network; if it has IPv6 alone, say so with --endpoint '[${v6:-ITS ADDRESS}]'; every router then needs IPv6 on its WANs"
        fi
        ! is_private "$v4" ||
            die "this VPS's own address, $v4, is a private one: its provider translates it" \
                "look up its public address at the provider and give it with --endpoint ADDRESS"
        ENDPOINTS=("$v4")
        [ -z "$v6" ] || is_private "$v6" || ENDPOINTS+=("[$v6]")
    fi
    local i
    for i in "${!ENDPOINTS[@]}"; do
        [[ "${ENDPOINTS[i]}" =~ ^(\[[0-9a-fA-F:.]+\]|[^]:[:space:][]+)(:[0-9]+)?$ ]] ||
            die "'${ENDPOINTS[i]}' is no endpoint" "use HOST, HOST:PORT, an IPv4 address, or an IPv6 address in brackets"
        [ -n "${BASH_REMATCH[2]}" ] || ENDPOINTS[i]+=":${PORT:-$DEFAULT_PORT}"
    done
}

# The daemon drops packets from its inner network that come in elsewhere: it must be nobody's.
check_inner() {
    local net="${INNER:-}" taken
    [ -n "$net" ] || ! has_settings || return 0
    net="${net:-$DEFAULT_INNER}"
    [[ "$net" =~ ^[0-9]+(\.[0-9]+){3}/[0-9]+$ ]] || die "--inner-ipv4 '$net' is no network" "such as 10.239.0.0/16"
    taken=$(ip -4 -o route show table all | grep -v " dev $DEVICE" | grep -vE '^(default|broadcast|unreachable|blackhole)' |
        sed -nE 's/^(local )?([0-9.]+(\/[0-9]+)?) .*/\2/p' | while read -r route; do
        ! overlap "$net" "$route" || echo "$route"
    done | sort -u || true)
    [ -z "$taken" ] || die "the addresses for inside the tunnel, $net, are in use here: ${taken//$'\n'/, }" \
        "choose another private network with --inner-ipv4, such as 10.238.0.0/16"
}

# overlap NET NET: whether two IPv4 networks (or addresses) have an address in common.
overlap() {
    local -a parts
    local network length value=() mask shortest=32
    for network in "$1" "$2"; do
        length="${network#*/}"
        [ "$length" != "$network" ] || length=32
        [ "$length" -ge "$shortest" ] || shortest="$length"
        IFS=. read -r -a parts <<<"${network%/*}"
        value+=($(((parts[0] << 24) + (${parts[1]:-0} << 16) + (${parts[2]:-0} << 8) + ${parts[3]:-0})))
    done
    mask=$((shortest == 0 ? 0 : (0xffffffff << (32 - shortest)) & 0xffffffff))
    [ $((value[0] & mask)) = $((value[1] & mask)) ]
}

# A network that is delegated to this VPS shows in its routes: what asked for it by DHCPv6 (systemd-
# networkd, dhcpcd) or the owner rejects what of it is not in use. On the first installation, one
# that nothing else here uses is taken; a network that is merely on the link is only told of.
choose_routed() {
    local network used
    if [ "$ROUTED" != "" ] || has_settings; then
        return 0
    fi
    while read -r network; do
        used=$(used_of "$network")
        if [ -n "$used" ]; then
            say "    IPv6: $network is routed to this VPS, but partly in use here (${used//$'\n'/, }); --routed-ipv6 $network takes it all the same"
        elif [ -z "$ROUTED" ]; then
            ROUTED="$network"
            say "    IPv6: $network is routed to this VPS: each router gets a /64 of it for its LAN (--routed-ipv6 none: not)"
        else
            say "    IPv6: $network is routed to this VPS too; to take that one: --routed-ipv6 $network"
        fi
    done < <(delegated)
    [ -z "$ROUTED" ] || return 0
    while read -r network; do
        say "    IPv6: $network is on this VPS's link; if its provider routes it here: --routed-ipv6 $network"
    done < <({ ip -6 -o addr show scope global 2>/dev/null || true; } | awk '{ print $4 }' | long_enough)
}

# Networks of public addresses that a /64 for each router can be taken from.
long_enough() { sed -nE 's,^([23][0-9a-f]{3}:[0-9a-f:]*)/(3[2-9]|4[0-9]|5[0-9]|6[0-3])$,\1/\2,p' | sort -u; }

delegated() {
    { ip -6 -o route show table all 2>/dev/null || true; } | grep -v ' proto 120 ' |
        sed -nE 's,^(unreachable|blackhole|prohibit) ([^ ]+) .*,\2,p' | long_enough
}

# used_of NETWORK: routes and addresses of this machine within it.
used_of() {
    local other
    { ip -6 -o route show table all 2>/dev/null || true; } |
        sed -nE '/ dev '"$DEVICE"'/d; s,^((unreachable|blackhole|prohibit|throw|local|anycast|multicast) )?([23][0-9a-f:]*(/[0-9]+)?) .*,\3,p' |
        sort -u | while read -r other; do
        [ "$other" = "$1" ] || ! within6 "$other" "$1" || echo "$other"
    done
}

# within6 NET NETWORK: whether an IPv6 network (or address) is part of another.
within6() {
    local length="${2#*/}" own="${1#*/}" whole a b
    [ "$own" != "$1" ] || own=128
    [ "$own" -ge "$length" ] || return 1
    a=$(digits6 "${1%/*}") b=$(digits6 "${2%/*}") whole=$((length / 4))
    [ "${a:0:whole}" = "${b:0:whole}" ] || return 1
    [ $((length % 4)) = 0 ] ||
        [ $((16#${a:whole:1} >> (4 - length % 4))) = $((16#${b:whole:1} >> (4 - length % 4))) ]
}

# digits6 ADDRESS: its 32 digits.
digits6() {
    local head="${1%%::*}" tail="" group out="" end=""
    [[ "$1" != *::* ]] || tail="${1#*::}"
    for group in ${head//:/ }; do
        out+=$(printf '%04x' "0x$group")
    done
    for group in ${tail//:/ }; do
        end+=$(printf '%04x' "0x$group")
    done
    while [ $((${#out} + ${#end})) -lt 32 ]; do
        out+=0
    done
    echo "$out$end"
}

# The fleet's key is read once; that it fits, and that etcd answers, shows when it is used.
check_fleet() {
    local i
    [ "${#ETCD[@]}" -gt 0 ] || return 0
    if [ -n "$FLEET_KEY" ]; then
        cat "$([ "$FLEET_KEY" = - ] && echo /dev/stdin || echo "$FLEET_KEY")" >"$WORK/fleet-key" 2>/dev/null ||
            die "the fleet's key can't be read from $FLEET_KEY" "on a VPS that is in the fleet, this prints it: wanbond-server fleet key"
    fi
    for ((i = 0; i < ${#ETCD_ACCESS[@]}; i += 2)); do
        [ "${ETCD_ACCESS[i]}" = --user ] || [ -r "${ETCD_ACCESS[i + 1]}" ] ||
            die "${ETCD_ACCESS[i + 1]} can't be read" "it was given as --etcd-${ETCD_ACCESS[i]#--}"
    done
}

# ----------------------------------------------------------------------------------- the program

# Finds the program that is asked for, and puts it at $WORK/program.
fetch_program() {
    local here file sum
    step "finding the program"
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    if [ -n "$BUILD" ]; then
        build_program "$here/.."
        return
    fi
    case "$FROM" in
        http://* | https://*)
            file="$WORK/download"
            say "    downloading $FROM"
            download "$FROM" "$file" ||
                die "can't download $FROM" "check the network and the address, and run it again"
            ;;
        "")
            file=$(beside "$here")
            [ -n "$file" ] || die "there is no program beside this script" \
                "unpack a release tarball and run the install.sh in it, or use --from FILE or --build"
            ;;
        *) file="$FROM" ;;
    esac
    [ -f "$file" ] || die "there is no file $file"
    sum=$(sha256sum "$file")
    sum="${sum%% *}"
    if [ -n "$SHA256" ]; then
        [ "$sum" = "$SHA256" ] || die "$file hashes to $sum, not to $SHA256" \
            "it was cut, damaged or replaced on its way: get it again"
    fi
    check_sums_beside "$file" "$sum"
    case "$(head -c 2 "$file" | od -An -tx1 | tr -d ' ')" in
        1f8b)
            mkdir "$WORK/tar"
            tar -xzf "$file" -C "$WORK/tar" --no-same-owner 2>"$WORK/output" ||
                die "$file can't be unpacked: $(head -n 1 "$WORK/output")" "it was cut or damaged on its way: get it again"
            hand_over "$(find "$WORK/tar" -type f -name install.sh | head -n 1)"
            file=$(find "$WORK/tar" -type f -name wanbond-server | head -n 1)
            [ -n "$file" ] || die "there is no wanbond-server in that tarball"
            ;;
    esac
    install -m 755 "$file" "$WORK/program"
    check_program
}

beside() {
    local file
    for file in "$1/wanbond-server" "$1"/wanbond-server-*-linux-"$ARCH".tar.gz; do
        if [ -f "$file" ]; then
            echo "$file"
            return
        fi
    done
    # The copy that install leaves runs beside the program it has set up.
    if [ "$COMMAND" != upgrade ] && is_installed; then
        echo "$PROGRAM"
    fi
}

# hand_over SCRIPT: a release brings the script that knows its unit and settings: that one goes on.
hand_over() {
    local status=0
    if [ -z "$1" ] || cmp -s "$1" "${BASH_SOURCE[0]}"; then
        return 0
    fi
    say "    going on with that release's own script"
    flock -u 9
    HANDED_OVER=1
    bash "$1" "${ALL[@]}" || status=$?
    exit "$status"
}

# A SHA256SUMS beside a tarball must agree.
check_sums_beside() {
    local list="${1%/*}/SHA256SUMS" name="${1##*/}" said
    [ "$list" != "$1/SHA256SUMS" ] && [ -f "$list" ] || return 0
    said=$(awk -v name="$name" '$2 == name || $2 == "*" name { print $1 }' "$list")
    [ -z "$said" ] || [ "$said" = "$2" ] || die "$1 hashes to $2, not to $said as SHA256SUMS says" \
        "it was cut, damaged or replaced on its way: get it again"
}

download() {
    if has curl; then
        curl -fsSL --retry 2 --connect-timeout 15 --max-time 600 -o "$2" "$1"
    elif has wget; then
        wget -q --tries=3 --timeout=60 -O "$2" "$1"
    else
        die "neither curl nor wget is here" "apt-get install curl, or download it elsewhere and use --from FILE"
    fi
}

build_program() {
    [ -f "$1/Cargo.toml" ] || die "--build needs the sources around this script" "clone the repository and run vps-setup/install.sh in it"
    has cargo || die "--build needs Rust" "install it from https://rustup.rs"
    say "    building; this takes some minutes"
    (cd "$1" && cargo build --release --locked -p wanbond-server) || die "the build failed" "see what cargo says above; a VPS with less than 2 GiB of memory may need swap, or --from a release tarball"
    install -m 755 "${CARGO_TARGET_DIR:-$1/target}/release/wanbond-server" "$WORK/program"
    check_program
}

check_program() {
    local machine
    machine=$(od -An -j18 -N2 -tu2 "$WORK/program" | tr -d ' ')
    case "$(head -c 4 "$WORK/program" | od -An -c | tr -d ' ') $machine $ARCH" in
        "177ELF 62 x86_64" | "177ELF 183 aarch64") ;;
        "177ELF 62 "* | "177ELF 183 "*) die "that program is for another kind of processor than this VPS's ($ARCH)" ;;
        *) die "that is no program for Linux on x86_64 or aarch64" ;;
    esac
    VERSION=$("$WORK/program" --version 2>"$WORK/output" | sed -n 's/^wanbond-server //p') || true
    [ -n "$VERSION" ] || die "that program is not wanbond-server, or does not run here: $(head -n 1 "$WORK/output")"
    say "    wanbond-server $VERSION"
}

# -------------------------------------------------------------------------------------- install

cmd_install() {
    preflight
    fetch_program
    look_at_settings
    if [ -z "$YES$DRY_RUN" ]; then
        say "This would be done:"
        DRY_RUN=1
        apply
        DRY_RUN=""
        confirm "Go on?" || { say "Nothing was changed." && exit 0; }
    fi
    apply
    [ -n "$DRY_RUN" ] || first_router
}

cmd_upgrade() {
    is_installed || die "there is nothing to upgrade" "run install first"
    preflight
    fetch_program
    look_at_settings
    if cmp -s "$WORK/program" "$PROGRAM"; then
        say "    that is the version that runs already"
    fi
    confirm "Upgrade $("$PROGRAM" --version) to $VERSION?" || { say "Nothing was changed." && exit 0; }
    # A new version may change the state; the old one gets back what it knows.
    keep_for_undo "$STATE"
    apply
    say ""
    say "wanbond-server $VERSION runs; keys, routers and settings are as they were."
}

apply() {
    FILES_CHANGED="" RESTARTED=""
    if is_installed; then
        # The first to be kept is the last to be put back: then the old program starts with all its own.
        [ -n "$DRY_RUN" ] || on_failure service_again
    fi
    put_packages
    put_notes
    put_program
    put_user
    put_state
    put_sysctls
    open_firewall
    put_service
    start_service
    test_service
    put_fleet
}

service_again() {
    [ -n "$RESTARTED" ] || return 0
    systemctl daemon-reload
    systemctl restart wanbond-server.service && say "The version before runs again."
}

put_packages() {
    local new
    [ "${#PACKAGES[@]}" -gt 0 ] || return 0
    step "packages"
    has apt-get || die "apt-get is missing" "install ${PACKAGES[*]}"
    [ -n "$DRY_RUN" ] || apt-get update -qq || die "the package lists can't be fetched" "check the network"
    new=$(apt-get install -s --no-install-recommends "${PACKAGES[@]}" 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p' | tr '\n' ' ')
    [ -n "$DRY_RUN" ] || on_failure remove_packages "$new"
    change "install ${PACKAGES[*]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${PACKAGES[@]}"
    NEW_PACKAGES="$new"
}

# remove_packages "NAME…": those of them that nothing else needs by now.
remove_packages() {
    local -a names
    local gone
    read -r -a names <<<"$1"
    [ "${#names[@]}" -gt 0 ] || return 0
    gone=$(apt-get purge -s "${names[@]}" | sed -n 's/^\(Remv\|Purg\) \([^ ]*\).*/\2/p' | sort -u)
    if [ -n "$(comm -23 <(echo "$gone") <(printf '%s\n' "${names[@]}" | sort -u))" ] ||
        systemctl -q is-enabled nftables.service 2>/dev/null; then
        say "    kept, as they are used by now: $1"
        return 0
    fi
    DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq "${names[@]}"
}

put_notes() {
    step "this script, for later: $SETUP"
    if [ ! -d "$NOTES" ]; then
        [ -n "$DRY_RUN" ] || on_failure rm -rf "$NOTES"
        change "make $NOTES" mkdir -m 700 "$NOTES"
    fi
    [ -z "${NEW_PACKAGES:-}" ] || note packages "$NEW_PACKAGES"
    put_file "$SETUP" 755 <"${BASH_SOURCE[0]}"
}

put_program() {
    step "the program"
    put_file "$PROGRAM" 755 <"$WORK/program"
}

put_user() {
    step "a user of its own, without rights"
    if getent passwd "$USER_NAME" >/dev/null; then
        already "user $USER_NAME"
        return 0
    fi
    [ -n "$DRY_RUN" ] || on_failure userdel "$USER_NAME"
    change "add user $USER_NAME" useradd --system --user-group --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin "$USER_NAME"
    note user "$USER_NAME"
}

put_state() {
    local args=() endpoint
    step "keys and settings in $STATE"
    if [ ! -d "$STATE" ]; then
        [ -n "$DRY_RUN" ] || on_failure rm -rf "$STATE"
        change "make $STATE" install -d -m 700 -o "$USER_NAME" -g "$USER_NAME" "$STATE"
    elif [ -z "$DRY_RUN" ] && [ "$(stat -c %U "$STATE")" != "$USER_NAME" ]; then
        keep_for_undo "$STATE"
        change "give $STATE to $USER_NAME" chown -R "$USER_NAME:$USER_NAME" "$STATE"
    fi
    if [ "${#ENDPOINTS[@]}" -gt 0 ] && [ "$(setting endpoint)" != "$(printf '%s\n' "${ENDPOINTS[@]}")" ]; then
        for endpoint in "${ENDPOINTS[@]}"; do
            args+=(--endpoint "$endpoint")
        done
        FILES_CHANGED=1
        keep_for_undo "$STATE/server.toml"
        change "wanbond-server init ${args[*]}" "$PROGRAM" --state "$STATE" init "${args[@]}"
    else
        already "the endpoints"
    fi
    [ -z "$INNER" ] || put_setting inner_ipv4 "\"$INNER\""
    case "$ROUTED" in
        "") ;;
        none) drop_setting routed_ipv6 ;;
        *) put_setting routed_ipv6 "\"$ROUTED\"" ;;
    esac
    # Without this line the ports are those of the endpoints.
    if [ -n "$PORT" ] && { grep -q '^ports *=' "$STATE/server.toml" 2>/dev/null ||
        [ "$(printf '%s\n' "${ENDPOINTS[@]##*:}" | sort -u)" != "$PORT" ]; }; then
        put_setting ports "[$PORT]"
    fi
    if [ -z "$DRY_RUN" ]; then
        "$PROGRAM" --state "$STATE" check >"$WORK/output" 2>&1 || die "the settings are wrong: $(cat "$WORK/output")"
    fi
}

# put_setting KEY VALUE: in server.toml, where it stands, be it as a comment.
put_setting() {
    local file="$STATE/server.toml"
    if [ -n "$DRY_RUN" ] && [ ! -f "$file" ]; then
        say "    set $1 = $2 in $file"
        return 0
    fi
    ! grep -qxF "$1 = $2" "$file" || return 0
    awk -v key="$1" -v value="$2" '
        !set && ($0 ~ "^#?" key " *=" || /^\[/) { print key " = " value; set = 1; if ($0 !~ /^\[/) next }
        { print }' "$file" >"$WORK/server.toml"
    keep_for_undo "$file"
    FILES_CHANGED=1
    # Into the file that is there: its owner and mode stay.
    change "set $1 = $2 in $file" cp --no-preserve=all "$WORK/server.toml" "$file"
}

# drop_setting KEY: in server.toml, it becomes a comment.
drop_setting() {
    local file="$STATE/server.toml"
    grep -q "^$1 *=" "$file" 2>/dev/null || return 0
    sed "s/^$1 *=/#&/" "$file" >"$WORK/server.toml"
    keep_for_undo "$file"
    FILES_CHANGED=1
    change "set no $1 in $file" cp --no-preserve=all "$WORK/server.toml" "$file"
}

put_sysctls() {
    local name min default max want="" before
    step "kernel settings: room for fast links"
    # A window of 16 MiB carries 600 Mbit/s over 200 ms; a small VPS keeps its own limits.
    if [ "$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' "$PROC/meminfo")" -ge 480000 ]; then
        for name in tcp_rmem tcp_wmem; do
            before=$(noted "sysctl.$name")
            read -r min default max <<<"${before:-$(cat "$PROC/sys/net/ipv4/$name")}"
            [ "$max" -ge 16777216 ] || want+="net.ipv4.$name = $min $default 16777216"$'\n'
        done
    fi
    if [ -e "$PROC/sys/net/mptcp/enabled" ] &&
        [ "$(noted sysctl.mptcp_enabled)$(cat "$PROC/sys/net/mptcp/enabled")" != 1 ]; then
        want+="net.mptcp.enabled = 1"$'\n'
    fi
    if [ -z "$want" ]; then
        already "the kernel's own will do"
        return 0
    fi
    put_file "$SYSCTL" 644 <<<"# For wanbond-server. More than was set before, nothing less."$'\n'"${want%$'\n'}"
    local line key value path
    while IFS= read -r line; do
        key="${line%% = *}" value="${line#* = }"
        path="$PROC/sys/${key//.//}"
        [ "$(normal <"$path")" != "$value" ] || continue
        before=$(normal <"$path")
        [ -n "$(noted "sysctl.$(short "$key")")" ] || note "sysctl.$(short "$key")" "$before"
        [ -n "$DRY_RUN" ] || on_failure set_sysctl "$path" "$before"
        change "set $key = $value" set_sysctl "$path" "$value"
    done <<<"${want%$'\n'}"
}

normal() { tr -s '[:space:]' ' ' | sed 's/ $//'; }
short() { case "$1" in net.mptcp.enabled) echo mptcp_enabled ;; *) echo "${1##*.}" ;; esac }
set_sysctl() { printf '%s\n' "$2" >"$1"; }

# ------------------------------------------------------------------------------------- firewall

# Which firewall decides here: ufw, firewalld, rules (nftables or iptables by hand), none.
firewall_kind() {
    if has ufw && [[ "$(ufw status 2>/dev/null)" == "Status: active"* ]]; then
        echo ufw
    elif has firewall-cmd && firewall-cmd --state >/dev/null 2>&1; then
        echo firewalld
    elif [ -n "$(closed_chains)" ]; then
        echo rules
    else
        echo none
    fi
}

# Chains that stop what no rule of theirs lets in or through: "TOOL FAMILY TABLE CHAIN HOOK", the
# tool being nft, iptables or ip6tables.
closed_chains() {
    local tool
    if has nft; then
        nft list ruleset 2>/dev/null | awk -v own="$TABLE" '
            $1 == "table" { family = $2; table = $3 }
            $1 == "chain" { chain = $2; hook = ""; closed = 0; next }
            / hook (input|forward) / && /type filter/ {
                hook = / hook input / ? "input" : "forward"
                closed = /policy drop/
                next
            }
            # An unconditional end.
            hook != "" && /^\t\t(counter packets [0-9]+ bytes [0-9]+ )?(log .*)?(drop|reject)( with .*)?( comment .*)?$/ { closed = 1 }
            /^\t}/ {
                # Those of iptables (as nft shows them) and of firewalld are spoken to in their own tongue.
                foreign = (table == "filter" && chain ~ /^(INPUT|FORWARD)$/ && family ~ /^ip6?$/) || table == "firewalld"
                if (hook != "" && closed && !foreign && table != own && family ~ /^(inet|ip|ip6)$/) print "nft", family, table, chain, hook
                hook = ""
            }' || true
    fi
    for tool in iptables ip6tables; do
        ! has "$tool" || "$tool" -S 2>/dev/null | awk -v tool="$tool" '
            /^-P (INPUT|FORWARD) DROP/ { closed[$2] = 1 }
            /^-A (INPUT|FORWARD) -j (DROP|REJECT)/ { closed[$2] = 1 }
            END { for (chain in closed) print tool, "-", "filter", chain, tolower(chain) }' || true
    done
}

# firewall_rules open|close: our rules at the head of every closed chain, by hand and at each start.
firewall_rules() {
    local tool family table chain hook words
    [ "${#PORTS[@]}" -gt 0 ] || mapfile -t PORTS < <(setting port)
    remove_rules
    [ "$1" = open ] || return 0
    while read -r tool family table chain hook; do
        while read -r words; do
            # shellcheck disable=SC2086 # several words
            if [ "$tool" = nft ]; then
                nft insert rule "$family" "$table" "$chain" $words accept comment "\"$COMMENT\""
            else
                "$tool" -I "$chain" $words -m comment --comment "$COMMENT" -j ACCEPT
            fi
        done < <(rule_words "$tool" "$hook")
    done < <(closed_chains)
}

# rule_words TOOL HOOK: what our rules there match, one a line.
rule_words() {
    local port protocol
    case "$2" in
        input)
            for port in "${PORTS[@]}"; do
                for protocol in tcp udp; do
                    if [ "$1" = nft ]; then echo "$protocol dport $port"; else echo "-p $protocol --dport $port"; fi
                done
            done
            ;;
        forward)
            if [ "$1" = nft ]; then
                printf '%s\n' "iifname $DEVICE" "oifname $DEVICE"
            else
                printf '%s\n' "-i $DEVICE" "-o $DEVICE"
            fi
            ;;
    esac
}

# Whether every closed chain has all our rules, and no other has any.
rules_are_in() {
    local tool family table chain hook words wanted=0 rules found
    while read -r tool family table chain hook; do
        if [ "$tool" = nft ]; then
            rules=$(nft list chain "$family" "$table" "$chain" | tr -d '"')
        else
            rules=$("$tool" -S "$chain" | sed 's/-m \(tcp\|udp\) //')
        fi
        while read -r words; do
            wanted=$((wanted + 1))
            grep -qE -- "$words .*$COMMENT" <<<"$rules" || return 1
        done < <(rule_words "$tool" "$hook")
    done < <(closed_chains)
    found=$(our_rules | wc -l)
    [ "$found" = "$wanted" ]
}

# "nft FAMILY TABLE CHAIN HANDLE" or "iptables|ip6tables RULE" for each rule with our comment.
our_rules() {
    local tool
    if has nft; then
        nft -a list ruleset 2>/dev/null | awk -v comment="comment \"$COMMENT\"" '
            $1 == "table" { family = $2; table = $3 }
            $1 == "chain" { chain = $2 }
            # iptables knows its own, below.
            index($0, comment) && chain !~ /^(INPUT|FORWARD)$/ { print "nft", family, table, chain, $NF }'
    fi
    for tool in iptables ip6tables; do
        ! has "$tool" || "$tool" -S 2>/dev/null | tr -d '"' | sed -n "/--comment $COMMENT /s/^-A /$tool /p" || true
    done
}

# Takes out every rule of ours, known by its comment, and no other.
remove_rules() {
    local tool rest
    local -a words
    while read -r tool rest; do
        read -r -a words <<<"$rest"
        if [ "$tool" = nft ]; then
            nft delete rule "${words[@]:0:3}" handle "${words[3]}"
        else
            "$tool" -D "${words[@]}"
        fi
    done < <(our_rules)
}

open_firewall() {
    local kind port protocol
    step "firewall"
    if [ -z "$FIREWALL" ]; then
        say "    left alone; let in ${PORTS[*]} (TCP and UDP), and let through what comes in or goes out by $DEVICE"
        return 0
    fi
    kind=$(firewall_kind)
    say "    active: $kind"
    close_old_ports
    case "$kind" in
        ufw)
            for port in "${PORTS[@]}"; do
                for protocol in tcp udp; do
                    ufw_rule allow "$port/$protocol"
                done
            done
            ufw_rule route allow in on "$DEVICE"
            ufw_rule route allow out on "$DEVICE"
            ;;
        firewalld)
            note_zones
            for port in "${PORTS[@]}"; do
                for protocol in tcp udp; do
                    firewalld_rule --add-port="$port/$protocol" --remove-port="$port/$protocol" --query-port="$port/$protocol"
                done
            done
            # The daemon's own table says what may come out of the tunnel.
            firewalld_rule "--zone=trusted --add-interface=$DEVICE" "--zone=trusted --remove-interface=$DEVICE" \
                "--zone=trusted --query-interface=$DEVICE"
            ;;
    esac
    if [ "$kind" = rules ]; then
        put_firewall_unit
    else
        drop_firewall_unit
    fi
    say "    If your provider has a firewall of its own (AWS, Google, Azure, Oracle, Hetzner and others do),"
    say "    open ${PORTS[*]}, TCP and UDP, in its console too."
}

put_firewall_unit() {
    local name="${FIREWALL_UNIT##*/}" chains
    [ -n "$DRY_RUN" ] || on_failure systemctl daemon-reload
    put_file "$FIREWALL_UNIT" 644 < <(firewall_unit)
    if systemctl -q is-enabled "$name" 2>/dev/null && systemctl -q is-active "$name" && rules_are_in; then
        already "rules for ${PORTS[*]} and $DEVICE"
        return 0
    fi
    chains=$(closed_chains | awk '{ print $3, $4 }' | sort -u | paste -sd, | sed 's/,/, /g')
    [ -n "$DRY_RUN" ] || on_failure stop_unit "$name"
    [ -n "$DRY_RUN" ] || systemctl daemon-reload
    change "rules for ${PORTS[*]} and $DEVICE, marked $COMMENT, at the head of: $chains" restart_firewall_unit "$name"
}

restart_firewall_unit() {
    if ! systemctl -q enable "$1" || ! systemctl restart "$1"; then
        journalctl -q --no-pager -o cat -u "$1" -n 10
        return 1
    fi
}

drop_firewall_unit() {
    [ -f "$FIREWALL_UNIT" ] || return 0
    change "stop inserting firewall rules" stop_unit wanbond-server-firewall.service
    remove_file "$FIREWALL_UNIT"
}

stop_unit() {
    systemctl -q disable --now "$1" 2>/dev/null || systemctl stop "$1" 2>/dev/null || true
}

# ufw_rule WORDS…: added unless it is there, and noted, so that uninstall takes out what was ours only.
ufw_rule() {
    local out words
    if [ -n "$DRY_RUN" ]; then
        say "    ufw $*"
        return 0
    fi
    out=$(ufw --dry-run "$@" 2>&1) || die "ufw refuses: ufw $*: $out"
    if [[ "$out" == *"Skipping adding existing rule"* ]]; then
        already "ufw $*"
        return 0
    fi
    words="$*"
    on_failure ufw_delete "$words"
    change "ufw $words" ufw "$@" comment "$COMMENT"
    note "ufw.${words// /_}" "$words"
}

ufw_delete() {
    local -a words
    read -r -a words <<<"$1"
    if [ "${words[0]}" = route ]; then
        ufw route delete "${words[@]:1}"
    else
        ufw delete "${words[@]}"
    fi
}

# firewalld_rule ADD REMOVE QUERY: now and for good.
firewalld_rule() {
    local -a add query
    read -r -a add <<<"$1"
    read -r -a query <<<"$3"
    if firewall-cmd -q "${query[@]}" 2>/dev/null && firewall-cmd -q --permanent "${query[@]}" 2>/dev/null; then
        already "firewall-cmd $1"
        return 0
    fi
    [ -n "$DRY_RUN" ] || on_failure firewalld_do "$2"
    change "firewall-cmd $1, now and for good" firewalld_do "$1"
    note "firewalld.${1//[ =]/_}" "$2"
}

firewalld_do() {
    local -a words
    read -r -a words <<<"$1"
    firewall-cmd "${words[@]}" && firewall-cmd --permanent "${words[@]}"
}

# note_zones: which zones firewalld has no file of in /etc yet; the first rule makes one.
note_zones() {
    local zone
    for zone in "$(firewall-cmd --get-default-zone)" trusted; do
        [ -e "$FIREWALLD/zones/$zone.xml" ] || note "zone.$zone" "$zone"
    done
}

# forget_zones: those files go, if they say again what firewalld has of its own.
forget_zones() {
    local zone file
    while read -r zone; do
        file="$FIREWALLD/zones/$zone.xml"
        if [ -f "$file" ] && cmp -s <(zone_lines "$file") <(zone_lines "$FIREWALLD_OWN/zones/$zone.xml"); then
            remove_file "$file"
            remove_file "$file.old"
        fi
    done < <(sed -n 's/^zone\.[^ ]* //p' "$NOTES/notes" 2>/dev/null || true)
}

zone_lines() { sed 's/^[[:space:]]*//; /^$/d' "$1" | sort; }

# After a change of ports: those of before are closed.
close_old_ports() {
    local key rule port keep
    [ -f "$NOTES/notes" ] || return 0
    while read -r key rule; do
        [[ "$rule" =~ ([0-9]+)/(tcp|udp) ]] || continue
        keep=""
        for port in "${PORTS[@]}"; do
            [ "${BASH_REMATCH[1]}" != "$port" ] || keep=1
        done
        [ -z "$keep" ] || continue
        close_noted "$key" "$rule"
    done < <(grep -E '^(ufw|firewalld)\.' "$NOTES/notes" || true)
}

close_noted() {
    case "$1" in
        ufw.*) change "ufw delete $2" ufw_delete "$2" ;;
        firewalld.*) change "firewall-cmd $2" firewalld_do "$2" ;;
    esac
    [ -n "$DRY_RUN" ] || { noted_others "$1" >"$WORK/notes" && replace_file "$WORK/notes" "$NOTES/notes" 600; }
}

# -------------------------------------------------------------------------------------- service

put_service() {
    step "the service"
    [ -n "$DRY_RUN" ] || on_failure systemctl daemon-reload
    put_file "$UNIT" 644 < <(unit)
    [ -n "$DRY_RUN" ] || systemctl daemon-reload
    if systemctl -q is-enabled wanbond-server.service 2>/dev/null; then
        already "started with the machine"
    else
        [ -n "$DRY_RUN" ] || on_failure stop_unit wanbond-server.service
        change "start it with the machine" systemctl enable wanbond-server.service
    fi
}

unit() {
    cat <<UNIT
[Unit]
Description=wanbond server: where routers' bonded links come out
Documentation=file:$SETUP
Wants=network-online.target
After=network-online.target nftables.service netfilter-persistent.service ufw.service firewalld.service

[Service]
Type=notify
User=$USER_NAME
Group=$USER_NAME
ExecStart=$PROGRAM --state $STATE run
ExecReload=/bin/kill -HUP \$MAINPID
Restart=always
RestartSec=1
TimeoutStartSec=30
LimitNOFILE=1048576
# What the daemon has changed in the kernel stands there; a start after a crash puts it back.
RuntimeDirectory=wanbond-server
RuntimeDirectoryPreserve=yes

# The tunnel's device, routes, firewall table and kernel settings; ports below 1024.
AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE
NoNewPrivileges=yes
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
LockPersonality=yes
MemoryDenyWriteExecute=yes
PrivateTmp=yes
ProcSubset=all
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
# Kernel settings of the network are the daemon's work; all others stay read-only.
ReadWritePaths=$STATE /proc/sys/net
RemoveIPC=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
UMask=0077

[Install]
WantedBy=multi-user.target
UNIT
}

# nftables and iptables forget at a reload what is not in their own files, which are not ours to edit.
firewall_unit() {
    cat <<UNIT
[Unit]
Description=wanbond server's ports in this machine's firewall
Documentation=file:$SETUP
After=nftables.service netfilter-persistent.service
PartOf=nftables.service netfilter-persistent.service
ReloadPropagatedFrom=nftables.service netfilter-persistent.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$SETUP firewall open
ExecReload=$SETUP firewall open
ExecStop=$SETUP firewall close

[Install]
WantedBy=multi-user.target nftables.service netfilter-persistent.service
UNIT
}

start_service() {
    if [ -z "$FILES_CHANGED" ] && systemctl -q is-active wanbond-server.service; then
        already "running"
        return 0
    fi
    RESTARTED=1
    change "start wanbond-server" start_and_wait
}

# Up means: it has told systemd so, holds its device and table, and is still the same process a
# little later.
start_and_wait() {
    local since
    since=$(date +%s)
    if ! systemctl restart wanbond-server.service || ! stays_up; then
        journal_since "$since"
        return 1
    fi
}

stays_up() {
    local pid tries
    pid=$(systemctl show -P MainPID wanbond-server.service)
    for tries in {1..20}; do
        sleep 0.5
        ! tunnel_is_there || break
    done
    # Time to fall over, too.
    [ "$tries" -gt 4 ] || sleep 2
    systemctl -q is-active wanbond-server.service &&
        [ "$(systemctl show -P MainPID wanbond-server.service)" = "$pid" ] &&
        "$PROGRAM" status >/dev/null && tunnel_is_there
}

tunnel_is_there() {
    ip link show "$DEVICE" >/dev/null 2>&1 && nft list table inet "$TABLE" >/dev/null 2>&1
}

journal_since() { journalctl -q --no-pager -o cat -u wanbond-server.service --since "@$1" | tail -n 15; }

test_service() {
    step "asking it at its own addresses"
    if [ -n "$DRY_RUN" ]; then
        say "    wanbond-server probe"
        return 0
    fi
    if "$PROGRAM" --state "$STATE" probe >"$WORK/output" 2>&1; then
        sed 's/^/    /' "$WORK/output"
        return 0
    fi
    # Behind a provider's translation the public address often can't be reached from inside.
    "$PROGRAM" probe "127.0.0.1:${PORTS[0]}" >"$WORK/local" 2>&1 || {
        cat "$WORK/local" >&2
        die "it runs, but does not answer"
    }
    sed 's/^/    /' "$WORK/output"
    warn "it answers here, but not at every endpoint as seen from this VPS. Behind a translated address or a
         name that does not resolve yet that may be right; from elsewhere, \`wanbond-server probe HOST\` tells"
}

# Last, as etcd would keep what it has been told if another step failed. The daemon follows.
put_fleet() {
    local args=() url
    [ "${#ETCD[@]}" -gt 0 ] || return 0
    step "the list of routers, shared through etcd"
    for url in "${ETCD[@]}"; do
        args+=(--etcd "$url")
    done
    args+=("${ETCD_ACCESS[@]}")
    if [ "$(setting fleet)" = "$(printf '%s\n' "${ETCD[@]}")" ] &&
        { [ -z "$FLEET_KEY" ] || [ "$("$PROGRAM" --state "$STATE" fleet key)" = "$(cat "$WORK/fleet-key")" ]; }; then
        already "in the fleet"
        return 0
    fi
    [ -z "$(setting fleet)" ] || [ -n "$FLEET_KEY" ] ||
        die "this VPS is in a fleet already, at $(setting fleet | paste -sd' ')" "to move it: wanbond-server fleet leave, then run this again"
    keep_for_undo "$STATE/fleet"
    if [ -n "$FLEET_KEY" ]; then
        change "join the fleet at ${ETCD[*]}" "$PROGRAM" --state "$STATE" fleet join --fleet-key "$WORK/fleet-key" "${args[@]}"
    else
        change "begin a fleet at ${ETCD[*]}" "$PROGRAM" --state "$STATE" fleet start "${args[@]}"
        say "    for the next VPS's --fleet-key, this prints the fleet's key: wanbond-server fleet key"
    fi
    [ -n "$DRY_RUN" ] || [ -z "$FLEET_KEY" ] ||
        say "    routers that were paired before: wanbond-server fleet codes makes of a code they have the one for this VPS"
}

first_router() {
    local name="${ROUTER:-home}"
    say ""
    if [ "$("$PROGRAM" --state "$STATE" router list --json)" != "[]" ] && [ -z "$ROUTER" ]; then
        say "wanbond-server runs. One more router: wanbond-setup add-router NAME"
        return 0
    fi
    if "$PROGRAM" --state "$STATE" router show "$name" >/dev/null 2>&1; then
        say "wanbond-server runs. Router '$name' is there already; its code was shown when it was added."
        return 0
    fi
    say "wanbond-server runs. This is the pairing code of router '$name'; keep it like a password:"
    show_code "$name"
    say ""
    say "Paste it in the router: in LuCI, Network > wanbond > Setup. One more router: wanbond-setup add-router NAME"
}

# The code on standard output; the drawing too, where somebody looks.
show_code() {
    if [ -t 1 ]; then
        "$PROGRAM" --state "$STATE" router add "$1" --print-qr 2>&1
    else
        "$PROGRAM" --state "$STATE" router add "$1"
    fi
}

cmd_add_router() {
    is_installed || die "wanbond-server is not set up here" "run install first"
    show_code "$ARGUMENT"
}

# ------------------------------------------------------------------------------------ uninstall

cmd_uninstall() {
    local key rule value path
    local -a folders
    if [ ! -d "$NOTES" ] && ! is_installed; then
        die "wanbond-server was not set up here by this script" "there is nothing to remove"
    fi
    confirm "Remove wanbond-server from this machine?" || { say "Nothing was changed." && exit 0; }
    if [ -z "$KEYS" ] && [ -d "$STATE" ]; then
        if [ -z "$YES$DRY_RUN" ] && confirm "Remove its keys, settings and routers ($STATE) too? All pairing codes end with them."; then
            KEYS=remove
        else
            KEYS=keep
        fi
    fi
    step "the service"
    RESTARTED=1
    [ -n "$DRY_RUN" ] || on_failure service_again
    change "stop it" stop_unit wanbond-server.service
    if [ "$KEYS" = remove ] && [ -n "$(setting fleet)" ]; then
        change "take this VPS out of the fleet; its routers stay in it" leave_fleet
    fi
    remove_file "$UNIT"
    step "firewall"
    drop_firewall_unit
    while read -r key rule; do
        close_noted "$key" "$rule"
    done < <(grep -E '^(ufw|firewalld)\.' "$NOTES/notes" 2>/dev/null || true)
    forget_zones
    change "systemctl daemon-reload" systemctl daemon-reload
    step "kernel settings"
    remove_file "$SYSCTL"
    while read -r key value; do
        case "$key" in
            sysctl.mptcp_enabled) path="$PROC/sys/net/mptcp/enabled" ;;
            sysctl.*) path="$PROC/sys/net/ipv4/${key#sysctl.}" ;;
            *) continue ;;
        esac
        [ ! -e "$path" ] || change "set ${path##*/} = $value" set_sysctl "$path" "$value"
    done < <(cat "$NOTES/notes" 2>/dev/null || true)
    step "files"
    value=$(noted packages)
    rule=$(noted user)
    mapfile -t folders < <(sed -n 's/^folder\.[^ ]* //p' "$NOTES/notes" 2>/dev/null || true)
    remove_file "$PROGRAM"
    remove_file "$RUNTIME"
    if [ "$KEYS" = remove ]; then
        remove_file "$STATE"
    elif [ -d "$STATE" ]; then
        change "keep $STATE, for root alone" chown -R root:root "$STATE"
    fi
    remove_file "$SETUP"
    remove_file "$NOTES"
    if [ -n "$rule" ] && getent passwd "$rule" >/dev/null; then
        change "remove user $rule" userdel "$rule"
    fi
    if [ -n "$value" ]; then
        step "packages"
        change "remove what was installed for it and is needed by nothing else: $value" remove_packages "$value"
    fi
    for path in "${folders[@]}"; do
        # Somebody else's files may lie there by now.
        [ -n "$(ls -A "$path" 2>/dev/null)" ] || change "remove $path" rmdir "$path"
    done
    say ""
    [ "$KEYS" != keep ] || say "The keys and routers are still in $STATE: install finds them again."
    say "wanbond-server is removed; its log stays in the journal."
}

# Nobody's loss if etcd is gone. Should the rest fail, the daemon puts itself back.
leave_fleet() {
    "$PROGRAM" --state "$STATE" fleet forget "$(setting endpoint | head -n 1)" || true
}

# -------------------------------------------------------------------------------- status, doctor

cmd_status() {
    if ! is_installed; then
        say "wanbond-server is not set up here"
        exit 3
    fi
    say "service: $(systemctl is-active wanbond-server.service || true), $(systemctl is-enabled wanbond-server.service 2>/dev/null || true)"
    setting endpoint | sed 's/^/endpoint: /'
    say "firewall: $(firewall_kind)"
    setting fleet | sed 's/^/fleet: /'
    "$PROGRAM" status
}

# bad WHAT FIX, good WHAT
bad() {
    FOUND=$((FOUND + 1))
    printf 'BAD   %s\n      %s\n' "$1" "$2"
}
good() { printf 'ok    %s\n' "$1"; }

cmd_doctor() {
    local port family left
    FOUND=0
    if ! is_installed; then
        bad "wanbond-server is not set up here" "run install"
        exit 1
    fi
    mapfile -t PORTS < <(setting port)
    if "$PROGRAM" --state "$STATE" check >/dev/null 2>&1; then
        good "settings and routers' files"
    else
        bad "$("$PROGRAM" --state "$STATE" check 2>&1 >/dev/null)" "correct it; the daemon follows at once"
    fi
    if systemctl -q is-active wanbond-server.service; then
        good "the service runs"
    else
        bad "the service does not run" "see why: journalctl -u wanbond-server -n 30"
    fi
    if "$PROGRAM" --state "$STATE" probe >/dev/null 2>&1; then
        good "it answers at its endpoints, as seen from here"
    elif [ "${#PORTS[@]}" -gt 0 ] && "$PROGRAM" probe "127.0.0.1:${PORTS[0]}" >/dev/null 2>&1; then
        bad "it answers here, but not at every endpoint as seen from here" \
            "check that the names and addresses are this VPS's: $(setting endpoint | paste -sd' '); behind a translated address this may be right"
    else
        bad "it does not answer" "see why: journalctl -u wanbond-server -n 30"
    fi
    doctor_firewall
    doctor_fleet
    if [ -e "$PROC/sys/net/mptcp/enabled" ] && [ "$(cat "$PROC/sys/net/mptcp/enabled")" = 1 ]; then
        good "MPTCP"
    else
        bad "MPTCP is off, or not in this kernel" "run install again; a kernel from 5.15 on has it"
    fi
    if [ -c "$TUN" ]; then good "$TUN"; else bad "$TUN is gone" "modprobe tun, or ask the container's owner"; fi
    if ip link show "$DEVICE" >/dev/null 2>&1; then
        good "the tunnel's device"
    else
        bad "there is no $DEVICE: only TCP is carried" "systemctl restart wanbond-server"
    fi
    if nft list table inet "$TABLE" >/dev/null 2>&1; then
        good "the table of address translation"
    else
        bad "the table inet $TABLE is gone: another program has flushed the firewall" "it comes back within 5 s; if not: systemctl restart wanbond-server"
    fi
    for family in -4 -6; do
        left=$(own_address "$family" "$([ "$family" = -4 ] && echo 198.41.0.4 || echo 2001:503:ba3e::2:30)")
        if [ -n "$left" ]; then good "a way out over IPv${family#-}, from $left"; else say "note  no way out over IPv${family#-}"; fi
    done
    left=$(df -Pk "$STATE" | awk 'END { print $4 }')
    if [ "$left" -ge 10240 ]; then good "room on the disk"; else bad "the disk is full" "make room"; fi
    [ "$FOUND" = 0 ] || exit 1
}

doctor_fleet() {
    local said
    [ -n "$(setting fleet)" ] || return 0
    if said=$("$PROGRAM" --state "$STATE" fleet status 2>&1); then
        good "etcd, and the fleet's list in it"
        said=$(sed -n "s/^can't be used: //p" <<<"$said")
        [ -z "$said" ] || bad "entries in etcd that make no sense: ${said//$'\n'/; }" "remove them there (etcdctl del), or remove that router and add it again"
    else
        bad "$(tail -n 1 <<<"$said")" "the routers known here stay admitted meanwhile"
    fi
}

doctor_firewall() {
    local kind port rules missing=""
    kind=$(firewall_kind)
    case "$kind" in
        none) ;;
        ufw)
            rules=$(ufw status)
            for port in "${PORTS[@]}"; do
                grep -qE "^$port(/udp)? .*ALLOW" <<<"$rules" && grep -qE "^$port(/tcp)? .*ALLOW" <<<"$rules" || missing+=" $port"
            done
            ;;
        firewalld)
            for port in "${PORTS[@]}"; do
                firewall-cmd -q --query-port="$port/udp" && firewall-cmd -q --query-port="$port/tcp" || missing+=" $port"
            done
            ;;
        rules)
            rules_are_in || missing=" ${PORTS[*]}"
            ;;
    esac
    if [ -n "$missing" ]; then
        bad "the firewall ($kind) does not let in$missing" "run install again, or open the ports yourself"
    else
        good "firewall: $kind"
    fi
}

# Last, so that a script that was cut on its way does nothing. Tests read it without running it.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    main "$@"
elif [ -z "${BASH_SOURCE[0]}" ]; then
    echo "install.sh: save it to a file first, and run it with: bash install.sh" >&2
    exit 2
fi
