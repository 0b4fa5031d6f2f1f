#!/usr/bin/env bash
# Runs what cross/build.sh --tests has built for other processors, in user-mode emulation:
#
#   bash cross/test.sh [--bin DIR] [--server FILE] ARCH...
#
# - the command line: --version, and check of a right and a wrong configuration
# - the protocol's tests: known answers and properties
# - the daemon, in a namespace of its own, against a server of this machine's kind: a handshake, WANs
#   that are up, lanes
#
# --bin     where DIR/ARCH/wanbond and DIR/ARCH/tests/ are; default build/
# --server  wanbond-server for this machine; default target/lab/wanbond-server
#
# The emulator knows no netfilter netlink and no MPTCP options, so lanes are plain TCP here and no LAN is
# redirected: cross/kernels.sh does that on kernels of their own. Needs root.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source-path=SCRIPTDIR/..
source cross/targets.sh

# How long anything may take on a machine that has much else to do, seconds.
PATIENCE=60
# Resident memory of the idle daemon, where no emulator is in it.
MOST_KB=8192

bin=build
server="${CARGO_TARGET_DIR:-target}/lab/wanbond-server"
router_ns="wbx-router-$$"
vps_ns="wbx-vps-$$"
scratch=""
started=()

main() {
    local wanted=() arch
    while [ $# -gt 0 ]; do
        case "$1" in
            --bin) bin="${2:?--bin needs a folder}" && shift ;;
            --server) server="${2:?--server needs a file}" && shift ;;
            *) rust_target "$1" >/dev/null || fail "unknown ARCH '$1'; there are: ${ARCHES[*]}"
                wanted+=("$1") ;;
        esac
        shift
    done
    [ "${#wanted[@]}" -gt 0 ] || fail "which ARCH? There are: ${ARCHES[*]}"
    [ "$(id -u)" = 0 ] || fail "needs root, to make network namespaces"
    [ -x "$server" ] || fail "$server is missing; build it with: cargo build --profile lab -p wanbond-server"
    server=$(realpath "$server")
    scratch=$(mktemp -d)
    trap clean EXIT
    for arch in "${wanted[@]}"; do
        command -v "$(emulator "$arch")" >/dev/null ||
            fail "$(emulator "$arch") is missing: install the package qemu-user-static"
        [ -x "$bin/$arch/wanbond" ] || fail "$bin/$arch/wanbond is missing; run cross/build.sh --tests $arch"
        echo "=== $arch: the command line"
        command_line "$arch"
        echo "=== $arch: the protocol's tests"
        protocol "$arch"
        echo "=== $arch: a handshake and lanes"
        daemon "$arch"
    done
}

fail() {
    echo "cross/test.sh: $*" >&2
    exit 1
}

# emulator ARCH: what runs its programs; this machine's own run as they are.
emulator() {
    case "$1" in
        "$(uname -m)") echo env ;;
        armv7) echo qemu-arm-static ;;
        *) echo "qemu-$1-static" ;;
    esac
}

# wanbond ARCH ARGUMENT...
wanbond() {
    local arch="$1"
    shift
    "$(emulator "$arch")" "$bin/$arch/wanbond" "$@"
}

command_line() {
    local said
    said=$(wanbond "$1" --version)
    [[ "$said" == "wanbond "[0-9]* ]] || fail "$1: --version says '$said'"
    if said=$(wanbond "$1" --config openwrt/wanbond/files/etc/config/wanbond check); then
        [[ "$said" == "wanbond is off"* ]] || fail "$1: check says '$said'"
    else
        fail "$1: the configuration of the package is wrong"
    fi
    printf "config wan 'a'\n\toption role 'bnod'\n" >"$scratch/wrong"
    if said=$(wanbond "$1" --config "$scratch/wrong" check 2>&1); then
        fail "$1: check takes a wrong configuration"
    fi
    [[ "$said" == *"did you mean 'bond'"* ]] || fail "$1: check says '$said'"
}

