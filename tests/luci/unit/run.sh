#!/usr/bin/env bash
# What of the LuCI pages can be tested without a browser, and whether their translations are whole.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
node --test tests/luci/unit/
python3 luci-app/translate.py --check
