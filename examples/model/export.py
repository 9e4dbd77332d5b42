#!/usr/bin/env python3
"""Writes checkpoint.pt and tokenizer.model as one GGUF file, weights Q8_0.

    export.py [--out kvr-logbook.gguf]
"""
import argparse
import os

import gguf
import sentencepiece
import torch

HERE = os.path.dirname(os.path.abspath(__file__))


def add_tokenizer(w, sp):
    n = sp.get_piece_size()
    tokens, scores, types = [], [], []
    for i in range(n):
        tokens.append(sp.id_to_piece(i).encode())
        scores.append(sp.get_score(i))
        types.append(gguf.TokenType.UNKNOWN if sp.is_unknown(i) else
                     gguf.TokenType.CONTROL if sp.is_control(i) else
                     gguf.TokenType.BYTE if sp.is_byte(i) else
                     gguf.TokenType.NORMAL)
    w.add_tokenizer_model("llama")          # sentencepiece, merged by score
    w.add_token_list(tokens)
    w.add_token_scores(scores)
    w.add_token_types(types)
    w.add_bos_token_id(sp.bos_id())
    w.add_eos_token_id(sp.eos_id())
    w.add_unk_token_id(sp.unk_id())
    w.add_add_bos_token(True)
    w.add_add_eos_token(False)
    w.add_add_space_prefix(True)


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawTextHelpFormatter)
    ap.add_argument("--checkpoint", default=os.path.join(HERE, "checkpoint.pt"))
    ap.add_argument("--tokenizer", default=os.path.join(HERE, "tokenizer.model"))
    ap.add_argument("--out", default=os.path.join(HERE, "kvr-logbook.gguf"))
    args = ap.parse_args()
    ck = torch.load(args.checkpoint, weights_only=True, map_location="cpu")
    s, sp = ck["shape"], sentencepiece.SentencePieceProcessor(
        model_file=args.tokenizer)

    w = gguf.GGUFWriter(args.out, "llama")
    w.add_name("kvr logbook")
    w.add_license("mit")
    w.add_context_length(s["context"])
    w.add_embedding_length(s["dim"])
    w.add_block_count(s["layers"])
    w.add_feed_forward_length(s["ffn"])
    w.add_head_count(s["heads"])
    w.add_head_count_kv(s["kv_heads"])
    w.add_layer_norm_rms_eps(s["eps"])
    w.add_rope_dimension_count(s["head_dim"])
    w.add_rope_freq_base(s["rope_base"])
    w.add_vocab_size(s["vocab"])
    w.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    w.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(w, sp)

    # The parameters already carry the GGUF names.  There is no output.weight:
    # the embedding is the output head too.
    for name, t in ck["model"].items():
        a = t.float().numpy()
        if a.ndim == 1:                      # norms stay float32
            w.add_tensor(name, a)
        else:
            q8 = gguf.GGMLQuantizationType.Q8_0
            w.add_tensor(name, gguf.quants.quantize(a, q8), raw_dtype=q8)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    print(f"{args.out}: {os.path.getsize(args.out)} bytes, "
          f"{sum(t.numel() for t in ck['model'].values())} weights")


if __name__ == "__main__":
    main()
