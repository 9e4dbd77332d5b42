#!/usr/bin/env python3
"""Trains the tokenizer and then the model, on the CPU, from nothing.

    train.py                    # both, writes tokenizer.model and checkpoint.pt
    train.py --resume           # goes on from checkpoint.pt

The curriculum goes from short logs, where the copying ("induction") heads
form quickly, to logs as long as the context.
"""
import argparse
import ast
import dataclasses
import io
import os
import random
import time

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F

from make_text import make_document
from model import Llama, Shape

HERE = os.path.dirname(os.path.abspath(__file__))
BOS, EOS = 1, 2
VOCAB = 960

# (steps, tokens per text, texts per step, most questions per text)
STAGES = [(200, 160, 32, 8), (150, 256, 24, 12), (150, 512, 14, 24),
          (180, 1024, 8, 48), (320, 2048, 4, 80)]
DECAY = 0.4        # the learning rate falls over this last share of the steps


def train_tokenizer(path, seed):
    rng = random.Random(seed)
    lines = []
    for _ in range(300):
        lines += make_document(rng, 60, 1).split("\n")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model,
        model_type="bpe", vocab_size=VOCAB, byte_fallback=True,
        split_digits=True, add_dummy_prefix=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        character_coverage=1.0, hard_vocab_limit=False, num_threads=1,
        unk_id=0, bos_id=BOS, eos_id=EOS, pad_id=-1, minloglevel=2)
    with open(path, "wb") as f:
        f.write(model.getvalue())


