#!/usr/bin/env python3
"""Perplexity of a text by llama.cpp, the definition of its own program: for comparing with `kvr perplexity`.

    python3 tests/oracle/llamacpp_perplexity.py -m stories260K.gguf -f text.txt [-c 512] [--chunks N] [-t 1]

Needs numpy and llama-cpp-python (PyPI). Chunks of n_ctx tokens, BOS in the place of the first token of each where the
vocabulary asks for it, the second half of each chunk scored; keys and values f16, as both programs have by default.
"""
import argparse

import llama_cpp
import numpy as np


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-m", "--model", required=True)
    p.add_argument("-f", "--file", required=True)
    p.add_argument("-c", "--ctx", type=int, default=512)
    p.add_argument("--chunks", type=int, default=0)
    p.add_argument("-t", "--threads", type=int, default=1)
    return p.parse_args()


def surprises(logits, ids):
    logits = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(logits).sum(axis=1, dtype=np.float64)) - logits[np.arange(len(ids)), ids]


def main():
    a = arguments()
    text = open(a.file, "rb").read()
    if text.endswith(b"\n"):
        text = text[:-1]
    llm = llama_cpp.Llama(a.model, n_ctx=a.ctx, n_batch=a.ctx, n_ubatch=a.ctx, n_threads=a.threads,
                          n_threads_batch=a.threads, logits_all=True, verbose=False)
    vocab = llama_cpp.llama_model_get_vocab(llm.model)
    bos = llama_cpp.llama_vocab_bos(vocab) if llama_cpp.llama_vocab_get_add_bos(vocab) else None
    ids = llm.tokenize(text, add_bos=bos is not None, special=False)
    n_chunks = len(ids) // a.ctx
    if a.chunks:
        n_chunks = min(n_chunks, a.chunks)
    all_nll = []
    for i in range(n_chunks):
        chunk = ids[i * a.ctx:(i + 1) * a.ctx]
        fed = ([bos] if bos is not None else chunk[:1]) + chunk[1:]
        llm.reset()
        llm.eval(fed)
        first = a.ctx // 2
        all_nll.append(surprises(np.array(llm.scores[first:a.ctx - 1]), np.array(chunk[first + 1:])))
        print(f"[{i + 1}]{np.exp(np.concatenate(all_nll).mean()):.4f},", end="", flush=True)
    nll = np.concatenate(all_nll)
    ppl = np.exp(nll.mean())
    print(f"\nFinal estimate: PPL = {ppl:.4f} +/- {ppl * np.sqrt(nll.var() / (len(nll) - 1)):.5f}"
          f"  ({len(ids)} tokens, llama-cpp-python {llama_cpp.__version__})")


if __name__ == "__main__":
    main()
