#!/usr/bin/env bash
# All figures, one after the other; see README.md. What cannot run here is named at the end, and makes the run fail.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
failed=()
bench() { # script, then variables
  local name=$1
  shift
  printf '\n== %s %s\n' "$name" "$*"
  env "$@" "$here/$name.sh" || failed+=("$name")
}
bench data
bench embed THREADS=1
bench embed THREADS=2
bench search
bench ingest
bench retrieval
bench start
bench api
if [ ${#failed[@]} -gt 0 ]; then
  echo "not measured: ${failed[*]}" >&2
  exit 1
fi
