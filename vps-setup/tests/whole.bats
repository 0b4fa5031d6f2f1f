# Whole runs of the installer on a made-up machine: its paths point into a folder of the test, systemd and
# the other programs it calls are stand-ins, which keep what they are told to in files. Real ones are in
# tests/e2e/tests/vps_setup.rs.
# shellcheck shell=bash disable=SC2016,SC2086

bats_require_minimum_version 1.5.0

setup() {
    INSTALLER="${INSTALLER:-$BATS_TEST_DIRNAME/../install.sh}"
    export ROOT="$BATS_TEST_TMPDIR"
    mkdir -p "$ROOT"/{bin,units,systemd/run,etc/sysctl.d,state,usr/local/{bin,sbin},var,tmp,proc/sys/{kernel,net/ipv4,net/mptcp}}
    export TMPDIR="$ROOT/tmp" CALLS="$ROOT/calls"
    : >"$CALLS"
    printf 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n' >"$ROOT/os-release"
    echo 6.1.0-18-amd64 >"$ROOT/proc/sys/kernel/osrelease"
    echo 1 >"$ROOT/proc/sys/net/mptcp/enabled"
    echo "MemTotal: 400000 kB" >"$ROOT/proc/meminfo"
    cat >"$ROOT/setup.sh" <<SETUP
source "$INSTALLER"
STATE=$ROOT/state/wanbond-server PROGRAM=$ROOT/usr/local/bin/wanbond-server SETUP=$ROOT/usr/local/sbin/wanbond-setup
UNIT=$ROOT/systemd/wanbond-server.service FIREWALL_UNIT=$ROOT/systemd/wanbond-server-firewall.service
SYSCTL=$ROOT/etc/sysctl.d/60-wanbond-server.conf NOTES=$ROOT/var/wanbond-setup OS_RELEASE=$ROOT/os-release
PROC=$ROOT/proc TUN=/dev/null SYSTEMD=$ROOT/systemd/run RUNTIME=$ROOT/run-wanbond-server LOCK=$ROOT/lock
# What is on the disk of whoever runs the tests is not the question.
NEEDED_KIB=0
PATH="$ROOT/bin:$PATH"
main "\$@"
SETUP
    stand_ins
    program 1.0.0
}

# fake NAME: a stand-in for a program, whose script is the standard input.
fake() {
    { printf '#!/bin/bash\necho "%s $*" >>"%s"\n' "$1" "$CALLS" && cat; } >"$ROOT/bin/$1"
    chmod +x "$ROOT/bin/$1"
}

stand_ins() {
    fake id <<<'echo 0'
    fake modprobe <<<''
    fake ss <<<''
    fake iptables <<<''
    fake ip6tables <<<''
    fake ufw <<<'echo "Status: inactive"'
    fake firewall-cmd <<<'exit 1'
    fake chown <<<''
    fake journalctl <<<'echo "the journal: no luck"'
    fake systemd-detect-virt <<<'echo none; exit 1'
    fake getent <<<'[ -e "$ROOT/user" ]'
    fake useradd <<<'touch "$ROOT/user"'
    fake userdel <<<'rm "$ROOT/user"'
    # Who owns what is the kernel's business.
    fake install <<<'args=(); while [ $# -gt 0 ]; do case "$1" in -o | -g) shift ;; *) args+=("$1") ;; esac; shift; done; exec /usr/bin/install "${args[@]}"'
    fake ip <<'IP'
case "$*" in
    "-4 -o route get"*) echo "198.41.0.4 via 198.51.100.1 dev eth0 src 198.51.100.10 uid 0" ;;
    "link show wanbond0") [ -e "$ROOT/units/wanbond-server.service.active" ] ;;
esac
IP
    fake nft <<'NFT'
case "$*" in
    "list table inet wanbond-server") [ -e "$ROOT/units/wanbond-server.service.active" ] ;;
    "list ruleset") cat "$ROOT/ruleset" 2>/dev/null || true ;;
esac
NFT
    # Units are on and running as files say; a program that is broken does not stay up.
    fake systemctl <<'SYSTEMCTL'
