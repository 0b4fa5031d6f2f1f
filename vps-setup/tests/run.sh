#!/usr/bin/env bash
# Tries the installer's functions, and says how many passed in the words of cargo's tests, which
# tests/run.sh adds up.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

status=0
report=$(bats --tap functions.bats) || status=$?
printf '%s\n' "$report"
passed=$(grep -c '^ok' <<<"$report" || true)
failed=$(grep -c '^not ok' <<<"$report" || true)
printf 'test result: %s. %d passed; %d failed;\n' "$([ "$status" = 0 ] && echo ok || echo FAILED)" "$passed" "$failed"
exit "$status"
