#!/usr/bin/env bash
# How soon a node answers and how much memory it holds at rest, beside their limits:
#   first start (initdb included) 5 s, later start 1 s, RSS without a model 40 MiB, with one 160 MiB (Postgres apart).
#   MODEL_DIR   an installed embedding model
#   AGENT       the binary (default: the release build)
set -euo pipefail
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agent
AGENT=${AGENT:-${CARGO_TARGET_DIR:-$cache/target}/release/agent}
MODEL_DIR=${MODEL_DIR:-${AGENT_TEST_MODEL_DIR:-$cache/model}}
ROUNDS=${ROUNDS:-5}
# Not under a home directory: started as root, Postgres runs as another user who must be able to reach it.
work=$(mktemp -d /var/tmp/agent-start.XXXXXX)
chmod 755 "$work"
export AGENT_LISTEN=127.0.0.1:8632 AGENT_LOG_LEVEL=warn
pid=
cleanup() {
  if [ -n "$pid" ]; then kill "$pid" 2>/dev/null || true; wait "$pid" || true; fi
  rm -rf "$work"
}
trap cleanup EXIT

now_ms() { date +%s%3N; }
start() { # data directory, model directory; sets pid and took_ms
  local began
  began=$(now_ms)
  AGENT_DATA_DIR=$1 AGENT_MODEL_DIR=$2 "$AGENT" --role app &
  pid=$!
  until curl -sf -o /dev/null "http://$AGENT_LISTEN/readyz"; do
    kill -0 "$pid" 2>/dev/null || { echo "start bench: the agent ended" >&2; exit 1; }
    sleep 0.005
  done
  took_ms=$(($(now_ms) - began))
}
stop() {
  kill "$pid"
  wait "$pid" || true
  pid=
}
rss_mib() { awk '/^VmRSS/ {printf "%.1f", $2 / 1024}' "/proc/$pid/status"; }
median() { sort -n | awk '{a[NR] = $1} END {print a[int((NR + 1) / 2)]}'; }

first=() later=() bare=() loaded=()
for round in $(seq "$ROUNDS"); do
  start "$work/$round" "$work/no-model"
  first+=("$took_ms")
  sleep 3 # at rest
  bare+=("$(rss_mib)")
  stop
  start "$work/$round" "$MODEL_DIR"
  later+=("$took_ms")
  sleep 3
  loaded+=("$(rss_mib)")
  stop
done
row() { printf '%-34s %10s %10s\n' "$@"; }
row "median of $ROUNDS rounds" measured limit
row "first start to ready, ms" "$(printf '%s\n' "${first[@]}" | median)" 5000
row "later start to ready, ms" "$(printf '%s\n' "${later[@]}" | median)" 1000
row "RSS without a model, MiB" "$(printf '%s\n' "${bare[@]}" | median)" 40
row "RSS with MiniLM, MiB" "$(printf '%s\n' "${loaded[@]}" | median)" 160
