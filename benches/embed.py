"""Embeds the same texts with our embedder and with ONNX Runtime in fp32, in alternating rounds.

usage: embed.py OURS MODEL THREADS ROUNDS

OURS is the program of benches/embed.rs. ONNX Runtime gets its fused operators for transformers, texts tokenised
beforehand and of similar length, and its best batch size; our side tokenises within the time.
"""

import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

WORDNET = Path("/usr/share/wordnet")
PASSAGES, PASSAGE_TOKENS, QUESTIONS, BATCH = 200, 205, 200, 4


def build_graph(model):
    """The model as ONNX Runtime's own operators; returns its bytes."""
    config = json.loads((model / "config.json").read_text())
    weights = load_file(model / "model.safetensors")
    nodes, initializers = [], {}

    def use(name, array):
        initializers.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(array, dtype=np.float32), name))
        return name

    def weight(name):
        return use(name, weights[name])

    def transposed(name):
        return use(name + ".T", weights[name].T)

    def node(operator, inputs, output, domain="com.microsoft", **attributes):
        nodes.append(helper.make_node(operator, inputs, [output], domain=domain, **attributes))
        return output

    embeddings = [weight(f"embeddings.{part}_embeddings.weight") for part in ("word", "position", "token_type")]
    norm = [weight("embeddings.LayerNorm.weight"), weight("embeddings.LayerNorm.bias")]
    epsilon = config["layer_norm_eps"]
    nodes.append(helper.make_node("EmbedLayerNormalization", ["ids", "segments", *embeddings, *norm],
                                  ["state", "unused_mask"], domain="com.microsoft", epsilon=epsilon))
    state = "state"
    for layer in range(config["num_hidden_layers"]):
        p = f"encoder.layer.{layer}."
        parts = [p + f"attention.self.{part}" for part in ("query", "key", "value")]
        qkv = use(p + "qkv", np.concatenate([weights[part + ".weight"].T for part in parts], axis=1))
        qkv_bias = use(p + "qkv.bias", np.concatenate([weights[part + ".bias"] for part in parts]))
        context = node("Attention", [state, qkv, qkv_bias, "mask"], p + "context", num_heads=config["num_attention_heads"])
        for operator, name in (("attention", "attention.output"), ("feed", "output")):
            inside = context
            if operator == "feed":
                wide = node("MatMul", [state, transposed(p + "intermediate.dense.weight")], p + "wide", domain="")
                inside = node("BiasGelu", [wide, weight(p + "intermediate.dense.bias")], p + "gelu")
            change = node("MatMul", [inside, transposed(p + name + ".dense.weight")], p + operator, domain="")
            norm = [weight(p + name + ".LayerNorm.weight"), weight(p + name + ".LayerNorm.bias")]
            state = node("SkipLayerNormalization", [change, state, *norm, weight(p + name + ".dense.bias")],
                         p + operator + ".state", epsilon=epsilon)
    shape = ["batch", "length"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in ("ids", "segments", "mask")]
    outputs = [helper.make_tensor_value_info(state, TensorProto.FLOAT, [*shape, config["hidden_size"]])]
    graph = helper.make_graph(nodes, "bert", inputs, outputs, list(initializers.values()))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


class Peer:
    def __init__(self, model, threads, texts):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(build_graph(model), options, providers=["CPUExecutionProvider"])
        tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(256)
        encode = lambda texts: [encoding.ids for encoding in tokenizer.encode_batch(texts)]
        self.passages = sorted(encode(texts["passages"]), key=len)
        self.questions = encode(texts["questions"])
        self.tokens = sum(map(len, self.passages))

    def embed(self, batch):
        length = max(map(len, batch))
        ids = np.array([text + [0] * (length - len(text)) for text in batch], dtype=np.int32)
        mask = np.array([[1] * len(text) + [0] * (length - len(text)) for text in batch], dtype=np.int32)
        state, = self.session.run(None, {"ids": ids, "segments": np.zeros_like(ids), "mask": mask})
        vectors = (state * mask[:, :, None]).sum(1)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def ask(self, command):
        if command == "passages":
            began = time.perf_counter()
            for start in range(0, len(self.passages), BATCH):
                self.embed(self.passages[start:start + BATCH])
            return time.perf_counter() - began
        times = []
        for text in self.questions:
            began = time.perf_counter()
            self.embed([text])
            times.append((time.perf_counter() - began) * 1e3)
        return statistics.median(times)


class Ours:
    def __init__(self, program, model, threads, texts):
        self.child = subprocess.Popen([program, str(model), str(threads)], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True, bufsize=1)
        self.child.stdin.write(json.dumps(texts) + "\n")

    def ask(self, command):
        self.child.stdin.write(command + "\n")
        self.child.stdin.flush()
        return float(self.child.stdout.readline())


def read_texts(model):
    """Passages of about 218 tokens out of WordNet's glosses, and single glosses as questions."""
    lines = [line for part in ("noun", "verb", "adj", "adv") for line in (WORDNET / f"data.{part}").open(encoding="utf-8")]
    glosses = [line.split("|", 1)[1].strip() for line in lines if not line.startswith(" ") and "|" in line]
    random.Random(7).shuffle(glosses)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    passages = []
    while len(passages) < PASSAGES:
        passage, tokens = [], 0
        while tokens < PASSAGE_TOKENS:
            passage.append(glosses.pop() + ".")
            tokens += len(tokenizer.encode(passage[-1], add_special_tokens=False).ids)
        passages.append(" ".join(passage))
    return {"passages": passages, "questions": glosses[:QUESTIONS]}


def main():
    program, model, threads, rounds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    texts = read_texts(model)
    sides = {"agent": Ours(program, model, threads, texts), "ONNX Runtime": Peer(model, threads, texts)}
    tokens = sides["ONNX Runtime"].tokens
    results = {name: {"passages": [], "questions": []} for name in sides}
    for number in range(rounds + 1):
        for command in ("passages", "questions"):
            for name, side in sides.items():
                took = side.ask(command)
                if number > 0:  # The first round warms both up.
                    results[name][command].append(took)
    print(f"embedding, {threads} threads, {PASSAGES} passages, {tokens} tokens; medians of {rounds} alternating rounds")
    median = {name: {c: statistics.median(t) for c, t in result.items()} for name, result in results.items()}
    for name, result in median.items():
        print(f"  {name:13} {tokens / result['passages']:7.0f} tokens/s   one question {result['questions']:.2f} ms (p50)")
    ours, peer = median["agent"], median["ONNX Runtime"]
    print(f"  ratio         {peer['passages'] / ours['passages']:7.2f} (limit 0.7)     {peer['questions'] / ours['questions']:.2f}")
    print(f"  agent's memory with the model: {sides['agent'].ask('memory'):.0f} MiB")
    if peer["passages"] / ours["passages"] < 0.7:
        sys.exit("embed bench: slower than the limit")


main()
