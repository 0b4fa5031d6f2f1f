#!/usr/bin/env bash
# Tries the installer, and says how many tests passed in the words of cargo's tests, which tests/run.sh
# adds up. That each of its functions was called at least once is a test of its own.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# As it is, but each function first writes down its name.
export INSTALLER="$folder/install.sh" CALLED="$folder/called"
# shellcheck disable=SC2016 # for the copy
sed -E 's/^([a-z0-9_]+)\(\) \{/& echo \1 >>"${CALLED:-\/dev\/null}";/' ../install.sh >"$INSTALLER"

status=0
report=$(bats --tap functions.bats whole.bats) || status=$?
printf '%s\n' "$report"
passed=$(grep -c '^ok' <<<"$report" || true)
failed=$(grep -c '^not ok' <<<"$report" || true)

untried=$(comm -23 <(sed -nE 's/^([a-z0-9_]+)\(\) \{.*/\1/p' ../install.sh | sort -u) <(sort -u "$CALLED"))
if [ -z "$untried" ]; then
    echo "ok - every function of install.sh was called"
    passed=$((passed + 1))
else
    echo "not ok - no test calls these functions of install.sh: ${untried//$'\n'/, }"
    failed=$((failed + 1)) status=1
fi
printf 'test result: %s. %d passed; %d failed;\n' "$([ "$status" = 0 ] && echo ok || echo FAILED)" "$passed" "$failed"
exit "$status"
