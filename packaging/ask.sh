#!/usr/bin/env bash
# Asks one question as the demo user of `make run` and shows the answer's events as they arrive.
#   packaging/ask.sh 'QUESTION'
set -euo pipefail
question=${1:?usage: packaging/ask.sh QUESTION}
base=http://${AGENT_LISTEN:-127.0.0.1:8000}
: "${AGENT_TOKEN:?set AGENT_TOKEN to the API token that make run printed}"
api() { curl -sS -H "Authorization: Token $AGENT_TOKEN" -H 'Content-Type: application/json' "$@"; }
field() { python3 -c 'import json, sys
value = json.load(sys.stdin)
for key in sys.argv[1].split("."): value = value[key]
print(value)' "$1"; }

chat=$(api -d '{"title": "From the terminal"}' "$base/api/chats/" | field id)
body=$(python3 -c 'import json, sys; print(json.dumps({"content": sys.argv[1]}))' "$question")
stream=$(api -d "$body" "$base/api/chats/$chat/messages/" | field answer.stream_url)
case $stream in http*) ;; *) stream=$base$stream ;; esac
api -N "$stream"