[ "$1" != -q ] || { shift && exec >/dev/null; }
action="$1" unit="${!#}"
case "$*" in *--now*) now=1 ;; *) now="" ;; esac
cd "$ROOT/units"
start() {
    [ "$unit" != wanbond-server.service ] || ! grep -q broken "$ROOT/usr/local/bin/server.sh" 2>/dev/null || return 1
    touch "$unit.active"
}
case "$action" in
    is-active) [ -e "$unit.active" ] && echo active || { echo inactive && exit 3; } ;;
    is-enabled) [ -e "$unit.enabled" ] && echo enabled || { echo disabled && exit 1; } ;;
    enable) touch "$unit.enabled" && { [ -z "$now" ] || start; } ;;
    disable) rm -f "$unit.enabled" && { [ -z "$now" ] || rm -f "$unit.active"; } ;;
    stop) rm -f "$unit.active" ;;
    restart) rm -f "$unit.active" && start ;;
    show) echo 42 ;;
esac
SYSTEMCTL
}

# program VERSION [broken]: what a release brings; the installer takes only what is built for this processor.
program() {
    cat >"$ROOT/server.sh" <<SERVER
#!/bin/bash
# $*
state=$ROOT/state/wanbond-server
[ "\$1" != --state ] || shift 2
echo "server \$*" >>"$CALLS"
case "\$*" in
    --version) echo "wanbond-server $1" ;;
    init*) echo "endpoint \$3" >"\$state/server.toml" ;;
    check) sed 's/^endpoint /endpoint: /' "\$state/server.toml"; [ ! -e "\$state/fleet" ] || echo "fleet: http://a:1"; sed -n 's/^endpoint .*:/port: /p' "\$state/server.toml"; ! grep -q nonsense "\$state/server.toml" || { echo "line 1: nonsense" >&2; exit 1; } ;;
    "router list --json") [ -e "\$state/routers" ] && echo '[{}]' || echo '[]' ;;
    "router show"*) grep -qx "\$3" "\$state/routers" 2>/dev/null ;;
    "router add"*) echo "\$3" >>"\$state/routers" && echo "wanbond1:code-of-\$3" ;;
    status) echo "no router is connected" ;;
    probe*) [ ! -e "$ROOT/deaf" ] ;;
esac
SERVER
    # The program finds its script beside itself, as the installer copies one file only.
    printf '#include <unistd.h>\nint main(int c, char **v) { return execv("%s/server-%s.sh", v); }\n' "$ROOT" "$1" >"$ROOT/server.c"
    mv "$ROOT/server.sh" "$ROOT/server-$1.sh"
    chmod +x "$ROOT/server-$1.sh"
    gcc -w -o "$ROOT/wanbond-server-$1" "$ROOT/server.c"
}

setup_sh() { run bash "$ROOT/setup.sh" "$@" </dev/null; }
called() { grep -qxF -- "$1" "$CALLS"; }
# Everything that an installer may leave behind.
snapshot() { (cd "$ROOT" && find state systemd etc usr var proc units user run-wanbond-server -exec ls -ld --time-style=+ {} + 2>/dev/null | awk '{ print $1, $NF }' && find state systemd etc usr var proc -type f -exec sha256sum {} +); }

@test "install, again, one more router, status, doctor, uninstall" {
    before=$(snapshot)
    setup_sh install --yes --dry-run --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 0 ]
    [[ "$output" == *"add user wanbond-server"*"+NoNewPrivileges=yes"* ]]
    [ "$(snapshot)" = "$before" ]

    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    echo "$output"
    [ "$status" = 0 ]
    [[ "$output" == *"wanbond1:code-of-home"* ]]
    called "server init --endpoint 198.51.100.10:65101"
    called "systemctl enable wanbond-server.service"
    [ "$(cat "$ROOT/var/wanbond-setup/notes")" = "user wanbond-server" ]
    cmp "$INSTALLER" "$ROOT/usr/local/sbin/wanbond-setup"
    done=$(snapshot)

    : >"$CALLS"
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 0 ]
    [[ "$output" != *"wanbond1:"* ]]
    [ "$(snapshot)" = "$done" ]
    run ! grep -qE "systemctl (restart|enable)|useradd|server init" "$CALLS"

    setup_sh add-router cabin
    [ "$status $output" = "0 wanbond1:code-of-cabin" ]
    setup_sh status
    [[ "$output" == *"service: active, enabled"*"endpoint: 198.51.100.10:65101"*"firewall: none"*"no router is connected"* ]]
    setup_sh doctor
    [ "$status" = 0 ]
    [[ "$output" != *BAD* ]]

    setup_sh uninstall --yes --keep-keys
    [ "$status" = 0 ]
    [ -e "$ROOT/state/wanbond-server/routers" ]
    [ ! -e "$ROOT/systemd/wanbond-server.service" ]
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [[ "$output" != *"wanbond1:"* ]]
    setup_sh uninstall --yes --remove-keys
    [ "$status" = 0 ]
    [ "$(snapshot)" = "$before" ]
    setup_sh uninstall --yes
    [ "$status" = 1 ]
    [[ "$output" == *"nothing to remove"*"Nothing was changed."* ]]
}

