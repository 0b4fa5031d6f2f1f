#!/usr/bin/env bash
# Every test, from a fresh clone: style, unit and property tests, the kernel's side in namespaces,
# and the real daemons end to end.
#
#   bash tests/run.sh [--no-install] [--quick]
#
# --no-install   don't install packages; say what is missing
# --quick        leave out the end-to-end tests
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/setup.sh

log=""
failed_steps=()

main() {
    local install=1 quick=0
    for arg in "$@"; do
        case "$arg" in
            --no-install) install=0 ;;
            --quick) quick=1 ;;
            *)
                echo "usage: bash tests/run.sh [--no-install] [--quick]" >&2
                exit 2
                ;;
        esac
    done
    if [ "$install" = 1 ]; then
        install_packages "${TEST_PACKAGES[@]}"
    fi
    need_commands cargo ip nft tcpdump shellcheck shfmt bats debootstrap systemd-nspawn node npm chromium
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT

    step "format" cargo fmt --all --check
    step "lints" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
    step "shell scripts" shellcheck -x tests/*.sh tests/*/*.sh .ci/run cross/*.sh vps-setup/install.sh vps-setup/tests/*
    step "their format" shfmt -i 4 -ci -d vps-setup cross/release.sh cross/kernels.sh cross/kernels tests/luci/run.sh
    step "installer" bash vps-setup/tests/run.sh
    step "unit tests" cargo test --workspace --exclude wanbond-e2e \
        --exclude wanbond-openwrt --locked --no-fail-fast \
        -- --show-output
    if [ "$quick" = 0 ]; then
        step "daemons" cargo build --profile lab --locked -p wanbond -p wanbond-server -p wanbond-lab \
            -p wanbond-luci-lab -p wanbond-kernels
        step "end to end" cargo test --profile lab -p wanbond-e2e -p wanbond-openwrt \
            --locked --no-fail-fast \
            -- --show-output --test-threads "${E2E_THREADS:-1}"
        step "LuCI in a browser" bash tests/luci/run.sh
        step "routers' processors" other_processors
        step "another kernel" another_kernel
        step "benchmark, smoke run" bash tests/bench/processor.sh --smoke --no-install --no-build
    fi
    finish
}

# The router's binary and the protocol's tests for two processors that routers have, within the budget of
# size, run in emulation, and packed. The other four are built by cross/build.sh alike.
other_processors() {
    local out="${CARGO_TARGET_DIR:-target}/routers"
    bash cross/build.sh --tests --out "$out" aarch64 mipsel &&
        bash cross/test.sh --bin "$out" aarch64 mipsel &&
        bash cross/package.sh --bin "$out" --out "$out/packages"
}

# A silent cut and more on Linux 6.12, in a virtual machine on a virtual clock. `cross/kernels.sh` by itself
# has more kernels and processors, for nights.
another_kernel() {
    if [ "$(uname -m)" = x86_64 ]; then
        bash cross/kernels.sh --short --lab
    else
        echo "SKIPPED: cross/kernels.sh --lab needs an x86_64"
    fi
}

# step NAME COMMAND...: runs it, shows its output, goes on after a failure.
step() {
    local name="$1" start=$SECONDS
    shift
    printf '\n=== %s\n' "$name"
    if "$@" 2>&1 | tee -a "$log"; then
        printf '=== %s: done in %d s\n' "$name" $((SECONDS - start))
    else
        failed_steps+=("$name")
        printf '=== %s: FAILED after %d s\n' "$name" $((SECONDS - start))
    fi
}

# The sum over all test binaries, and every skipped test with its reason.
finish() {
    local passed failed skipped
    passed=$(sum passed)
    failed=$(sum failed)
    skipped=$(grep -c '^SKIPPED' "$log" || true)
    if [ "$skipped" -gt 0 ]; then
        printf '\nskipped:\n'
        grep '^SKIPPED' "$log" | sort | uniq -c
    fi
    local step
    for step in "${failed_steps[@]}"; do
        printf 'step failed: %s\n' "$step"
    done
    # A skipped test returns like a passed one.
    passed=$((passed - skipped))
    if [ "${CI:-}" = true ] && [ "$skipped" -gt 0 ]; then
        failed=$((failed + skipped))
        skipped=0
        echo "in CI a skipped test counts as failed"
    fi
    failures
    printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
    [ "$failed" = 0 ] && [ "${#failed_steps[@]}" = 0 ]
}

# What failed tests said, once more and without backtraces: whoever reads only the end knows why.
failures() {
    awk '
        /^failures:$/ { inside = !inside && !names; names = !inside; next }
        /^test result:/ { inside = names = shown = 0 }
        inside && /^---- .* stdout ----$/ { print "\n" $0; shown = 0; trace = 0; next }
        inside && /^stack backtrace:$/ { trace = 1; next }
        inside && /^note: / { trace = 0; next }
        inside && !trace && NF && shown++ < 80 { print substr($0, 1, 400) }
    ' "$log"
}

# sum WORD: adds up "N WORD" over the "test result:" lines.
sum() {
    sed -n 's/^test result:.* \([0-9]\+\) '"$1"';.*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }'
}

main "$@"