protocol() {
    local test
    if ! [ -d "$bin/$1/tests" ]; then
        echo "$1: not built; cross/build.sh --tests $1 does"
        return
    fi
    for test in "$bin/$1"/tests/*; do
        # In one process, as a new one would need the emulator again. 32 cases of each property: the
        # processor is in question here, not the protocol.
        RUSTC_BOOTSTRAP=1 PROPTEST_CASES=32 PROPTEST_FAILURE_PERSISTENCE=off \
            "$(emulator "$1")" "$test" -Z unstable-options --force-run-in-process --quiet ||
            fail "$1: a test failed"
    done
}

daemon() {
    local arch="$1" code status="" router memory
    if [ "$arch" = mips ]; then
        # What the emulator does not know in netlink's messages it leaves in this machine's byte order.
        echo "mips: not run, qemu-user can't carry netlink to the other byte order"
        return
    fi
    ip netns add "$router_ns"
    ip netns add "$vps_ns"
    ip -n "$vps_ns" link set lo up
    ip -n "$router_ns" link set lo up
    link 1
    link 2
    rm -rf "$scratch/server"
    "$server" --state "$scratch/server" init --endpoint 203.0.113.1 >/dev/null
    code=$("$server" --state "$scratch/server" router add test)
    ip -n "$vps_ns" addr add 203.0.113.1/32 dev lo
    ip netns exec "$vps_ns" "$server" --state "$scratch/server" run >"$scratch/server.log" 2>&1 &
    started+=($!)
    {
        printf "config wanbond 'globals'\n\tlist lan 'lan'\n\n"
        printf "config server 'vps'\n\toption code '%s'\n" "$code"
        printf "\nconfig wan '%s'\n\toption device '%s'\n" one wan1 two wan2
    } >"$scratch/config"
    ip netns exec "$router_ns" "$(emulator "$arch")" "$bin/$arch/wanbond" \
        --config "$scratch/config" run --ubus "$scratch/ubus" >"$scratch/router.log" 2>&1 &
    router=$!
    started+=("$router")
    for ((i = 0; i < PATIENCE * 2; i++)); do
        status=$(ip netns exec "$router_ns" "$(emulator "$arch")" "$bin/$arch/wanbond" status --json 2>/dev/null) || true
        if python3 -c '
import json, sys
status = json.loads(sys.argv[1] or "{}")
up = [wan for wan in status.get("wans", []) if wan["state"] == "up"]
sys.exit(not (len(up) == 2 and status["server"]["state"] == "connected" and status["lanes"]["idle"] > 0))
' "$status"; then
            echo "$arch: connected, two WANs up, lanes idle"
            if [ "$(emulator "$arch")" = env ]; then
                memory=$(awk '/^VmRSS:/ { print $2 }' "/proc/$router/status")
                echo "$arch: $memory kB resident"
                [ "$memory" -le "$MOST_KB" ] || fail "$arch: more than $MOST_KB kB, idle"
            fi
            stop
            return
        fi
        sleep 0.5
    done
    echo "$status" >&2
    tail -n 20 "$scratch/router.log" "$scratch/server.log" >&2
    fail "$arch: no handshake, WANs or lanes within $PATIENCE s"
}

# link N: from the router's device wanN to the server.
link() {
    ip -n "$router_ns" link add "wan$1" type veth peer name "wan$1" netns "$vps_ns"
    ip -n "$router_ns" addr add "192.0.2.$(($1 * 16 + 2))/30" dev "wan$1"
    ip -n "$vps_ns" addr add "192.0.2.$(($1 * 16 + 1))/30" dev "wan$1"
    ip -n "$router_ns" link set "wan$1" up
    ip -n "$vps_ns" link set "wan$1" up
    ip -n "$router_ns" route add default via "192.0.2.$(($1 * 16 + 1))" dev "wan$1" metric "$1"
}

stop() {
    local process
    for process in "${started[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    started=()
    ip netns del "$router_ns" 2>/dev/null || true
    ip netns del "$vps_ns" 2>/dev/null || true
}

clean() {
    stop
    rm -rf "$scratch"
}

main "$@"
