#!/usr/bin/env python3
"""Writes a Llama model of any shape with random weights, for measuring and for comparing with other engines.

    python3 tests/bench/make_model.py --type Q4_0 -o /tmp/1b-q4_0.gguf          # the 1.1B shape of TinyLlama
    python3 tests/bench/make_model.py --layers 2 --dim 64 --ffn 160 --heads 4 --kv-heads 2 --vocab 320 --type Q8_0 -o x.gguf
    python3 tests/bench/make_model.py --like llama-7b --type F16 --hollow -o 7b.gguf       # the geometry alone, for --emulate

Needs numpy and gguf (PyPI). Weights are normal with variance 1/columns, so activations keep their size through the layers. The K
types, which the gguf package cannot quantise to, have random codes and scales of that size instead.
A hollow model has weights of zeros that no disk block stands behind: for emulated boards, which read none.
"""
import argparse
import os

import gguf
import numpy as np

TYPES = {name: gguf.GGMLQuantizationType[name] for name in (
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")}

# falcon-7b as a Llama model of the same work: its feed-forward has two matrices of 18176, three of 12128 weigh the same
# within 0.1 %; its 71 heads share one head of keys and values.
LIKE = {"llama-7b": dict(layers=32, dim=4096, ffn=11008, heads=32, kv_heads=32, vocab=32000),
        "falcon-7b": dict(layers=32, dim=4544, ffn=12128, heads=71, kv_heads=1, vocab=65024)}


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--layers", type=int, default=22)
    p.add_argument("--dim", type=int, default=2048)
    p.add_argument("--ffn", type=int, default=5632)
    p.add_argument("--heads", type=int, default=32)
    p.add_argument("--kv-heads", type=int, default=4)
    p.add_argument("--vocab", type=int, default=32000)
    p.add_argument("--ctx", type=int, default=8192)
    p.add_argument("--rope-scale", type=float, default=0.0, help="linear factor; 0 = none")
    p.add_argument("--like", choices=LIKE, help="the shape of a known model")
    p.add_argument("--hollow", action="store_true", help="no weights, only their places")
    p.add_argument("--tied", action="store_true")
    p.add_argument("--type", choices=TYPES, default="Q4_0")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("-o", "--out", required=True)
    a = p.parse_args()
    for key, value in LIKE.get(a.like, {}).items():
        setattr(a, key, value)
    return a


def vocabulary(n):
    """<unk>, <s>, </s>, 256 bytes, then made-up words."""
    texts = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    texts += [f"\u2581w{i}" for i in range(n - len(texts))]
    types = [2, 3, 3] + [6] * 256 + [1] * (n - 259)
    return texts, types


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


def main():
    a = arguments()
    rng = np.random.default_rng(a.seed)
    w = gguf.GGUFWriter(a.out, "llama")
    head_dim = a.dim // a.heads
    w.add_name(f"{'hollow' if a.hollow else 'random'} {a.type}")
    w.add_context_length(a.ctx)
    w.add_embedding_length(a.dim)
    w.add_block_count(a.layers)
    w.add_feed_forward_length(a.ffn)
    w.add_head_count(a.heads)
    w.add_head_count_kv(a.kv_heads)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_dimension_count(head_dim)
    w.add_rope_freq_base(10000.0)
    w.add_vocab_size(a.vocab)
    if a.rope_scale:
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(a.rope_scale)
    texts, types = vocabulary(a.vocab)
    w.add_tokenizer_model("llama")
    w.add_token_list(texts)
    w.add_token_scores([-float(i) for i in range(a.vocab)])
    w.add_token_types(types)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)

    def matrix(name, rows, cols):
        if a.hollow:
            return hollow(name, (rows, cols), TYPES[a.type])
        kind = TYPES[a.type]
        if kind.name.endswith("_K"):
            w.add_tensor(name, random_blocks(rng, kind, rows, cols), raw_dtype=kind)
            return
        values = rng.standard_normal((rows, cols), dtype=np.float32) / np.sqrt(np.float32(cols))
        w.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    def hollow(name, shape, kind):
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        n_bytes = shape[0] * shape[-1] * block_bytes // block if len(shape) == 2 else shape[0] * block_bytes // block
        w.add_tensor_info(name, shape, np.dtype(np.float32), n_bytes, raw_dtype=kind)

    def vector(name, n):
        if a.hollow:
            return hollow(name, (n,), gguf.GGMLQuantizationType.F32)
        w.add_tensor(name, np.ones(n, np.float32) + 0.1 * rng.standard_normal(n, dtype=np.float32))

    matrix("token_embd.weight", a.vocab, a.dim)
    vector("output_norm.weight", a.dim)
    if not a.tied:
        matrix("output.weight", a.vocab, a.dim)
    for i in range(a.layers):
        b = f"blk.{i}."
        vector(b + "attn_norm.weight", a.dim)
        matrix(b + "attn_q.weight", a.heads * head_dim, a.dim)
        matrix(b + "attn_k.weight", a.kv_heads * head_dim, a.dim)
        matrix(b + "attn_v.weight", a.kv_heads * head_dim, a.dim)
        matrix(b + "attn_output.weight", a.dim, a.heads * head_dim)
        vector(b + "ffn_norm.weight", a.dim)
        matrix(b + "ffn_gate.weight", a.ffn, a.dim)
        matrix(b + "ffn_up.weight", a.ffn, a.dim)
        matrix(b + "ffn_down.weight", a.dim, a.ffn)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    if a.hollow:
        w.write_ti_data_to_file()
        w.close()
        sizes = [w.ggml_pad(t.nbytes, w.data_alignment) for t in w.tensors[0].values()]
        header = w.ggml_pad(os.path.getsize(a.out), w.data_alignment)
        os.truncate(a.out, header + sum(sizes))
    else:
        w.write_tensors_to_file()
        w.close()


main()
