#!/usr/bin/env bash
# What of the LuCI pages can be tested without a browser.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
node --test tests/luci/unit/
