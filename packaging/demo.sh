#!/usr/bin/env bash
# Runs the app role as a newcomer would want to find it: model installed, a demo user, sample documents loaded, three
# commands to try. Everything it makes is found again by a second run. Ctrl-C stops it all in order.
#   packaging/demo.sh AGENT_BINARY CACHE_DIRECTORY
set -euo pipefail
agent=$1
cache=$2
here=$(cd "$(dirname "$0")/.." && pwd)
base=http://${AGENT_LISTEN:-127.0.0.1:8000}
user=demo
password=demo-password

data=$("$agent" --role app check --value data_dir)
packaging/model.sh "$agent" "$cache" "$data/model"

"$agent" --role app &
server=$!
# The terminal sends Ctrl-C to the agent too: it stops in order, and this script only waits for it.
trap : INT
trap 'kill -TERM "$server" 2>/dev/null || true' TERM EXIT

finish() {
  local code=0
  wait "$server" || code=$?
  # A signal that reached this script interrupts the first wait, not the agent.
  if kill -0 "$server" 2>/dev/null; then wait "$server" || code=$?; fi
  exit "$code"
}
for _ in $(seq 300); do
  kill -0 "$server" 2>/dev/null || finish
  curl -fs -o /dev/null "$base/readyz" && break
  sleep 0.1
done

work=$(mktemp -d)
jar=$work/cookies
trap 'rm -rf "$work"; kill -TERM "$server" 2>/dev/null || true' EXIT
call() { # method, path, then curl's arguments
  local method=$1 path=$2
  shift 2
  local csrf=
  [ ! -e "$jar" ] || csrf=$(awk '$6 == "csrftoken" {print $7}' "$jar")
  curl -sS -b "$jar" -c "$jar" -H "X-CSRFToken: $csrf" -X "$method" "$@" "$base$path"
}
call GET /api/auth/csrf/
token_file=$data/demo-token
credentials=$(printf '{"username": "%s", "password": "%s"}' "$user" "$password")
if [ ! -s "$token_file" ]; then
  call POST /api/auth/register/ -o /dev/null -H 'Content-Type: application/json' \
    -d "$(printf '{"username": "%s", "email": "demo@example.org", "password": "%s"}' "$user" "$password")"
  call POST /api/auth/login/ -o /dev/null -H 'Content-Type: application/json' -d "$credentials"
  (
    umask 077
    call POST /api/auth/tokens/ -H 'Content-Type: application/json' -d '{"name": "make run"}' |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["token"])' >"$token_file.new"
  )
  mv "$token_file.new" "$token_file"
fi
token=$(cat "$token_file")
for document in "$here"/tests/fixtures/documents/*; do
  curl -sS -o /dev/null -H "Authorization: Token $token" -F "file=@$document" "$base/api/documents/"
done

cat <<TEXT

  The API answers at $base, its description is at $base/api/docs/
  Demo user: $user, password: $password    (API token: $token)

  Try, in another terminal:

    curl -H 'Authorization: Token $token' $base/api/documents/
    curl -H 'Authorization: Token $token' -H 'Content-Type: application/json' \\
      -d '{"query": "how much may a hotel cost?", "k": 3}' $base/api/search/
    AGENT_TOKEN=$token packaging/ask.sh 'How much may a hotel cost?'

  Ctrl-C stops the agent and its database; the next run finds everything again.

TEXT
finish
