#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the program at build/baton. usage: scripts/build.sh [extra cmake arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --preset release "$@" >build-configure.log 2>&1 || { cat build-configure.log >&2; exit 1; }
rm -f build-configure.log
cmake --build build --target baton
echo "built: build/baton ($(build/baton version))"
