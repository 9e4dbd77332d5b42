#!/usr/bin/env python3
"""Writes a llama or falcon model of any shape with random weights, for measuring and for comparing with other engines.

    python3 tests/bench/make_model.py --type Q4_0 -o /tmp/1b-q4_0.gguf          # the 1.1B shape of TinyLlama
    python3 tests/bench/make_model.py --like falcon-7b --type Q4_0 -o 7b.gguf
    python3 tests/bench/make_model.py --like llama-7b --type F16 --hollow -o 7b.gguf        # for --emulate
    python3 tests/bench/make_model.py --arch falcon --layers 2 --dim 256 --ffn 1024 --heads 4 --kv-heads 1 \\
        --vocab 320 --type F32 -o small.gguf

Needs numpy and gguf (PyPI). Weights are normal with variance 1/columns, so activations keep their size through the
layers. The K types, which the gguf package cannot quantise to, have random codes and scales of that size instead.
A hollow model has weights of zeros that no disk block stands behind: for emulated boards, which read none.
"""
import argparse
import os
import sys

import gguf
import numpy as np

TYPES = {name: gguf.GGMLQuantizationType[name] for name in (
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")}

LIKE = {"llama-7b": dict(layers=32, dim=4096, ffn=11008, heads=32, kv_heads=32, vocab=32000),
        "falcon-7b": dict(arch="falcon", layers=32, dim=4544, ffn=18176, heads=71, kv_heads=1, vocab=65024)}


def sentencepiece(w, n):
    """<unk>, <s>, </s>, 256 bytes, then made-up words."""
    texts = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    texts += [f"\u2581w{i}" for i in range(n - len(texts))]
    w.add_tokenizer_model("llama")
    w.add_token_list(texts)
    w.add_token_scores([-float(i) for i in range(n)])
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * (n - 259))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)


