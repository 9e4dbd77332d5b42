#!/usr/bin/env python3
"""llama-bench for machines where llama.cpp comes as llama-cpp-python: the same tests, options and JSON, for compare.sh.

    python3 tests/bench/llama_bench.py -m FILE [-p N,...] [-n N,...] [-d N,...] [-t N] [-r N] [-fa auto|0|1] [-ctk f16]

Needs llama-cpp-python (PyPI). As llama-bench does it, through the C interface: pp feeds n random ids, the first one BOS
where the vocabulary asks for it, in batches of 2048 (micro-batches of 512); tg feeds one random id at a time; both
behind -d ids that are not timed; one run to warm up. Only the logits of the last id are computed. CPU only.
"""
import argparse
import ctypes
import json
import random
import statistics
import sys
import time

import llama_cpp as lc

N_BATCH = 2048
FLASH = {"auto": lc.LLAMA_FLASH_ATTN_TYPE_AUTO, "0": lc.LLAMA_FLASH_ATTN_TYPE_DISABLED,
         "1": lc.LLAMA_FLASH_ATTN_TYPE_ENABLED}


def numbers(text):
    return [int(x) for x in text.split(",")]


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-m", required=True)
    p.add_argument("-p", type=numbers, default=[512])
    p.add_argument("-n", type=numbers, default=[128])
    p.add_argument("-d", "--n-depth", dest="d", type=numbers, default=[0])
    p.add_argument("-t", type=int, default=1)
    p.add_argument("-r", type=int, default=5)
    p.add_argument("-fa", choices=FLASH, default="auto")
    p.add_argument("-o", choices=["json"], default="json")
    return p.parse_args()


@lc.llama_log_callback
def quiet(_level, _text, _user):
    pass


class Bench:
    def __init__(self, a):
        lc.llama_log_set(quiet, ctypes.c_void_p(0))
        lc.llama_backend_init()
        params = lc.llama_model_default_params()
        params.n_gpu_layers = 0
        self.model = lc.llama_model_load_from_file(a.m.encode(), params)
        if not self.model:
            sys.exit(f"llama.cpp cannot load {a.m}")
        vocab = lc.llama_model_get_vocab(self.model)
        self.n_vocab = lc.llama_vocab_n_tokens(vocab)
        self.bos = lc.llama_vocab_bos(vocab) if lc.llama_vocab_get_add_bos(vocab) else None
        self.a = a

    def open(self, n_ctx):
        params = lc.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = N_BATCH
        params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = self.a.t
        params.flash_attn_type = FLASH[self.a.fa]
        self.ctx = lc.llama_init_from_model(self.model, params)
        if not self.ctx:
            sys.exit("llama.cpp makes no context of this size")
        self.memory = lc.llama_get_memory(self.ctx)

    def close(self):
        lc.llama_free(self.ctx)

    def decode(self, ids):
        array = (lc.llama_token * len(ids))(*ids)  # a batch keeps no reference
        if lc.llama_decode(self.ctx, lc.llama_batch_get_one(array, len(ids))) != 0:
            sys.exit("llama_decode failed")

    def some(self, n):
        ids = [random.randrange(self.n_vocab) for _ in range(n)]
        if self.bos is not None:
            ids[0] = self.bos
        return ids

    def prompt(self, n):
        ids = self.some(n)
        for at in range(0, n, N_BATCH):
            self.decode(ids[at:at + N_BATCH])
        lc.llama_synchronize(self.ctx)

    def generate(self, n):
        token = self.some(1)
        for _ in range(n):
            self.decode(token)
            lc.llama_synchronize(self.ctx)
            token = [random.randrange(self.n_vocab)]

    def test(self, n_prompt, n_gen, depth):
        self.open(depth + max(n_prompt, n_gen) + 1)
        if depth:
            self.prompt(depth)
        samples = []
        for i in range(self.a.r + 1):
            lc.llama_memory_seq_rm(self.memory, -1, depth, -1)
            begin = time.monotonic_ns()
            if n_prompt:
                self.prompt(n_prompt)
            else:
                self.generate(n_gen if i else 1)
            if i:
                samples.append(time.monotonic_ns() - begin)
        self.close()
        speeds = [(n_prompt or n_gen) * 1e9 / ns for ns in samples]
        return {"build_commit": f"llama-cpp-python {lc.__version__}", "model_filename": self.a.m, "n_threads": self.a.t,
                "flash_attn": self.a.fa, "n_prompt": n_prompt, "n_gen": n_gen, "n_depth": depth,
                "avg_ts": statistics.fmean(speeds), "samples_ns": samples, "samples_ts": speeds}


def main():
    a = arguments()
    bench = Bench(a)
    tests = [(p, 0, d) for d in a.d for p in a.p if p] + [(0, n, d) for d in a.d for n in a.n if n]
    rows = [",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in bench.test(*t).items()) for t in tests]
    print("[\n" + ",\n".join("  {\n" + row + "\n  }" for row in rows) + "\n]")


main()
