#!/usr/bin/env python3
"""Seeds our database like the peer's, then loads both servers in alternating rounds and prints them side by side.

  api.py seed --base-url URL --psql "COMMAND" --glosses FILE --vectors FILE
  api.py load --ours URL --ours-pid PID --peer URL --peer-pid PID --pg-pid PID --vectors FILE [--rounds N] [--seconds S]

The load generator is the peer's own (PEER_DIR/load.py, driving wrk), so both are asked in the same way.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from types import SimpleNamespace

sys.path.insert(0, os.environ["PEER_DIR"])
import load as peer  # noqa: E402

USERS, CHATS, MESSAGES, DOCUMENTS, CHUNKS = 50, 20, 20, 1000, 100
DIMENSION, CHUNK_CHARS, MESSAGE_CHARS = 384, 600, 300
CASES = ["chats", "messages", "search", "add_chat", "add_message"]


class OurSession(peer.Session):
    """The peer's client with our paths: trailing slashes, and answers switched off for messages."""

    def __init__(self, base_url, user):
        self.url, self.user, self.cookies, self.token = peer.urlsplit(base_url), user, {}, None
        self.call("GET", "/api/auth/csrf/", expect=None)
        self.call("POST", "/api/auth/login/", {"username": f"user{user:02d}", "password": peer.PASSWORD})

    def raw(self, method, path, data=None):
        if method == "POST" and path.endswith("/messages/"):
            data = {**data, "answer": False}
        return super().raw(method, path, data)


def register_all(base_url):
    for user in range(1, USERS + 1):
        session = OurSession.__new__(OurSession)
        session.url, session.cookies, session.token = peer.urlsplit(base_url), {}, None
        session.call("GET", "/api/auth/csrf/", expect=None)
        body = {"username": f"user{user:02d}", "email": f"user{user:02d}@example.org", "password": peer.PASSWORD}
        session.call("POST", "/api/auth/register/", body, expect=(201, 400))


def passage(lines, start, chars):
    """Consecutive lines from `start` until there are `chars` characters, as the peer's seed makes them."""
    parts, size = [], 0
    while size < chars:
        part = lines[start % len(lines)]
        parts.append(part)
        size += len(part) + 1
        start += 1
    return " ".join(parts)[:chars]


def ids():
    """UUIDv7 values in rising order."""
    stamp, count = int(time.time() * 1000), 0
    while True:
        count += 1
        random = uuid.uuid4().int & (1 << 62) - 1
        yield uuid.UUID(int=stamp + (count >> 12) << 80 | 7 << 76 | (count & 0xFFF) << 64 | 2 << 62 | random)


def psql_rows(psql, sql):
    out = subprocess.run([*psql, "-AtqF", "\t", "-c", sql], check=True, capture_output=True, text=True).stdout
    return [line.split("\t") for line in out.splitlines()]


def copy(psql, table, columns, rows):
    command = [*psql, "-q", "-c", f"copy {table} ({', '.join(columns)}) from stdin"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE)
    escape = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
    for row in rows:
        process.stdin.write("\t".join(str(cell).translate(escape) for cell in row).encode() + b"\n")
    process.stdin.close()
    if process.wait() != 0:
        raise SystemExit(f"copy into {table} failed")


def seed(args):
    psql = args.psql.split()
    register_all(args.base_url)
    if int(psql_rows(psql, "select count(*) from chunks")[0][0]):
        print("already seeded")
        return
    lines = [line.strip() for line in open(args.glosses, encoding="utf-8") if line.strip()]
    users = dict(psql_rows(psql, "select username, id from users where username like 'user%'"))
    home_sql = "select user_id, min(collection_id::text) from members where role = 'owner' group by 1"
    homes = dict(psql_rows(psql, home_sql))
    generation = psql_rows(psql, "select generation from embedding_model where state = 'active'")[0][0]
    now = psql_rows(psql, "select now()")[0][0]
    new = ids()
    seed_chats(psql, users, lines, new, now)
    seed_documents(psql, users, homes, generation, lines, new, open(args.vectors, "rb").read())
    log = "insert into index_log (document_id) select id from documents"
    subprocess.run([*psql, "-q", "-c", log, "-c", "vacuum analyze users, sessions, members, documents, chunks, chats, messages"], check=True)
    print("seeded")