@test "a folder that is missing is made, and goes again; the fleet is left" {
    rmdir "$ROOT/etc/sysctl.d"
    before=$(snapshot)
    echo 0 >"$ROOT/proc/sys/net/mptcp/enabled"
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 0 ]
    grep -q "mptcp.enabled = 1" "$ROOT/etc/sysctl.d/60-wanbond-server.conf"
    touch "$ROOT/state/wanbond-server/fleet"
    setup_sh uninstall --yes --remove-keys
    [ "$status" = 0 ]
    called "server fleet forget 198.51.100.10:65101"
    [ "$(cat "$ROOT/proc/sys/net/mptcp/enabled")" = 0 ]
    echo 1 >"$ROOT/proc/sys/net/mptcp/enabled"
    [ "$(snapshot)" = "$before" ]
}

@test "what is not set up is said so" {
    setup_sh status
    [ "$status" = 3 ]
    setup_sh doctor
    [ "$status" = 1 ]
    [[ "$output" == *"not set up here"* ]]
    setup_sh add-router cabin
    [ "$status" = 1 ]
    [[ "$output" == *"run install first"* ]]
    setup_sh upgrade --yes
    [ "$status" = 1 ]
    [[ "$output" == *"run install first"*"Nothing was changed."* ]]
}

@test "somebody is asked, and nothing is done without an answer" {
    before=$(snapshot)
    setup_sh install --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 1 ]
    [[ "$output" == *"This would be done:"*"run it again with --yes"*"Nothing was changed."* ]]
    [ "$(snapshot)" = "$before" ]
}

# on_terminal ANSWERS ARGUMENT…: as setup_sh, where somebody sits.
on_terminal() {
    local answers="$1"
    shift
    run script -qec "bash '$ROOT/setup.sh' $*" /dev/null < <(printf '%b' "$answers")
}

@test "at a terminal: what will be done is shown and asked for, the code is drawn, the keys are asked about" {
    before=$(snapshot)
    on_terminal 'n\n' install --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 0 ]
    [[ "$output" == *"This would be done:"*"add user wanbond-server"*"Go on? [y/N]"*"Nothing was changed."* ]]
    [ "$(snapshot)" = "$before" ]
    on_terminal 'y\n' install --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 0 ]
    called "server router add home --print-qr"
    on_terminal 'y\nn\n' uninstall
    [ "$status" = 0 ]
    [[ "$output" == *"All pairing codes end with them."*"keys and routers are still in"* ]]
    [ -e "$ROOT/state/wanbond-server/routers" ]
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    on_terminal 'y\ny\n' uninstall
    [ "$(snapshot)" = "$before" ]
}

@test "an upgrade that comes up, and one that does not" {
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 0 ]
    program 2.0.0
    setup_sh upgrade --yes --from "$ROOT/wanbond-server-2.0.0"
    [ "$status" = 0 ]
    [[ "$output" == *"wanbond-server 2.0.0 runs; keys, routers and settings are as they were."* ]]
    good=$(snapshot)
    program 3.0.0
    # Up, and down again before long.
    sed -i 's/^    status) .*/    status) rm -f "$ROOT"\/units\/wanbond-server.service.active; exit 1 ;;/' "$ROOT/server-3.0.0.sh"
    setup_sh upgrade --yes --from "$ROOT/wanbond-server-3.0.0"
    [ "$status" = 1 ]
    [[ "$output" == *"the journal: no luck"*"could not: start wanbond-server"*"The version before runs again."*"Everything is as it was before this run"* ]]
    [ "$(snapshot)" = "$good" ]
    called "systemctl restart wanbond-server.service"
}

@test "it runs but nobody hears it: taken back" {
    before=$(snapshot)
    touch "$ROOT/deaf"
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 1 ]
    [[ "$output" == *"it runs, but does not answer"*"Everything is as it was before this run"* ]]
    [ "$(snapshot)" = "$before" ]
}

@test "a disk that is full halfway: what was done is undone" {
    before=$(snapshot)
    fake sync <<<'case "$1" in *wanbond-server.service.new) echo "sync: No space left on device" >&2; exit 1 ;; esac'
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 1 ]
    [[ "$output" == *"No space left on device"*"could not: write $ROOT/systemd/wanbond-server.service"*"add user wanbond-server"*"Everything is as it was before this run"* ]]
    [ "$(snapshot)" = "$before" ]
}

