#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From a bare Debian 12 to a served model: installs, builds, starts the server on port 7860 with the bundled model,
# streams one completion, shows queue, lease, device time charged and the quota before and after, then keeps
# serving. usage: scripts/quickstart.sh [--once]     --once: stop after the demonstration
# PORT and BATON_MODEL choose another port or GGUF file.
set -euo pipefail
cd "$(dirname "$0")/.."
once=0
[ "${1:-}" = --once ] && once=1
port=${PORT:-7860}
model=${BATON_MODEL:-models/stories260K.gguf}
data=${BATON_DATA:-data}
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

step "1/4 packages"
scripts/setup.sh --build-only
step "2/4 build"
scripts/build.sh

step "3/4 serve $model on port $port"
build/baton serve --model "$model" --port "$port" --data "$data" &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null' EXIT INT TERM
for _ in $(seq 300); do
    curl -fsS "http://127.0.0.1:$port/health" >/dev/null 2>&1 && break
    kill -0 $server 2>/dev/null || { echo "the server ended; see the lines above" >&2; exit 1; }
    sleep 0.1
done

step "4/4 one streamed completion"
echo "quota before: $(curl -fsS "http://127.0.0.1:$port/v1/quota")"
echo "queue:        $(curl -fsS "http://127.0.0.1:$port/v1/queue")"
echo
show_stream() { # prints the text as it comes, then the books of the last chunk
    local line text
    while IFS= read -r line; do
        text=$(sed -n 's/.*"text":"\(\([^"\\]\|\\.\)*\)".*/\1/p' <<<"$line" | sed 's/\\"/"/g')
        printf '%b' "$text"
        case $line in
        *'"baton":'*)
            printf '\n\nlease, device time and quota: {%s}\n' "$(sed 's/.*"baton":{\([^}]*\)}.*/\1/' <<<"$line")" ;;
        esac
    done
}
printf 'Once upon a time'
curl -fsSN "http://127.0.0.1:$port/v1/completions" -H 'Content-Type: application/json' \
    -d '{"prompt": "Once upon a time", "max_tokens": 96, "temperature": 0, "stream": true, "lease_seconds": 30,
         "stream_options": {"include_usage": true}}' | show_stream
echo "quota after:  $(curl -fsS "http://127.0.0.1:$port/v1/quota")"
if [ $once = 1 ]; then
    echo
    echo "done (--once): stopping the server"
    exit 0
fi
cat <<EOF

Baton is serving. Open http://localhost:$port/ for the page, or use any OpenAI client with
  base_url = http://localhost:$port/v1
Ctrl-C stops it.
EOF
wait $server