class Text:
    """Turns generated texts into batches of (ids, targets, weights)."""

    def __init__(self, sp):
        self.sp = sp
        self.nl = sp.piece_to_id("<0x0A>")
        self.q, self.space = sp.piece_to_id("Q"), sp.piece_to_id("▁")

    def one(self, rng, tokens, questions):
        # A log line takes about 12.4 tokens, a question with answer about 9.
        lines = max(3, int((tokens - 8 - 9 * questions) / 12.4))
        while True:
            ids = [BOS] + self.sp.encode(make_document(rng, lines, questions))
            if len(ids) <= tokens + 1:
                break
            lines -= max(1, (len(ids) - tokens) // 16)
        ids = np.array(ids)
        target = np.append(ids[1:], EOS)
        # Which input positions predict a token of an answer: from the last
        # token of the question ("Q", ":", then subject and site, or a space
        # and five characters of time) to the newline that ends the answer.
        weight = np.full(len(ids), 0.03, np.float32)
        inside, begin = False, -1
        for i in range(len(ids)):
            if ids[i] == self.q and i + 2 < len(ids):
                begin = i + (7 if ids[i + 2] == self.space else 3)
            inside = inside or i == begin
            if inside:
                weight[i] = 1.0
                if ids[i] == self.nl:
                    # After an answer the model shall always stop, whatever
                    # follows in the training text.
                    target[i] = EOS
                    inside = False
        return ids[:tokens], target[:tokens], weight[:tokens]

    def batch(self, rng, tokens, texts, questions):
        ids = np.zeros((texts, tokens), np.int64)
        target = np.zeros((texts, tokens), np.int64)
        weight = np.zeros((texts, tokens), np.float32)
        for b in range(texts):
            i, t, w = self.one(rng, tokens,
                               rng.randint(questions // 4 + 1, questions))
            ids[b, :len(i)], target[b, :len(i)], weight[b, :len(i)] = i, t, w
        return map(torch.from_numpy, (ids, target, weight))


class Optimizer:
    """Muon for the matrices of the blocks, AdamW for embedding and norms.

    In short comparisons the copying heads formed much sooner than with
    AdamW for all."""

    def __init__(self, model):
        matrices, rest = [], []
        for name, p in model.named_parameters():
            matrix = p.dim() == 2 and not name.startswith("token_embd")
            (matrices if matrix else rest).append(p)
        self.parts = [
            torch.optim.Muon(matrices, weight_decay=0.01,
                             adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0)]

    def set_lr(self, lr):
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = lr

    def zero_grad(self):
        for part in self.parts:
            part.zero_grad()

    def step(self):
        for part in self.parts:
            part.step()

    def state_dict(self):
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states):
        for part, state in zip(self.parts, states):
            part.load_state_dict(state)


def answers_right(logits, target, weight):
    """(right, asked) over whole answers: every token has to be the best one."""
    ok = (logits.argmax(-1) == target)
    right = asked = 0
    good = True
    for o, t, w in zip(ok.tolist(), target.tolist(), weight.tolist()):
        if w == 1.0:
            good = good and o
            if t == EOS:
                right, asked, good = right + good, asked + 1, True
    return right, asked


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawTextHelpFormatter)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--warmup", type=int, default=100)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--f32", action="store_true", help="no bfloat16")
    ap.add_argument("--resume", action="store_true")
    ap.add_argument("--stages", help="python list in place of STAGES")
    ap.add_argument("--minutes", type=float, help="stop after this time")
    ap.add_argument("--out", default=HERE, help="folder for the results")
    args = ap.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    stages = ast.literal_eval(args.stages) if args.stages else STAGES
    total = sum(s[0] for s in stages)

    sp_path = os.path.join(args.out, "tokenizer.model")
    if not os.path.exists(sp_path):
        train_tokenizer(sp_path, args.seed)
    sp = sentencepiece.SentencePieceProcessor(model_file=sp_path)
    text = Text(sp)

    shape = Shape(vocab=sp.get_piece_size())
    model = Llama(shape)
    opt = Optimizer(model)
    ck_path = os.path.join(args.out, "checkpoint.pt")
    step = 0
    if args.resume:
        ck = torch.load(ck_path, weights_only=True)
        model.load_state_dict(ck["model"])
        opt.load_state_dict(ck["opt"])
        step = ck["step"]

    def save():
        torch.save({"model": model.state_dict(), "opt": opt.state_dict(),
                    "step": step, "shape": dataclasses.asdict(shape)}, ck_path)

    plan = [s[1:] for s in stages for _ in range(s[0])]
    start = time.time()
    seen = right = asked = 0
    print(f"{sum(p.numel() for p in model.parameters())} parameters, "
          f"{total} steps", flush=True)
    while step < total:
        tokens, texts, questions = plan[step]
        # The text of a step depends only on seed and step: a resumed run
        # sees what an unbroken one would have seen.
        rng = random.Random(args.seed * 1000003 + step)
        while tokens > 160 and rng.random() < 0.25:     # keep short logs alive
            tokens, texts, questions = tokens // 2, texts * 2, questions // 2
        ids, target, weight = text.batch(rng, tokens, texts, questions)
        lr = args.lr * min(1, (step + 1) / args.warmup,
                           0.02 + (total - step) / (DECAY * total))
        opt.set_lr(lr)
        # bfloat16 doubles the speed where the processor multiplies it; the
        # weights themselves stay float32.
        with torch.autocast("cpu", torch.bfloat16, enabled=not args.f32):
            logits = model.logits(model.hidden(ids)).flatten(0, 1).float()
        target, weight = target.flatten(), weight.flatten()
        loss = (F.cross_entropy(logits, target, reduction="none")
                * weight).sum() / weight.sum()
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step += 1
        seen += ids.numel()
        r, n = answers_right(logits.detach(), target, weight)
        right, asked = right + r, asked + n
        if step % 20 == 0:
            print(f"step {step} len {tokens} loss {loss.item():.3f} "
                  f"answers {right / max(asked, 1):.3f} lr {lr:.5f} "
                  f"{(time.time() - start) / 60:.1f} min "
                  f"{seen / (time.time() - start):.0f} tok/s", flush=True)
            right = asked = 0
        out_of_time = args.minutes and time.time() - start > args.minutes * 60
        if step % 50 == 0 or step == total or out_of_time:
            save()
        if out_of_time:
            break


if __name__ == "__main__":
    main()
