#!/bin/sh
# What retrieval is worth: recall@10 and MRR of vectors, words and both over the labelled questions, and how many of the
# questions an answer quotes what was asked for. Prints the questions that are missed. Needs AGENT_TEST_MODEL_DIR.
set -eu
cd "$(dirname "$0")/.."
cargo test --release --test tests -- retrieval:: quotes:: --nocapture --test-threads 1
