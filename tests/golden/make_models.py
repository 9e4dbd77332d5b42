#!/usr/bin/env python3
"""Writes small random models of every architecture and what transformers makes of them in float32.

    python3 tests/golden/make_models.py tests/golden/models [NAME ...]

NAME.gguf  the model, tensors and keys as llama.cpp's converters name them; matrices F16, vectors F32
NAME.bin   little-endian: u32 n_prompt, n_new, n_vocab, ctx_tokens; i32 prompt[n_prompt]; f32 logits[n_prompt][n_vocab];
           i32 greedy[n_new]; f32 logits after the last of them [n_vocab]

Sizes are odd on purpose: heads 3 and 7 to a KV head, head_dim * heads != model_dim, a vocabulary that is a multiple of
nothing. The prompt is chosen so that no greedy step is close to a tie. Needs torch, transformers, gguf, numpy.
"""
import os
import sys

import gguf
import numpy as np
import torch
import transformers as tf
from gguf import GGMLQuantizationType as T

N_PROMPT, N_NEW, VOCAB = 24, 64, 131
SMALLEST_GAP = 0.03  # between the best and the second logit of every greedy step

LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 40}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 40}
YARN_BETAS = {**YARN, "rope_theta": 100.0, "beta_fast": 2.0, "beta_slow": 0.5}  # another ramp than 32 and 1 give
SHORT = [1.0 + 0.05 * i for i in range(3)]
LONG = [1.0 + 0.9 * i for i in range(3)]


def longrope(original):
    return {"original_max_position_embeddings": original, "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "partial_rotary_factor": 0.75, "short_factor": SHORT,
        "long_factor": LONG, "original_max_position_embeddings": original}}


def plain(theta=10000.0):
    return {"rope_type": "default", "rope_theta": theta}


def base(hidden, ffn, heads, kv, layers=2, **more):
    return dict(vocab_size=VOCAB, hidden_size=hidden, intermediate_size=ffn, num_attention_heads=heads,
                num_key_value_heads=kv, num_hidden_layers=layers, max_position_embeddings=160, bos_token_id=None,
                eos_token_id=None, pad_token_id=None, attn_implementation="eager", **more)


def falcon(hidden, ffn, heads, **more):
    return tf.FalconConfig(vocab_size=VOCAB, hidden_size=hidden, ffn_hidden_size=ffn, num_attention_heads=heads,
                           num_hidden_layers=2, max_position_embeddings=160, alibi=False, bias=False,
                           parallel_attn=True, bos_token_id=None, eos_token_id=None, attn_implementation="eager",
                           tie_word_embeddings=False, **more)


