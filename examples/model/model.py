"""The network: a plain Llama, written so that its parameters are exactly the
tensors of a "llama" GGUF file (same names, same layout, no permutation)."""
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Shape:
    vocab: int = 512
    dim: int = 256
    layers: int = 4
    heads: int = 8
    kv_heads: int = 4
    head_dim: int = 32
    ffn: int = 384
    context: int = 2048
    rope_base: float = 500000.0     # high: most of a head is still in phase
    eps: float = 1e-5               # over the whole context, which retrieval needs


class RMSNorm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


def rope_tables(shape, n):
    freq = shape.rope_base ** (
        -torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
    angle = torch.arange(n).float()[:, None] * freq[None, :]
    return angle.cos(), angle.sin()


def rope(x, cos, sin):
    """Rotate the pairs (2i, 2i+1) of each head: the Llama GGUF convention."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        lin = lambda i, o: nn.Linear(i, o, bias=False)
        self.attn_norm = RMSNorm(s.dim, s.eps)
        self.attn_q = lin(s.dim, s.heads * s.head_dim)
        self.attn_k = lin(s.dim, s.kv_heads * s.head_dim)
        self.attn_v = lin(s.dim, s.kv_heads * s.head_dim)
        self.attn_output = lin(s.heads * s.head_dim, s.dim)
        self.ffn_norm = RMSNorm(s.dim, s.eps)
        self.ffn_gate = lin(s.dim, s.ffn)
        self.ffn_up = lin(s.dim, s.ffn)
        self.ffn_down = lin(s.ffn, s.dim)

    def forward(self, x, cos, sin, kv_f16):
        s, (b, t, _) = self.s, x.shape
        h = self.attn_norm(x)
        split = lambda y, n: y.view(b, t, n, s.head_dim).transpose(1, 2)
        q = rope(split(self.attn_q(h), s.heads), cos, sin)
        k = rope(split(self.attn_k(h), s.kv_heads), cos, sin)
        v = split(self.attn_v(h), s.kv_heads)
        if kv_f16:          # what a cache of half-precision keys/values does
            k, v = k.half().float(), v.half().float()
        group = s.heads // s.kv_heads
        k = k.repeat_interleave(group, 1)
        v = v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(y.transpose(1, 2).reshape(b, t, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Llama(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.token_embd = nn.Embedding(s.vocab, s.dim)
        self.blk = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.output_norm = RMSNorm(s.dim, s.eps)
        # The output head is the embedding itself (tied): no output.weight.
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02
                if name.endswith(("attn_output.weight", "ffn_down.weight")):
                    std = 0.02 / (2 * s.layers) ** 0.5
                nn.init.normal_(p, std=std)
        self.start_with_copying_heads()

    @torch.no_grad()
    def start_with_copying_heads(self):
        """Start as an "induction" circuit, the known way to copy from far back:

        layer 0: head h looks h tokens back and writes that token, as a short
                 code, into a part of the residual stream of its own;
        layer 1: head h compares "what stood h tokens before me" with "what
                 stood h + 1 tokens before there", so it looks at the place
                 whose token should come next.

        Found by chance this takes most of the training time; given as the
        starting point, training only has to sharpen it and to combine heads.
        """
        s, one, two = self.s, self.blk[0], self.blk[1]
        hd, group = s.head_dim, s.heads // s.kv_heads
        freq = s.rope_base ** (-torch.arange(0, hd, 2).float() / hd)

        # Layer 0, where to look.  Without biases, a head can look at a fixed
        # distance only through a part that all embeddings have in common.
        common = torch.randn(s.dim)
        common /= common.norm()
        size = 0.5 * self.token_embd.weight.norm(dim=1).mean()
        self.token_embd.weight += size * common
        seen = (F.rms_norm(self.token_embd.weight, (s.dim,)) @ common).mean()
        pairs, strength = 6, 6.5    # only the fast turning pairs tell near
        fast = slice(0, 2 * pairs)  # distances apart
        k = one.attn_k.weight.view(s.kv_heads, hd, s.dim)
        q = one.attn_q.weight.view(s.heads, hd, s.dim)
        k[:, fast] = q[:, fast] = 0
        k[:, 0:2 * pairs:2] = strength / seen * common
        for h in range(s.heads):
            turn = -h * freq[:pairs]    # the product is largest h tokens back
            q[h, 0:2 * pairs:2] = strength / seen * turn.cos()[:, None] * common
            q[h, 1:2 * pairs:2] = strength / seen * turn.sin()[:, None] * common

        # Layer 0, what to write: the same code by all heads, each into its
        # own hd of the dim directions.
        basis = torch.linalg.qr(torch.randn(s.dim, s.dim))[0]
        code = torch.randn(hd, s.dim)
        code -= (code @ common)[:, None] * common
        code = torch.linalg.qr(code.T)[0].T
        one.attn_v.weight.view(s.kv_heads, hd, s.dim)[:] = code
        part = [basis[:, h * hd:(h + 1) * hd] for h in range(s.heads)]
        one.attn_output.weight[:] = 0.06 * torch.cat(part, 1)

        # Layer 1, what to compare: with the slowly turning pairs, which
        # stay in phase over the whole context.
        k = two.attn_k.weight.view(s.kv_heads, hd, s.dim)
        q = two.attn_q.weight.view(s.heads, hd, s.dim)
        slow = (hd - 2 * pairs) // group
        for h in range(s.heads - 1):
            at = 2 * pairs + slow * (h % group)
            pick = torch.linalg.qr(torch.randn(hd, slow))[0].T
            q[h, at:at + slow] += 2.0 * pick @ part[h].T
            k[h // group, at:at + slow] += 2.0 * pick @ part[h + 1].T

    def hidden(self, ids, kv_f16=False):
        cos, sin = rope_tables(self.s, ids.shape[1])
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, cos, sin, kv_f16)
        return self.output_norm(x)

    def logits(self, h):
        return F.linear(h, self.token_embd.weight)
