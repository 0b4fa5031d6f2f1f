#!/usr/bin/env bash
# Tries the LuCI app in a browser, in front of the real daemon in the lab, and says how many tests passed
# in the words of cargo's tests, which tests/run.sh adds up.
#
#   bash tests/luci/run.sh [TEST...]    # such as status: browser/status.test.mjs
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

tests=(unit/*.test.mjs server/*.test.mjs browser/*.test.mjs)
[ $# = 0 ] || tests=("${@/%/.test.mjs}")
[ $# = 0 ] || tests=("${tests[@]/#/browser/}")

# What the lock file says, unless it is there already.
if [ package-lock.json -nt node_modules/.package-lock.json ]; then
    npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
fi
(cd ../.. && tests/luci/node_modules/.bin/eslint --max-warnings 0 \
    --config tests/luci/eslint.config.mjs tests/luci luci-app)

report=$(mktemp)
trap 'rm -f "$report"' EXIT
status=0
# One lab at a time: two would measure each other.
node --test --test-concurrency=1 --test-reporter=tap "${tests[@]}" | tee "$report" || status=$?
count() { sed -n "s/^# $1 //p" "$report" | tail -1; }
printf 'test result: %s. %d passed; %d failed;\n' "$([ "$status" = 0 ] && echo ok || echo FAILED)" \
    "$(count pass)" "$(($(count fail) + $(count cancelled)))"
exit "$status"
