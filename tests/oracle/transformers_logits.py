#!/usr/bin/env python3
"""Logits of a GGUF model (llama, falcon) from an independent implementation, in the format of `kvr eval`.

    python3 tests/oracle/transformers_logits.py MODEL.gguf 1,403,407 32 > expected.txt
    kvr eval -m MODEL.gguf --ids 1,403,407 -n 32 > got.txt
    python3 tests/oracle/compare.py got.txt expected.txt 0.02

The implementation is transformers in float32. Needs torch, transformers, gguf. Never needed to build, run or test kvr.
"""
import os
import sys

import gguf
import torch
from transformers import AutoConfig, AutoModelForCausalLM


def step_line(index, token, logits):
    top = torch.topk(logits, 5)
    words = " ".join(f"{i}:{v:.6f}" for v, i in zip(top.values.tolist(), top.indices.tolist()))
    wide = logits.double()
    return f"step {index} token {token} top {words} sum {wide.sum():.6f} sq {(wide * wide).sum():.6f}"


def config_of(folder, name):
    """transformers does not read a linear rope scaling from GGUF: add it."""
    config = AutoConfig.from_pretrained(folder, gguf_file=name)
    field = gguf.GGUFReader(os.path.join(folder, name)).get_field("llama.rope.scaling.factor")
    if field is not None:
        config.rope_scaling = {"rope_type": "linear", "factor": float(field.contents()), "rope_theta": 10000.0}
    return config


def main():
    path, ids, n = sys.argv[1], [int(x) for x in sys.argv[2].split(",")], int(sys.argv[3])
    folder, name = os.path.split(os.path.abspath(path))
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, config=config_of(folder, name),
                                                 torch_dtype=torch.float32).eval()
    greedy = []
    with torch.no_grad():
        while len(greedy) < n:
            logits = model(torch.tensor([ids + greedy])).logits[0]
            if not greedy:
                for i, token in enumerate(ids):
                    print(step_line(i, token, logits[i]))
            else:
                print(step_line(len(ids) + len(greedy) - 1, greedy[-1], logits[-1]))
            greedy.append(int(logits[-1].argmax()))
    print("greedy", *greedy)


main()
