#!/usr/bin/env python3
"""Exact-match accuracy of the exported file on fresh logs.

    evaluate.py                 # table by prompt length and place of the answer
    evaluate.py --prompts       # greedy answers to prompts/*.txt, checked

Everything is read back from the GGUF file, the tokenizer too: weights are
dequantised to float32, keys and values are rounded to float16 as in a cache.
An answer counts only if the whole line and the end of text behind it are what
greedy decoding gives.
"""
import argparse
import glob
import os
import random
import sys
import time

import gguf
import numpy as np
import sentencepiece
import torch

from make_text import make_prompt
from model import Llama, Shape

HERE = os.path.dirname(os.path.abspath(__file__))
QUARTERS = [(0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)]


def read_model(path):
    r = gguf.GGUFReader(path)
    f = lambda key: r.get_field("llama." + key).contents()
    s = Shape(vocab=f("vocab_size"), dim=f("embedding_length"),
              layers=f("block_count"), heads=f("attention.head_count"),
              kv_heads=f("attention.head_count_kv"),
              head_dim=f("rope.dimension_count"),
              ffn=f("feed_forward_length"), context=f("context_length"),
              rope_base=f("rope.freq_base"),
              eps=f("attention.layer_norm_rms_epsilon"))
    m = Llama(s)
    m.load_state_dict({t.name: torch.from_numpy(np.array(
        gguf.quants.dequantize(t.data, t.tensor_type), dtype=np.float32))
        for t in r.tensors})
    return m.eval(), r.get_field("tokenizer.ggml.tokens").contents()


@torch.no_grad()
def greedy(model, ids, eos, limit=40):
    out = []
    while len(out) < limit and len(ids) + len(out) < model.s.context:
        h = model.hidden(torch.tensor([ids + out]), kv_f16=True)
        out.append(int(model.logits(h[0, -1]).argmax()))
        if out[-1] == eos:
            break
    return out


@torch.no_grad()
def right(model, prompt_ids, answer_ids):
    """Whether greedy decoding gives answer_ids: one pass over both tells,
    since up to the first wrong token greedy decoding sees the same input."""
    ids = torch.tensor([prompt_ids + answer_ids[:-1]])
    h = model.hidden(ids, kv_f16=True)[0, len(prompt_ids) - 1:]
    return model.logits(h).argmax(-1).tolist() == answer_ids


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawTextHelpFormatter)
    ap.add_argument("--model", default=os.path.join(HERE, "kvr-logbook.gguf"))
    ap.add_argument("--tokenizer", default=os.path.join(HERE, "tokenizer.model"))
    ap.add_argument("--lengths", default="256,512,1024,1500,2000")
    ap.add_argument("--count", type=int, default=50, help="prompts per cell")
    ap.add_argument("--seed", type=int, default=987654321)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--prompts", action="store_true")
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    model, tokens = read_model(args.model)
    sp = sentencepiece.SentencePieceProcessor(model_file=args.tokenizer)
    assert tokens == [sp.id_to_piece(i) for i in range(sp.get_piece_size())]
    encode = lambda text: [sp.bos_id()] + sp.encode(text)

    if args.prompts:
        files = sorted(glob.glob(os.path.join(HERE, "prompts", "[0-9]*.txt")))
        with open(os.path.join(HERE, "prompts", "answers.txt")) as f:
            wanted = f.read().splitlines()
        bad = len(files) != len(wanted)
        for path, want in zip(files, wanted):
            with open(path) as f:
                ids = encode(f.read())
            out = greedy(model, ids, sp.eos_id())
            got = sp.decode(out).strip("\n ")
            ok = got == want and out[-1] == sp.eos_id()
            bad += not ok
            print(f"{os.path.basename(path)}: {len(ids)} tokens, "
                  f"{'right' if ok else 'WRONG'}: {got!r}")
        sys.exit(bad > 0)

    start = time.time()
    for kind in ("subject", "time"):
        print(f"\nquestions by {kind}, {args.count} per cell\n")
        print("| prompt tokens | " + " | ".join(
            f"{q} quarter" for q in ("first", "second", "third", "last"))
            + " | all |\n|---:|---:|---:|---:|---:|---:|")
        for length in map(int, args.lengths.split(",")):
            cells = []
            for part in QUARTERS:
                rng = random.Random(f"{args.seed} {kind} {length} {part}")
                hits = 0
                for _ in range(args.count):
                    prompt, answer, _ = make_prompt(
                        rng, lambda t: len(sp.encode(t)), length, part,
                        kind == "time")
                    p, whole = encode(prompt), encode(prompt + answer)
                    assert whole[:len(p)] == p
                    hits += right(model, p, whole[len(p):] + [sp.eos_id()])
                cells.append(100 * hits / args.count)
            print(f"| {length} | " + " | ".join(f"{c:.0f} %" for c in cells)
                  + f" | {np.mean(cells):.1f} % |", flush=True)
    print(f"\n{time.time() - start:.0f} s")


if __name__ == "__main__":
    main()
