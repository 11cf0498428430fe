#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the CPU image for real and checks it, without a container engine: debootstrap makes the base, buildah runs the
# Dockerfile in a chroot. usage: scripts/image.sh [--keep]
# Exit code 77: skipped, with the reason, where this machine cannot do it (no root, no packages, no chroot).
set -euo pipefail
cd "$(dirname "$0")/.."
skip() { echo "SKIP (image: $*)"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root"
for tool in buildah debootstrap; do
    command -v $tool >/dev/null && continue
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah debootstrap >/dev/null 2>&1 ||
        skip "cannot install $tool"
done
work=${BATON_IMAGE_DIR:-/var/tmp/baton-image}
mkdir -p "$work"
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
b() { buildah --root "$work/root" --runroot "$work/run" "$@"; }

mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p;s/^deb \(\[[^]]*\] \)\?\([^ ]*\) .*/\2/p' /etc/apt/sources.list \
    /etc/apt/sources.list.d/* 2>/dev/null | grep -v security | head -1 || true)
if [ ! -f "$work/base.tar" ]; then
    echo "image: debootstrap"
    debootstrap --variant=minbase bookworm "$work/base" "${mirror:-http://deb.debian.org/debian}" \
        >"$work/debootstrap.log" 2>&1 ||
        skip "debootstrap failed: $(tail -1 "$work/debootstrap.log")"
    for f in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/auth.conf.d \
        /etc/apt/preferences.d /etc/apt/trusted.gpg.d; do
        [ -e $f ] && cp -a $f "$work/base/etc/apt/" || true
    done
    tar -C "$work/base" -cf "$work/base.tar" .
    rm -rf "$work/base"
fi
if ! b inspect --type image localhost/baton-base >/dev/null 2>&1; then
    c=$(b from scratch)
    b add "$c" "$work/base.tar" / >/dev/null
    b commit -q "$c" localhost/baton-base >/dev/null
    b rm "$c" >/dev/null
fi
echo "image: buildah build"
base=localhost/baton-base
b build -q --format docker --build-arg BUILD_BASE=$base --build-arg RUN_BASE=$base -t localhost/baton . \
    >"$work/build.log" 2>&1 || {
    grep -qE 'Unable to fetch|Temporary failure|Could not resolve|Failed to fetch' "$work/build.log" &&
        skip "no packages"
    tail -30 "$work/build.log"
    exit 1
}

echo "image: start as uid 1000, health, one completion, SIGTERM"
c=$(b from localhost/baton)
trap '[ "${1:-}" = --keep ] || b rm "$c" >/dev/null 2>&1 || true' EXIT
port=$((20000 + RANDOM % 20000))
b run --user 1000 "$c" -- /bin/sh -c "
    set -e
    [ \"\$(id -u)\" = 1000 ]
    [ \"\$(stat -c %u:%g /models \$BATON_MODEL | sort -u)\" = 0:0 ]
    [ ! -w /models ] && [ ! -w \$BATON_MODEL ] && [ -r \$BATON_MODEL ] && [ -w /data ]
    baton serve --host 127.0.0.1 --port $port & pid=\$!
    i=0; until baton doctor --health --url http://127.0.0.1:$port; do i=\$((i+1)); [ \$i -lt 100 ]; sleep 0.1; done
    test -s /data/ledger.db
    kill -TERM \$pid; wait \$pid
    baton run -m \$BATON_MODEL -p 'Once upon a time' -n 16 --temp 0 -q" | tee "$work/run.log"
grep -q 'there was a little girl' "$work/run.log"
config=$(b inspect --type image \
    --format '{{.OCIv1.Config.User}} {{.OCIv1.Config.ExposedPorts}} {{.OCIv1.Config.StopSignal}}' localhost/baton)
echo "image: config $config"
grep -q '1000' <<<"$config" && grep -q '7860' <<<"$config"
echo "image: ok"