@test "what can't be undone is named" {
    fake userdel <<<'exit 1'
    fake sync <<<'case "$1" in *wanbond-server.service.new) exit 1 ;; esac'
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 1 ]
    [[ "$output" == *"do it by hand: userdel wanbond-server"*"Everything else is as it was"* ]]
}

@test "no network: packages that are missing can't be had" {
    before=$(snapshot)
    rm "$ROOT/bin/nft"
    fake apt-get <<<'echo "Temporary failure resolving deb.debian.org" >&2; exit 100'
    # Without the programs of whoever runs this.
    mkdir "$ROOT/few"
    for name in bash cat cp cmp rm mv mkdir mktemp sed awk grep head od tr cut sha256sum stat df flock env dirname basename wc touch diff sort paste uname tail; do
        ln -s "$(command -v "$name")" "$ROOT/few/$name"
    done
    sed -i "s#^PATH=.*#PATH=$ROOT/bin:$ROOT/few#" "$ROOT/setup.sh"
    sed -i 's#^main .*#has() { [ "$1" != nft ] \&\& command -v "$1" >/dev/null 2>\&1; }\n&#' "$ROOT/setup.sh"
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 1 ]
    [[ "$output" == *"the package lists can't be fetched"*"check the network"*"Nothing was changed."* ]]
    [ "$(snapshot)" = "$before" ]
}

@test "doctor names what is wrong, each with a way out" {
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    touch "$ROOT/deaf"
    rm "$ROOT/units/wanbond-server.service.active"
    echo 0 >"$ROOT/proc/sys/net/mptcp/enabled"
    echo nonsense >>"$ROOT/state/wanbond-server/server.toml"
    setup_sh doctor
    [ "$status" = 1 ]
    for word in "line 1: nonsense" "the service does not run" "it does not answer" "MPTCP is off" "there is no wanbond0" "the table inet wanbond-server is gone"; do
        grep -q "^BAD   $word" <<<"$output" || { echo "not told: $word" && false; }
    done
    [ "$(grep -c ^BAD <<<"$output")" = 6 ]
}

@test "a firewall by hand gets its rules from a unit, which goes again" {
    cat >"$ROOT/ruleset" <<'RULES'
table inet filter {
	chain input {
		type filter hook input priority filter; policy drop;
	}
}
RULES
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 0 ]
    grep -q "^ExecStart=$ROOT/usr/local/sbin/wanbond-setup firewall open" "$ROOT/systemd/wanbond-server-firewall.service"
    called "systemctl restart wanbond-server-firewall.service"
    setup_sh doctor
    [[ "$output" == *"the firewall (rules) does not let in 65101"*"run install again"* ]]
    : >"$ROOT/ruleset"
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [ ! -e "$ROOT/systemd/wanbond-server-firewall.service" ]
}

@test "a second run at the same time waits for nobody" {
    exec 8>"$ROOT/lock"
    flock 8
    setup_sh install --yes --from "$ROOT/wanbond-server-1.0.0"
    [ "$status" = 1 ]
    [[ "$output" == *"another run of this script is going on"* ]]
}

@test "firewall rules, by the real nft in a namespace of its own" {
    unshare --net true 2>/dev/null || skip "needs root"
    rm "$ROOT/bin/nft"
    cat >"$ROOT/rules.sh" <<RULES
source "$INSTALLER"
set -euo pipefail
PORTS=(65101)
has() { [ "\$1" = nft ]; }
nft add table inet filter
nft 'add chain inet filter input { type filter hook input priority filter; policy drop; }'
nft 'add chain inet filter forward { type filter hook forward priority filter; policy drop; }'
nft add rule inet filter input tcp dport 22 accept comment ssh
before=\$(nft list ruleset)
! rules_are_in
firewall_rules open
rules_are_in
[ "\$(our_rules | wc -l)" = 4 ]
firewall_rules open
rules_are_in
nft list chain inet filter input
nft delete rule inet filter input handle "\$(nft -a list chain inet filter input | sed -n 's/.*udp dport 65101.*handle //p')"
! rules_are_in
firewall_rules close
[ "\$(nft list ruleset)" = "\$before" ]
echo all well
RULES
    run unshare --net bash "$ROOT/rules.sh"
    echo "$output"
    [ "$status" = 0 ]
    [[ "$output" == *'udp dport 65101 accept comment "wanbond-server"'*"all well" ]]
}
