"""Searches the same vectors with our index and with FAISS's exact float scan, in alternating rounds, on one thread.

usage: search.py OURS DATA ROUNDS

OURS is the program of benches/search.rs, DATA has base.f32 and queries.f32. One query at a time on both sides, k = 10.
Recall is that of the ten best rows by float scores summed in 64 bits, equal scores by ascending row; FAISS may miss a
few because equal glosses have equal vectors and it promises no order among them.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np

DIMENSION, K, PART = 384, 10, 2000
LIMIT_MS = 4.0


class Ours:
    def __init__(self, program, data):
        self.child = subprocess.Popen([program, str(data)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      bufsize=1)

    def ask(self, command):
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()
        return json.loads(self.child.stdout.readline())


class Peer:
    def __init__(self, base, queries):
        self.queries = queries
        self.whole = faiss.IndexFlatIP(DIMENSION)
        self.whole.add(base)
        self.parts = []
        for start in range(0, len(base) - PART + 1, PART):
            self.parts.append(faiss.IndexFlatIP(DIMENSION))
            self.parts[-1].add(base[start:start + PART])

    def ask(self, command):
        if command == "bytes":
            return DIMENSION * 4
        if command == "hits":
            return [self.whole.search(query[None], K)[1][0].tolist() for query in self.queries]
        indexes = [self.whole] if command == "whole" else self.parts
        began = time.perf_counter()
        for number, query in enumerate(self.queries):
            indexes[number % len(indexes)].search(query[None], K)
        return (time.perf_counter() - began) * 1e3 / len(self.queries)


def exact_hits(base, queries):
    base, best = base.astype(np.float64), []
    for query in queries.astype(np.float64):
        scores = base @ query
        near = np.argpartition(-scores, 4 * K)[:4 * K]
        best.append(near[np.lexsort((near, -scores[near]))][:K].tolist())
    return best


def main():
    program, data, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    faiss.omp_set_num_threads(1)
    base = np.fromfile(data / "base.f32", dtype="<f4").reshape(-1, DIMENSION)
    queries = np.fromfile(data / "queries.f32", dtype="<f4").reshape(-1, DIMENSION)
    sides = {"agent": Ours(program, data), "FAISS IndexFlatIP": Peer(base, queries)}
    times = {name: {"whole": [], "parts": []} for name in sides}
    for number in range(rounds + 1):
        for command in ("whole", "parts"):
            for name, side in sides.items():
                took = side.ask(command)
                if number > 0:  # The first round warms both up.
                    times[name][command].append(took)
    exact = exact_hits(base, queries)
    print(f"search, {len(base)} vectors of {DIMENSION}, {len(queries)} queries one at a time, one thread, k = {K}; "
          f"medians of {rounds} alternating rounds")
    median, recall = {}, {}
    for name, side in sides.items():
        median[name] = {command: statistics.median(took) for command, took in times[name].items()}
        found = sum(len(set(rows) & set(best)) for rows, best in zip(side.ask("hits"), exact))
        recall[name] = found / (K * len(queries))
        print(f"  {name:17} {median[name]['whole']:6.2f} ms   recall@{K} {recall[name]:.5f}   "
              f"{side.ask('bytes')} bytes/vector   collections of {PART}: {median[name]['parts'] * 1e3:.0f} µs")
    ours, peer = median["agent"], median["FAISS IndexFlatIP"]
    print(f"  ratio             {peer['whole'] / ours['whole']:6.1f}{'':56}{peer['parts'] / ours['parts']:.1f}")
    if recall["agent"] < 1 or ours["whole"] > LIMIT_MS:
        sys.exit(f"search bench: not exact, or slower than {LIMIT_MS:.0f} ms")


main()
