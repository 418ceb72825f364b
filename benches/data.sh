#!/usr/bin/env bash
# Makes the vectors that the search benches use: WordNet's glosses, embedded; see data.rs. Once made they stay.
#   AGENT_TEST_MODEL_DIR   an installed embedding model
#   AGENT_BENCH_DATA       where to put them, about 250 MB (default: the cache)
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agent
model=${AGENT_TEST_MODEL_DIR:-$cache/model}
data=${AGENT_BENCH_DATA:-$cache/bench/data}
if [ -s "$data/base.f32" ]; then
  echo "bench data: already in $data"
  exit
fi
if [ ! -e /usr/share/wordnet/data.noun ]; then
  echo "bench data: installing wordnet-base"
  apt-get update -qq && apt-get install -y -qq wordnet-base
fi
cargo bench --locked --bench data -- "$model" "$data"