def byte_pairs(w, n):
    """<|endoftext|>, 256 bytes as GPT-2 writes them, then merges of two bytes, and of their pairs where these end."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # the other 68 are numbered from U+0100
    letters = [chr(b) for b in plain] + [chr(0x100 + i) for i in range(68)]
    halves = [(a, b) for a in letters for b in letters]
    fours = ((a + b, c + d) for a, b in halves for c, d in halves)
    merges = halves[:n - 257] + [next(fours) for _ in range(n - 257 - len(halves))]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("falcon")
    w.add_token_list(["<|endoftext|>", *letters, *(a + b for a, b in merges)])
    w.add_token_types([3] + [1] * (n - 1))
    w.add_token_merges([f"{a} {b}" for a, b in merges])
    w.add_bos_token_id(0)
    w.add_eos_token_id(0)


# What sets the architectures apart. Tensors in the order of the file: name, rows, columns; a vector has columns alone.
# Letters as in lib/src/kvr_arch.h, QKV = HD + 2 GD. least_vocab: control tokens and a token for each byte.
ARCHITECTURES = {
    "llama": dict(
        norm_eps=gguf.GGUFWriter.add_layer_norm_rms_eps, vocabulary=sentencepiece, least_vocab=259,
        once=[("token_embd.weight", "V", "M"),
              ("output_norm.weight", "M"),
              ("output.weight", "V", "M")],
        per_layer=[("attn_norm.weight", "M"),
                   ("attn_q.weight", "HD", "M"),
                   ("attn_k.weight", "GD", "M"),
                   ("attn_v.weight", "GD", "M"),
                   ("attn_output.weight", "M", "HD"),
                   ("ffn_norm.weight", "M"),
                   ("ffn_gate.weight", "F", "M"),
                   ("ffn_up.weight", "F", "M"),
                   ("ffn_down.weight", "M", "F")]),
    "falcon": dict(
        norm_eps=gguf.GGUFWriter.add_layer_norm_eps, vocabulary=byte_pairs, least_vocab=257 + 1,
        once=[("token_embd.weight", "V", "M"),
              ("output_norm.weight", "M"),
              ("output_norm.bias", "M"),
              ("output.weight", "V", "M")],
        per_layer=[("attn_norm.weight", "M"),
                   ("attn_norm.bias", "M"),
                   ("attn_qkv.weight", "QKV", "M"),
                   ("attn_output.weight", "M", "HD"),
                   ("ffn_up.weight", "F", "M"),
                   ("ffn_down.weight", "M", "F")]),
}


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--like", choices=LIKE, help="the shape of a known model; other options change it")
    p.add_argument("--arch", choices=ARCHITECTURES, default="llama")
    p.add_argument("--layers", type=int, default=22)
    p.add_argument("--dim", type=int, default=2048)
    p.add_argument("--ffn", type=int, default=5632)
    p.add_argument("--heads", type=int, default=32)
    p.add_argument("--kv-heads", type=int, default=4)
    p.add_argument("--vocab", type=int, default=32000)
    p.add_argument("--ctx", type=int, default=8192)
    p.add_argument("--rope-scale", type=float, default=0.0, help="linear factor; 0 = none")
    p.add_argument("--hollow", action="store_true", help="no weights, only their places")
    p.add_argument("--tied", action="store_true", help="no output head of its own")
    p.add_argument("--type", choices=TYPES, default="Q4_0", help="of matrices; vectors are F32")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("-o", "--out", required=True)
    p.set_defaults(**LIKE.get(p.parse_args().like, {}))
    return p.parse_args()


def tensors_of(a):
    """[(name, shape)] in the order of the file, shapes as numpy has them."""
    arch, head_dim = ARCHITECTURES[a.arch], a.dim // a.heads
    sizes = {"M": a.dim, "F": a.ffn, "V": a.vocab, "HD": a.heads * head_dim, "GD": a.kv_heads * head_dim}
    sizes["QKV"] = sizes["HD"] + 2 * sizes["GD"]
    rows = [row for row in arch["once"] if not (a.tied and row[0] == "output.weight")]
    for i in range(a.layers):
        rows += [(f"blk.{i}.{name}", *letters) for name, *letters in arch["per_layer"]]
    return [(name, tuple(sizes[letter] for letter in letters)) for name, *letters in rows]


def wrong(a, tensors):
    """A sentence about what cannot be written; None where all is well."""
    least = ARCHITECTURES[a.arch]["least_vocab"]
    block, _ = gguf.GGML_QUANT_SIZES[TYPES[a.type]]
    if a.dim % (2 * a.heads):
        return f"{a.dim} dimensions are no even number for each of {a.heads} heads: change --dim or --heads"
    if a.heads % a.kv_heads:
        return f"{a.heads} heads do not share {a.kv_heads} heads of keys and values evenly: change --kv-heads"
    if a.vocab < least:
        return f"--vocab {a.vocab} is too small: bytes and control tokens of {a.arch} take at least {least}"
    for name, shape in tensors:
        if len(shape) == 2 and shape[1] % block:
            fit = [t for t, kind in TYPES.items()
                   if all(s[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 for _, s in tensors if len(s) == 2)]
            return (f"rows of {shape[1]} numbers ({name}) are no whole blocks of {a.type}, which have {block}: "
                    f"use --type {', '.join(fit[:-1])} or {fit[-1]}")
    return None


def six_bit_scales(rng, n):
    """The 12 bytes of Q4_K and Q5_K: scales of 8 parts, and leasts of the same sizes."""
    s = rng.integers(16, 64, (n, 8), dtype=np.uint8)
    low, high = s[:, :4], s[:, 4:]
    both = low | high >> 4 << 6
    return np.hstack([both, both, (high & 15) | high << 4])


def random_blocks(rng, kind, rows, cols):
    """Blocks of a K type with random codes: of variance 1/cols, and around 0."""
    _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    n = rows * cols // 256
    b = rng.integers(0, 256, (n, block_bytes), dtype=np.uint8)
    size = 1 / np.sqrt(cols)

    def half(at, value):
        b[:, at:at + 2] = np.frombuffer(np.float16(value).tobytes(), np.uint8)

    if kind.name in ("Q4_K", "Q5_K"):
        middle = 7.5 if kind.name == "Q4_K" else 15.5
        b[:, 4:16] = six_bit_scales(rng, n)
        half(0, size / (42 * middle * 0.58))
        half(2, size / (42 * 0.58))
    elif kind.name == "Q2_K":
        b[:, :16] = (b[:, :16] & 15) * 17
        half(80, size / (8.8 * 1.12))
        half(82, size / (8.8 * 1.12) * 1.5)
    elif kind.name == "Q3_K":
        half(108, size / (18.5 * 2.35))
    else:
        half(208, size / (74 * 18.5))
    return b.reshape(rows, -1)


def random_tensor(rng, name, shape, kind):
    if len(shape) == 1:
        return np.float32(not name.endswith(".bias")) + 0.1 * rng.standard_normal(shape, dtype=np.float32)
    if kind.name.endswith("_K"):
        return random_blocks(rng, kind, *shape)
    values = rng.standard_normal(shape, dtype=np.float32) / np.sqrt(np.float32(shape[1]))
    return gguf.quants.quantize(values, kind)


def main():
    a = arguments()
    tensors = tensors_of(a)
    sentence = wrong(a, tensors)
    if sentence:
        sys.exit(sentence)
    arch = ARCHITECTURES[a.arch]
    w = gguf.GGUFWriter(a.out, a.arch)
    w.add_name(f"{'hollow' if a.hollow else 'random'} {a.type}")
    w.add_context_length(a.ctx)
    w.add_embedding_length(a.dim)
    w.add_block_count(a.layers)
    w.add_feed_forward_length(a.ffn)
    w.add_head_count(a.heads)
    w.add_head_count_kv(a.kv_heads)
    arch["norm_eps"](w, 1e-5)
    w.add_rope_dimension_count(a.dim // a.heads)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(a.vocab)
    if a.rope_scale:
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(a.rope_scale)
    arch["vocabulary"](w, a.vocab)

    def kind_of(shape):
        return TYPES[a.type] if len(shape) == 2 else gguf.GGMLQuantizationType.F32

    total = 0
    for name, shape in tensors:
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind_of(shape)]
        n_bytes = int(np.prod(shape)) // block * block_bytes
        total += w.ggml_pad(n_bytes, w.data_alignment)
        w.add_tensor_info(name, shape, np.dtype(np.float32), n_bytes, raw_dtype=kind_of(shape))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_ti_data_to_file()
    if not a.hollow:
        rng = np.random.default_rng(a.seed)
        for name, shape in tensors:  # one at a time: the whole model need not fit memory
            w.write_tensor_data(random_tensor(rng, name, shape, kind_of(shape)))
    w.close()
    if a.hollow:
        os.truncate(a.out, w.ggml_pad(os.path.getsize(a.out), w.data_alignment) + total)


main()
