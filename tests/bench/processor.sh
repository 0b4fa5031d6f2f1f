#!/usr/bin/env bash
# What the tunnel makes of a processor, side by side with a user-space WireGuard.
#
#   bash tests/bench/processor.sh [--rounds N] [--seconds N] [--mode NAME]... [--tcp WAY]
#                                 [--smoke] [--no-install] [--no-build]
#
# Two plain veth links, as fast as the machine, between a router and a VPS in namespaces (the lab's
# scenario `unshaped`). wanbond's daemons and boringtun-cli run in them at the same time, one end on
# core 0 and the other on core 1, and iperf3 sends through the one and the other in turn. README.md
# beside this says what the figures mean.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
# shellcheck source=tests/setup.sh
source tests/setup.sh

# The same everywhere a figure is compared.
readonly BORINGTUN=0.7.1
# The lab's addresses (tests/lab/src/topology.rs): of one machine on its Internet, and of the VPS
# on the first ISP's cable, since boringtun answers from there.
readonly THROUGH_WANBOND=203.0.113.10 THROUGH_BORINGTUN=203.0.113.11 VPS=10.202.1.1
# The router with its LAN, and the VPS with what is behind it.
readonly NEAR_CORE=0 FAR_CORE=1

rounds=5
seconds=8
modes=()
tcp=packet
install=yes
build=yes
smoke=no
work=""
lab_pid=""
pids=()

