#!/usr/bin/env bash
# The exact scan beside FAISS's IndexFlatIP: same vectors and queries, one thread, alternating rounds; see search.py.
#   AGENT_BENCH_DATA       the vectors of data.sh (default: the cache; made if missing)
#   ROUNDS                 measured (default: 3)
#   VENV                   where the peer's Python packages go (default: the cache)
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agent
data=${AGENT_BENCH_DATA:-$cache/bench/data}
venv=${VENV:-$cache/bench/venv-search}
benches/data.sh
if ! "$venv/bin/python" -c 'import faiss, numpy' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet faiss-cpu numpy
fi
ours=$(cargo bench --locked --features bench --bench search --no-run --message-format=json |
  "$venv/bin/python" -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "search":
        print(message["executable"])')
"$venv/bin/python" benches/search.py "$ours" "$data" "${ROUNDS:-3}"
