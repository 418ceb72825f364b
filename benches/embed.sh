#!/usr/bin/env bash
# Embedding beside ONNX Runtime in fp32: same model, texts and threads, in alternating rounds; see embed.py.
#   AGENT_TEST_MODEL_DIR   an installed embedding model
#   THREADS                of both sides (default: all cores)
#   VENV                   where the peer's Python packages go (default: the cache)
set -euo pipefail
cd "$(dirname "$0")/.."
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agent
model=${AGENT_TEST_MODEL_DIR:-$cache/model}
threads=${THREADS:-$(nproc)}
venv=${VENV:-$cache/bench/venv-embed}
if [ ! -e /usr/share/wordnet/data.noun ]; then
  echo "embed bench: installing wordnet-base"
  apt-get update -qq && apt-get install -y -qq wordnet-base
fi
if ! "$venv/bin/python" -c 'import numpy, onnx, onnxruntime, safetensors, tokenizers' 2>/dev/null; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet numpy onnx onnxruntime safetensors tokenizers
fi
ours=$(cargo bench --locked --features bench --bench embed --no-run --message-format=json |
  "$venv/bin/python" -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "embed":
        print(message["executable"])')
"$venv/bin/python" benches/embed.py "$ours" "$model" "$threads" "${ROUNDS:-3}"
