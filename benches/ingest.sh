#!/bin/sh
# A 1 MB Markdown document from upload to ready, beside the time that embedding its passages takes.
# AGENT_TEST_MODEL_DIR names the model's directory; ROUNDS the number of rounds.
set -eu
cd "$(dirname "$0")/.."
: "${AGENT_TEST_MODEL_DIR:?run \`make model\` first}"
exec cargo bench --quiet --bench ingest -- "$AGENT_TEST_MODEL_DIR" "${ROUNDS:-2}"