main() {
    while [[ $# -gt 0 ]]; do
        case $1 in
        --rounds) rounds=$2 && shift ;;
        --seconds) seconds=$2 && shift ;;
        --mode) modes+=("$2") && shift ;;
        --tcp) tcp=$2 && shift ;;
        --smoke) smoke=yes ;;
        --no-install) install=no ;;
        --no-build) build=no ;;
        *) die "unknown option $1; the first lines of ${BASH_SOURCE[0]} tell those there are" ;;
        esac
        shift
    done
    [[ ${#modes[@]} -gt 0 ]] || modes=(tcp-up tcp-down tcp-down-8 udp-up udp-down)
    [[ $(id -u) = 0 ]] || cannot "needs root, as it pins processes in namespaces to cores"
    [[ $(nproc) -ge 2 ]] || cannot "needs two cores, one for each end"
    work=$(mktemp -d)
    trap clean_up EXIT
    get_programs
    start_lab
    start_iperf_server "$THROUGH_WANBOND"
    if [[ $smoke = yes ]]; then
        smoke
        return
    fi
    get_boringtun
    start_boringtun
    start_iperf_server "$THROUGH_BORINGTUN"
    describe_machine
    local mode
    for mode in "${modes[@]}"; do
        run_mode "$mode"
    done
    summarise
}

die() {
    echo "processor.sh: $*" >&2
    exit 1
}

# As a test, it is skipped where the machine can't.
cannot() {
    [[ $smoke = yes ]] || die "$1"
    echo "SKIPPED: the benchmark's smoke run $1"
    exit 0
}

clean_up() {
    local pid
    for pid in "${pids[@]}" $lab_pid; do
        kill "$pid" 2>/dev/null || true
    done
    [[ -z $lab_pid ]] || wait "$lab_pid" 2>/dev/null || true
    rm -rf "$work"
}

get_programs() {
    if [[ $install = yes ]]; then
        install_packages "${BUILD_PACKAGES[@]}" iperf3 jq util-linux
    fi
    need_commands cargo ip nft iperf3 jq taskset nsenter
    local metadata
    metadata=$(cargo metadata --format-version 1 --no-deps --locked)
    target=$(jq -r .target_directory <<<"$metadata")
    if [[ $build = yes ]]; then
        cargo build --profile lab --locked --quiet -p wanbond -p wanbond-server -p wanbond-lab
    fi
    readonly target programs=$target/lab
}

get_boringtun() {
    if [[ $install = yes ]]; then
        install_packages wireguard-tools
    fi
    need_commands wg
    readonly boringtun=$target/boringtun-$BORINGTUN/bin/boringtun-cli
    if [[ ! -x $boringtun ]]; then
        echo "building boringtun-cli $BORINGTUN" >&2
        CARGO_TARGET_DIR=$work/build cargo install boringtun-cli --version "$BORINGTUN" --locked \
            --quiet --root "${boringtun%/bin/*}"
        rm -rf "$work/build"
    fi
}

# The daemons are started by the lab; programs of the same names pin them to their cores.
start_lab() {
    mkdir "$work/bin"
    pinned wanbond "$NEAR_CORE"
    pinned wanbond-server "$FAR_CORE"
    WANBOND_BIN_DIR=$work/bin "$programs/wanbond-lab" up --scenario unshaped --tcp "$tcp" \
        >"$work/lab.out" 2>"$work/lab.err" &
    lab_pid=$!
    wait_for "the lab" grep -q '^lab .* is up' "$work/lab.out"
    lab=$(sed -n 's/^lab \(.*\) is up.*/\1/p' "$work/lab.out")
    readonly lab
    wait_for "packets through the tunnel" \
        enter lan ping -c 1 -W 1 -q "$THROUGH_WANBOND" >/dev/null
    # The size of datagrams is found out, and both paths are in use.
    sleep 2
}

# pinned NAME CORE: a program of that name that runs the real one on that core.
pinned() {
    cat >"$work/bin/$1" <<TEXT
#!/bin/sh
case " \$* " in *" run "*) echo \$\$ >"$work/$1.pid" ;; esac
exec taskset -c $2 "$programs/$1" "\$@"
TEXT
    chmod +x "$work/bin/$1"
}

enter() {
    local namespace=$1
    shift
    "$programs/wanbond-lab" --lab "$lab" enter "$namespace" -- "$@"
}

# wait_for WHAT COMMAND...: until it succeeds.
wait_for() {
    local what=$1
    shift
    for _ in {1..100}; do
        "$@" 2>/dev/null && return 0
        [[ -z $lab_pid ]] || kill -0 "$lab_pid" 2>/dev/null || break
        sleep 0.2
    done
    cat "$work"/*.err >&2
    die "no sign of $what"
}

# WireGuard over the first link; what is sent to the second address goes through it.
start_boringtun() {
    local near far
    near=$(wg genkey) far=$(wg genkey)
    boringtun_end router "$NEAR_CORE" "$near" "$far" 203.0.113.0/24,10.99.0.0/24 \
        "endpoint $VPS:51820"
    boringtun_end vps "$FAR_CORE" "$far" "$near" 192.168.77.0/24,10.99.0.0/24 ""
    enter router ip addr add 10.99.0.2/24 dev bt0
    enter router ip route add "$THROUGH_BORINGTUN" dev bt0 table 99
    enter router ip rule add pref 99 to "$THROUGH_BORINGTUN" table 99
    enter vps ip addr add 10.99.0.1/24 dev bt0
    enter vps ip route add 192.168.77.0/24 dev bt0
    enter vps nft add table ip bench
    enter vps nft add chain ip bench post '{ type nat hook postrouting priority srcnat; }'
    enter vps nft add rule ip bench post ip saddr 192.168.77.0/24 masquerade
    wait_for "packets through boringtun" \
        enter lan ping -c 1 -W 1 -q "$THROUGH_BORINGTUN" >/dev/null
}

# boringtun_end NAMESPACE CORE KEY PEERS_KEY ADDRESSES ENDPOINT
boringtun_end() {
    local key=$work/$1.key
    echo "$3" >"$key"
    # One thread on its one core does more than several.
    # shellcheck disable=SC2016 # for the inner shell
    enter "$1" taskset -c "$2" sh -c 'echo $$ >'"$work/boringtun-$1.pid"'; exec "$0" "$@"' \
        "$boringtun" bt0 --foreground --disable-drop-privileges --threads 1 \
        >"$work/boringtun-$1.out" 2>"$work/boringtun-$1.err" &
    wait_for "boringtun's device" enter "$1" ip link show bt0 >/dev/null
    pids+=("$(<"$work/boringtun-$1.pid")")
    # shellcheck disable=SC2086 # the endpoint is two words or none
    wait_for "boringtun's socket" enter "$1" wg set bt0 private-key "$key" listen-port 51820 \
        peer "$(wg pubkey <<<"$4")" allowed-ips "$5" $6
    enter "$1" ip link set bt0 up mtu 1420
}

start_iperf_server() {
    # shellcheck disable=SC2016 # for the inner shell
    enter inet taskset -c "$FAR_CORE" sh -c 'echo $$ >'"$work/iperf.pid"'; exec "$0" "$@"' \
        iperf3 --server --bind "$1" >/dev/null 2>&1 &
    wait_for "iperf3" enter inet sh -c "ss -Hltn src $1:5201 | grep -q ."
    pids+=("$(<"$work/iperf.pid")")
}

# Of so short a run no figure is believed: only that each kind of traffic comes through.
smoke() {
    local mode
    seconds=2
    for mode in tcp-up tcp-down-8 udp-up udp-down; do
        measure "$mode" wanbond | awk -v mode="$mode" '{
            print mode ": " int($1) " Mbit/s"
            exit !($1 > 0)
        }' || die "$mode: nothing came through"
    done
}

describe_machine() {
    printf 'kernel %s, %s, commit %s, tcp %s, boringtun-cli %s, %s rounds of %s s\n' "$(uname -r)" \
        "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)" \
        "$(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo +)" \
        "$tcp" "$BORINGTUN" "$rounds" "$seconds"
    echo "Mbit/s of payload, and processor seconds per GB at the router and the VPS"
    printf '%-11s %5s | %8s %6s %6s | %8s %6s %6s | %5s\n' \
        mode round wanbond router vps boringtun router vps ratio
}

# One and the other in turn, the first to go changing from round to round.
run_mode() {
    local mode=$1 round ours theirs
    for ((round = 1; round <= rounds; round++)); do
        if ((round % 2)); then
            ours=$(measure "$mode" wanbond) && theirs=$(measure "$mode" boringtun)
        else
            theirs=$(measure "$mode" boringtun) && ours=$(measure "$mode" wanbond)
        fi
        awk -v mode="$mode" -v round="$round" -v ours="$ours" -v theirs="$theirs" 'BEGIN {
            split(ours, a); split(theirs, b)
            printf "%-11s %5d | %8.0f %6.2f %6.2f | %8.0f %6.2f %6.2f | %5.2f\n",
                mode, round, a[1], a[2], a[3], b[1], b[2], b[3], a[1] / b[1]
        }' | tee -a "$work/rows"
    done
}

# measure MODE WHO: Mbit/s, and processor seconds per GB at either end.
measure() {
    local mode=$1 who=$2 address near far options=() before after bits
    case $who in
    wanbond)
        address=$THROUGH_WANBOND
        near=$(<"$work/wanbond.pid") far=$(<"$work/wanbond-server.pid")
        ;;
    boringtun)
        address=$THROUGH_BORINGTUN
        near=$(<"$work/boringtun-router.pid") far=$(<"$work/boringtun-vps.pid")
        ;;
    esac
    case $mode in
    *down*) options+=(--reverse) ;;
    esac
    case $mode in
    # As much as comes through; the size fits both tunnels' packets.
    udp*) options+=(--udp --bitrate 0 --length 1340) ;;
    esac
    case $mode in
    *-8) options+=(--parallel 8) ;;
    esac
    before=$(cpu "$near" "$far")
    enter lan taskset -c "$NEAR_CORE" iperf3 --client "$address" --time "$seconds" --json \
        "${options[@]}" >"$work/result" || die "iperf3: $(jq -r .error "$work/result")"
    after=$(cpu "$near" "$far")
    bits=$(jq '.end | if .sum_received.bytes > 0 then .sum_received.bytes * 8
        else .sum.bytes * 8 * (1 - .sum.lost_percent / 100) end' "$work/result")
    awk -v before="$before" -v after="$after" -v bits="$bits" -v time="$seconds" \
        -v hz="$(getconf CLK_TCK)" 'BEGIN {
            split(before, b); split(after, a); gb = bits / 8e9
            print bits / time / 1e6, (a[1] - b[1]) / hz / gb, (a[2] - b[2]) / hz / gb
        }'
}

# cpu PID...: ticks of user and system time of each.
cpu() {
    local pid
    for pid in "$@"; do
        sed 's/.*) //' "/proc/$pid/stat" | awk '{ printf "%d ", $12 + $13 }'
    done
}

summarise() {
    printf '\n%-11s %23s   %s\n' mode "ratio min/median/max" \
        "processor s/GB, medians: wanbond router, vps; boringtun router, vps"
    local mode
    for mode in "${modes[@]}"; do
        printf '%-11s %7.2f %7.2f %7.2f   %6.2f %6.2f; %6.2f %6.2f\n' "$mode" \
            "$(column "$mode" 12 | head -1)" "$(column "$mode" 12 | median)" \
            "$(column "$mode" 12 | tail -1)" "$(column "$mode" 5 | median)" \
            "$(column "$mode" 6 | median)" "$(column "$mode" 9 | median)" \
            "$(column "$mode" 10 | median)"
    done
}

# column MODE N: the rows' Nth word, sorted.
column() {
    awk -v mode="$1" -v n="$2" '$1 == mode { print $n }' "$work/rows" | sort -g
}

median() {
    awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}

main "$@"