def seed_chats(psql, users, lines, new, now):
    chats = [
        (next(new), users[f"user{c // CHATS + 1:02d}"], f"Chat {c % CHATS + 1}: {lines[c % len(lines)][:60]}", now, now)
        for c in range(USERS * CHATS)
    ]
    copy(psql, "chats", ["id", "owner_id", "title", "created_at", "updated_at"], chats)
    messages = (
        (next(new), chats[m // MESSAGES][0], "assistant" if m % 2 else "user",
         passage(lines, m * 3, MESSAGE_CHARS), "complete", now)
        for m in range(USERS * CHATS * MESSAGES)
    )
    copy(psql, "messages", ["id", "chat_id", "role", "content", "status", "created_at"], messages)


def seed_documents(psql, users, homes, generation, lines, new, vectors):
    documents = [next(new) for _ in range(DOCUMENTS)]
    size = DIMENSION * 4

    def document(d):
        owner = users[f"user{d % USERS + 1:02d}"]
        sha256 = "\\x" + d.to_bytes(32, "big").hex()
        return (documents[d], homes[owner], owner, f"Document {d + 1}", f"{d + 1}.txt", "text/plain",
                CHUNKS * CHUNK_CHARS, sha256, f"bench/{d}", "ready", 1, CHUNKS, generation, 1)

    def chunk(c):
        n = c % CHUNKS
        vector = "\\x" + vectors[c * size:(c + 1) * size].hex()
        return (next(new), documents[c // CHUNKS], 1, n, "", passage(lines, c, CHUNK_CHARS),
                n * CHUNK_CHARS, (n + 1) * CHUNK_CHARS, vector)

    copy(psql, "documents", ["id", "collection_id", "owner_id", "title", "file_name", "media_type", "size_bytes",
                             "sha256", "blob", "status", "version", "chunk_count", "generation", "progress"],
         map(document, range(DOCUMENTS)))
    copy(psql, "chunks", ["id", "document_id", "version", "ordinal", "heading", "text", "span_start", "span_end",
                          "embedding"], map(chunk, range(DOCUMENTS * CHUNKS)))


def load(args):
    sides = {"django": (args.peer, args.peer_pid, peer.Session), "agent": (args.ours, args.ours_pid, OurSession)}
    prepared = {}
    for name, (url, _, session) in sides.items():
        readers, writers = [session(url, u) for u in peer.READERS], [session(url, u) for u in peer.WRITERS]
        prepared[name] = {case: peer.requests_for(case, readers, writers, args.vectors) for case in args.cases}
    samples = {}
    for round_number in range(args.rounds):
        for case in args.cases:
            # Who goes first alternates, so that a drift of the machine's speed favours nobody.
            for name in sorted(sides, reverse=round_number % 2 == 1):
                url, pid, _ = sides[name]
                run = SimpleNamespace(base_url=url, pid=[pid], pg_pid=[args.pg_pid], seconds=args.seconds, threads=1)
                peer.wrk(url, prepared[name][case], 4, 1, 1)
                peer.drain([pid])
                row = peer.measure(run, case, prepared[name][case], args.connections)
                if row["errors"]:
                    raise SystemExit(f"{name} {case}: {row['errors']}")
                samples.setdefault((case, name), []).append(row)
    report(args, samples)


def report(args, samples):
    def median(rows, key):
        return statistics.median(row[key] for row in rows)

    def ratio(case, key, more_is_better):
        pairs = zip(samples[case, "agent"], samples[case, "django"])
        return statistics.median(a[key] / b[key] if more_is_better else b[key] / a[key] for a, b in pairs)

    print(f"{args.connections} connections, {args.seconds} s, medians of {args.rounds} rounds; "
          "ratios pair by pair: how many times better than django")
    print(f"{'case':<12}{'server':<8}{'req/s':>9}{'p50 ms':>9}{'p99 ms':>9}{'cpu ms/req':>12}{'pg ms/req':>11}{'bytes':>8}")
    for case in args.cases:
        for name in ("django", "agent"):
            rows = samples[case, name]
            print(f"{case:<12}{name:<8}{median(rows, 'rps'):>9.0f}{median(rows, 'p50_ms'):>9.2f}{median(rows, 'p99_ms'):>9.2f}"
                  f"{median(rows, 'cpu_ms'):>12.4f}{median(rows, 'pg_cpu_ms'):>11.4f}{median(rows, 'bytes_per_response'):>8.0f}")
        print(f"{'':<12}{'ratio':<8}{ratio(case, 'rps', True):>8.1f}x{'':>9}{ratio(case, 'p99_ms', False):>8.1f}x"
              f"{ratio(case, 'cpu_ms', False):>11.1f}x")
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            json.dump({f"{case} {name}": rows for (case, name), rows in samples.items()}, file, indent=1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    seeding = commands.add_parser("seed")
    for name in ("base-url", "psql", "glosses", "vectors"):
        seeding.add_argument(f"--{name}", required=True)
    seeding.set_defaults(run=seed)
    loading = commands.add_parser("load")
    for name in ("ours", "peer", "vectors"):
        loading.add_argument(f"--{name}", required=True)
    for name in ("ours-pid", "peer-pid", "pg-pid"):
        loading.add_argument(f"--{name}", type=int, required=True)
    loading.add_argument("--rounds", type=int, default=3)
    loading.add_argument("--seconds", type=int, default=8)
    loading.add_argument("--connections", type=int, default=16)
    loading.add_argument("--cases", type=lambda text: text.split(","), default=CASES)
    loading.add_argument("--out")
    loading.set_defaults(run=load)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
