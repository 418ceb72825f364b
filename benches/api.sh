#!/usr/bin/env bash
# The REST API beside Django REST framework + FAISS + gunicorn, on one Postgres, in alternating rounds.
#   PEER_DIR    the peer (default ../shared/peers/django_faiss beside the checkout)
#   MODEL_DIR   an installed embedding model
#   AGENT       the binary (default: the release build)
#   WORK        where both keep their data
# Needs wrk, PostgreSQL, and the vectors that benches/data.sh makes (AGENT_BENCH_DATA).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/agent
export PEER_DIR=${PEER_DIR:-$here/../../shared/peers/django_faiss}
AGENT=${AGENT:-${CARGO_TARGET_DIR:-$cache/target}/release/agent}
MODEL_DIR=${MODEL_DIR:-${AGENT_TEST_MODEL_DIR:-$cache/model}}
WORK=${WORK:-/var/tmp/agent-bench}
ROUNDS=${ROUNDS:-3}
SECONDS_EACH=${SECONDS_EACH:-8}
if [ ! -e "$PEER_DIR/load.py" ]; then
  echo "api bench: no peer in $PEER_DIR (set PEER_DIR); without it there is no ratio to print" >&2
  exit 1
fi
data=${AGENT_BENCH_DATA:-$cache/bench/data}
for file in base.f32 glosses.txt; do
  [ -s "$data/$file" ] || { echo "api bench: no $data/$file: run benches/data.sh" >&2; exit 1; }
done

# --- the peer: its own database, seed and index, as its bench makes them
export PG_DIR=$WORK/pg PEER_BIND=127.0.0.1:8621 PEER_INDEX_DIR=$WORK/django/index PEER_DB_HOST=$WORK/pg/run
export PYTHONDONTWRITEBYTECODE=1
venv=${VENV:-$WORK/django/venv}
mkdir -p "$WORK/django"
[ -x "$venv/bin/gunicorn" ] || {
  "${PYTHON:-/usr/bin/python3}" -m venv --without-pip "$venv"
  python3 -m pip --python "$venv/bin/python" install -q -r "$PEER_DIR/requirements.txt"
}
[ -s "$WORK/django/secret" ] || head -c 48 /dev/urandom | base64 -w0 >"$WORK/django/secret"
PEER_SECRET_KEY=$(cat "$WORK/django/secret")
export PEER_SECRET_KEY
"$PEER_DIR/pg.sh" start
pg_pid=$(head -1 "$PG_DIR/data/postmaster.pid")
manage() { (cd "$PEER_DIR" && "$venv/bin/python" manage.py "$@"); }
manage migrate -v0
manage seed --text "$data/glosses.txt"
vectors=$WORK/django/vectors.f32
[ -s "$PEER_INDEX_DIR/index.faiss" ] || manage build_index --vectors "$data/base.f32" --save-vectors "$vectors"

# --- ours: another database of the same Postgres
peer_psql() { "$PEER_DIR/pg.sh" psql "$@"; }
[ "$(peer_psql -Atqc "select 1 from pg_database where datname = 'agent'")" = 1 ] || peer_psql -qc 'create database agent'
export AGENT_DATABASE_URL="postgres://peer@/agent?host=$PG_DIR/run&port=55432" AGENT_DATA_DIR=$WORK/agent
export AGENT_LISTEN=127.0.0.1:8622 AGENT_MODEL_DIR=$MODEL_DIR AGENT_THROTTLE_ENABLED=false AGENT_LOG_LEVEL=warn
pids=()
stop_all() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait
}
trap stop_all EXIT
await() { # pid, url
  for _ in $(seq 600); do
    kill -0 "$1" 2>/dev/null || { echo "api bench: the server of $2 ended" >&2; exit 1; }
    if curl -sf -o /dev/null "$2"; then return; fi
    sleep 0.1
  done
  echo "api bench: no answer from $2" >&2
  exit 1
}
start_ours() {
  "$AGENT" --role app &
  ours=$!
  pids+=("$ours")
  await "$ours" "http://$AGENT_LISTEN/readyz"
}
start_ours
python3 "$here/api.py" seed --base-url "http://$AGENT_LISTEN" --psql "$PEER_DIR/pg.sh psql -d agent" \
  --glosses "$data/glosses.txt" --vectors "$vectors"
kill "$ours"
wait "$ours" || true
start_ours # from the seeded database, as a node starts

(cd "$PEER_DIR" && PEER_PRELOAD=1 PEER_DB_POOL=0 PEER_THREADS=1 PEER_WORKER_CLASS=sync OMP_NUM_THREADS=1 \
  exec "$venv/bin/gunicorn" -c gunicorn.conf.py peer.wsgi) &
theirs=$!
pids+=("$theirs")
await "$theirs" "http://$PEER_BIND/healthz"

python3 "$here/api.py" load --ours "http://$AGENT_LISTEN" --ours-pid "$ours" \
  --peer "http://$PEER_BIND" --peer-pid "$theirs" --pg-pid "$pg_pid" --vectors "$vectors" \
  --rounds "$ROUNDS" --seconds "$SECONDS_EACH" ${CASES:+--cases "$CASES"} --out "$WORK/api.json"