# name -> (architecture in the file, config)
MODELS = {
    "llama3": ("llama", lambda: tf.LlamaConfig(**base(48, 80, 6, 2, head_dim=10, rope_parameters=LLAMA3))),
    "mistral": ("llama", lambda: tf.MistralConfig(**base(40, 72, 7, 1, head_dim=8, sliding_window=9,
                                                         rope_parameters=plain()))),
    "smollm": ("llama", lambda: tf.LlamaConfig(**base(45, 64, 3, 3, head_dim=14, attention_bias=True,
                                                      tie_word_embeddings=True, rope_parameters=plain(5e4)))),
    "mixed": ("llama", lambda: tf.LlamaConfig(**base(256, 256, 4, 1, head_dim=64, rope_parameters=plain()))),
    "qwen2": ("qwen2", lambda: tf.Qwen2Config(**base(56, 72, 7, 1, tie_word_embeddings=True,
                                                     rope_parameters=plain(1e6)))),
    "qwen2-yarn": ("qwen2", lambda: tf.Qwen2Config(**base(48, 72, 6, 2, rope_parameters=YARN))),
    "qwen3": ("qwen3", lambda: tf.Qwen3Config(**base(48, 72, 6, 2, head_dim=14, rope_parameters=plain(1e6)))),
    "falcon-7b": ("falcon", lambda: falcon(56, 90, 7, multi_query=True, new_decoder_architecture=False)),
    "falcon-40b": ("falcon", lambda: falcon(48, 90, 6, num_kv_heads=2, new_decoder_architecture=True,
                                            num_ln_in_parallel_attn=2)),
    "gemma": ("gemma", lambda: tf.GemmaConfig(**base(48, 80, 6, 1, head_dim=10, rope_parameters=plain()))),
    "gemma2": ("gemma2", lambda: tf.Gemma2Config(**base(48, 80, 6, 2, layers=3, head_dim=10, sliding_window=8,
                                                        query_pre_attn_scalar=10, attn_logit_softcapping=3.0,
                                                        final_logit_softcapping=9.0, rope_parameters=plain()))),
    "gemma3": ("gemma3", lambda: tf.Gemma3TextConfig(**base(36, 48, 3, 1, layers=7, head_dim=10, sliding_window=7,
                                                            query_pre_attn_scalar=10, rope_parameters={
        "sliding_attention": plain(), "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}}))),
    "phi3-short": ("phi3", lambda: tf.Phi3Config(**base(48, 80, 6, 2, **longrope(120)))),
    "phi3-long": ("phi3", lambda: tf.Phi3Config(**base(48, 80, 6, 2, sliding_window=19, **longrope(16)))),
    "qwen3-yarn": ("qwen3", lambda: tf.Qwen3Config(**base(48, 72, 6, 2, head_dim=8, rope_parameters=YARN_BETAS))),
}
FILE_TYPES = [T.Q4_K, T.Q6_K, T.Q5_K, T.Q3_K, T.Q2_K, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.IQ4_NL, T.BF16]


def fill(model, seed):
    """Weights that keep activations near 1 and spread logits over some units; matrices are exact in F16."""
    rng = torch.Generator().manual_seed(seed)
    gemma = model.config.model_type.startswith("gemma")
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, p in model.named_parameters():
            r = torch.randn(p.shape, generator=rng)
            if p.ndim == 2:
                gain = 3.0 if "lm_head" in name else 1.6
                if "embed" in name:  # small where it is the head too, or every token would be followed by itself
                    gain = 0.3 if gemma else 2.0 if tied else p.shape[1] ** 0.5
                p.copy_((r * gain / p.shape[1] ** 0.5).half().float())
            elif name.endswith("bias"):
                p.copy_(0.3 * r)
            else:
                p.copy_((6.0 if name == "model.norm.weight" else 0.0) + 0.2 * r if gemma else 1 + 0.2 * r)
    model.tie_weights()


def unrotate_halves(w, heads):
    """transformers rotates (i, i + half), llama files are laid out for (2i, 2i + 1)."""
    shape = w.shape
    return w.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def falcon_qkv(config, w):
    """The new architecture has q, k, v of one group together."""
    heads, dim = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    if not config.new_decoder_architecture:
        return w
    kv = config.num_kv_heads
    w = w.reshape(kv, heads // kv + 2, dim, -1)
    parts = [w[:, :-2], w[:, -2:-1], w[:, -1:]]
    return np.concatenate([x.reshape(-1, w.shape[-1]) for x in parts])


LAYER_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "self_attn.qkv_proj": "attn_qkv", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate_up_proj": "ffn_up",
    "post_attention_layernorm": "ffn_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
    "self_attention.query_key_value": "attn_qkv", "self_attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down", "ln_attn": "attn_norm_2", "ln_mlp": "attn_norm",
}
GLOBAL_NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output",
                "transformer.word_embeddings": "token_embd", "transformer.ln_f": "output_norm"}


def file_name(config, name):
    stem, kind = name.rsplit(".", 1)
    if stem in GLOBAL_NAMES:
        return f"{GLOBAL_NAMES[stem]}.{kind}"
    parts = stem.split(".")  # model.layers.0.x, transformer.h.0.x
    tail = ".".join(parts[3:])
    named = LAYER_NAMES[tail]
    if tail == "post_attention_layernorm" and config.model_type in ("gemma2", "gemma3_text"):
        named = "post_attention_norm"
    return f"blk.{parts[2]}.{named}.{kind}"


def add_keys(w, arch, c):
    def u32(key, value):
        w.add_uint32(f"{arch}.{key}", int(value))

    def f32(key, value):
        w.add_float32(f"{arch}.{key}", float(value))

    kv = c.num_attention_heads if arch != "falcon" else 1 if not c.new_decoder_architecture else c.num_kv_heads
    kv = getattr(c, "num_key_value_heads", None) or kv
    dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    rope = c.rope_parameters
    rope = rope.get("full_attention", rope)
    u32("context_length", c.max_position_embeddings)
    u32("embedding_length", c.hidden_size)
    u32("block_count", c.num_hidden_layers)
    u32("feed_forward_length", getattr(c, "intermediate_size", None) or c.ffn_hidden_size)
    u32("attention.head_count", c.num_attention_heads)
    u32("attention.head_count_kv", kv)
    if dim * c.num_attention_heads != c.hidden_size:
        u32("attention.key_length", dim)
        u32("attention.value_length", dim)
    if arch == "falcon":
        f32("attention.layer_norm_epsilon", c.layer_norm_epsilon)
    else:
        f32("attention.layer_norm_rms_epsilon", c.rms_norm_eps)
    f32("rope.freq_base", rope["rope_theta"])
    u32("rope.dimension_count", dim * rope.get("partial_rotary_factor", 1.0))
    if getattr(c, "sliding_window", None):
        u32("attention.sliding_window", c.sliding_window)
    if getattr(c, "attn_logit_softcapping", None):
        f32("attn_logit_softcapping", c.attn_logit_softcapping)
        f32("final_logit_softcapping", c.final_logit_softcapping)
    if rope["rope_type"] in ("linear", "yarn"):
        w.add_string(f"{arch}.rope.scaling.type", rope["rope_type"])
        f32("rope.scaling.factor", rope["factor"])
    for key in ("beta_fast", "beta_slow"):
        if rope.get(key):
            f32("rope.scaling.yarn_" + key, rope[key])
    if rope["rope_type"] in ("yarn", "longrope"):
        u32("rope.scaling.original_context_length", rope["original_max_position_embeddings"])
    if rope["rope_type"] == "longrope":
        stretch = c.max_position_embeddings / rope["original_max_position_embeddings"]
        f32("rope.scaling.attn_factor",
            np.sqrt(1 + np.log(stretch) / np.log(rope["original_max_position_embeddings"])))
        w.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], "<f4"))
        w.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], "<f4"))
    if rope["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(rope, dim))


def llama3_factors(rope, dim):
    """As the converter computes them: wavelengths against the original context."""
    freqs = 1.0 / rope["rope_theta"] ** (np.arange(0, dim, 2, dtype=np.float64) / dim)
    low = rope["original_max_position_embeddings"] / rope["low_freq_factor"]
    high = rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    out = []
    for freq in freqs:
        wave = 2 * np.pi / freq
        smooth = (rope["original_max_position_embeddings"] / wave - rope["low_freq_factor"]) / (
            rope["high_freq_factor"] - rope["low_freq_factor"])
        out.append(1.0 if wave < high else rope["factor"] if wave > low
                   else 1.0 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(out, "<f4")


def random_blocks(rng, kind, rows, cols):
    """Blocks of a type that the package cannot quantise to: random bits, scales that make values of 1/sqrt(cols)."""
    block, size = gguf.GGML_QUANT_SIZES[kind]
    at = {T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0]}[kind]
    data = rng.integers(0, 256, (rows * cols // block, size), dtype=np.uint8)
    data[:, [a + i for a in at for i in (0, 1)]] = np.array([0x00, 0x3C] * len(at), np.uint8)  # all scales 1
    spread = gguf.dequantize(data.reshape(rows, -1), kind).std()
    halves = (rng.uniform(0.7, 1.3, (len(data), len(at))) / spread / cols ** 0.5).astype(np.float16)
    for i, a in enumerate(at):
        data[:, a:a + 2] = halves[:, i:i + 1].view(np.uint8)
    return data.reshape(rows, -1)


def in_types(model, seed):
    """Every matrix in another type; the model gets the dequantised values. Returns name -> (type, bytes)."""
    rng = np.random.default_rng(seed)
    out = {}
    for n, (name, p) in enumerate((n, p) for n, p in model.named_parameters() if p.ndim == 2):
        kind = FILE_TYPES[n % len(FILE_TYPES)]
        rows, cols = p.shape
        if kind in (T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL):
            data = random_blocks(rng, kind, rows, cols)
        else:
            data = gguf.quantize(p.detach().numpy(), kind)
        out[name] = (kind, data)
        with torch.no_grad():
            p.copy_(torch.from_numpy(gguf.dequantize(data, kind).copy()))
    return out


def write_model(path, arch, model, types):
    c = model.config
    w = gguf.GGUFWriter(path, arch)
    add_keys(w, arch, c)
    for name, p in model.named_parameters():
        value = p.detach().numpy()
        if name == "lm_head.weight" and c.tie_word_embeddings:
            continue
        if name in types and ("q_proj" in name or "k_proj" in name):
            kind, data = types[name]  # rows move whole, so blocks do too
            heads = c.num_attention_heads if "q_proj" in name else c.num_key_value_heads
            w.add_tensor(file_name(c, name), unrotate_halves(data, heads), raw_dtype=kind)
            continue
        if name in types:
            w.add_tensor(file_name(c, name), types[name][1], raw_dtype=types[name][0])
            continue
        if arch == "llama" and ("q_proj" in name or "k_proj" in name):
            value = unrotate_halves(value, c.num_attention_heads if "q_proj" in name else c.num_key_value_heads)
        if "query_key_value" in name:
            value = falcon_qkv(c, value)
        if arch.startswith("gemma") and value.ndim == 1:
            value = value + 1
        w.add_tensor(file_name(c, name), np.ascontiguousarray(value.astype("<f4" if value.ndim == 1 else "<f2")))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def greedy(model, prompt):
    """Logits of the prompt, the ids, the last logits, the smallest gap. The whole text anew for every id: no cache."""
    ids, gap, first = list(prompt), np.inf, None
    with torch.no_grad():
        for _ in range(N_NEW + 1):
            logits = model(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()
            first = logits if first is None else first
            best = np.sort(logits[-1])[-2:]
            if len(ids) < N_PROMPT + N_NEW:
                gap = min(gap, best[1] - best[0])
                ids.append(int(logits[-1].argmax()))
    return first, ids[len(prompt):], logits[-1], gap


def make(folder, name):
    arch, config = MODELS[name]
    config = config()
    model = tf.AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    seed = 1000 + list(MODELS).index(name)
    fill(model, seed)
    types = in_types(model, seed) if name == "mixed" else {}
    write_model(os.path.join(folder, name + ".gguf"), arch, model, types)
    rng = np.random.default_rng(seed)
    best = None
    for _ in range(200):
        prompt = rng.integers(0, VOCAB, N_PROMPT)
        first, ids, last, gap = greedy(model, prompt)
        quality = (len(set(ids)) > 5, gap)  # a text that only repeats itself proves little
        if best is None or quality > (len(set(best[2])) > 5, best[4]):
            best = (prompt, first, ids, last, gap)
        if quality[0] and gap > SMALLEST_GAP:
            break
    prompt, first, ids, last, gap = best
    ctx = 96 if name != "phi3-long" else 128
    with open(os.path.join(folder, name + ".bin"), "wb") as out:
        out.write(np.array([N_PROMPT, N_NEW, VOCAB, ctx], "<u4").tobytes())
        out.write(np.array(prompt, "<i4").tobytes() + first.astype("<f4").tobytes())
        out.write(np.array(ids, "<i4").tobytes() + last.astype("<f4").tobytes())
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, logits +-{np.abs(first).max():.1f}, "
          f"smallest gap {gap:.3f}, {len(set(ids))} different ids")


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    torch.set_num_threads(1)
    for name in sys.argv[2:] or MODELS:
        make(folder, name)


main()
