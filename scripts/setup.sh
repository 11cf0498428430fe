#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what Baton builds and tests with: Debian 12 packages, and Python test packages in .venv of this project.
# Idempotent: a second run only checks. usage: scripts/setup.sh [--build-only]
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(gcc libc6-dev cmake ninja-build pkg-config libmicrohttpd-dev libsqlite3-dev libssl-dev
          libpcre2-dev libutf8proc-dev curl ca-certificates)
if [ "${1:-}" != --build-only ]; then
    packages+=(python3 python3-venv python3-pip clang-format procps iproute2 git
               chromium chromium-driver fonts-dejavu-core)
fi

missing=()
for p in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "setup: installing ${missing[*]}"
    sudo=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "setup: run as root once: apt-get install ${missing[*]}" >&2; exit 1; }
        sudo=(sudo)
    fi
    "${sudo[@]}" apt-get update -qq
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
        >/dev/null
fi

if [ "${1:-}" != --build-only ]; then
    wanted=$(sha256sum tests/requirements.txt | cut -d' ' -f1)
    if [ "$(cat .venv/.installed 2>/dev/null || true)" != "$wanted" ]; then
        echo "setup: Python test packages into .venv"
        /usr/bin/python3 -m venv .venv
        .venv/bin/pip install -q --disable-pip-version-check -r tests/requirements.txt
        echo "$wanted" >.venv/.installed
    fi
fi
echo "setup: ready"
