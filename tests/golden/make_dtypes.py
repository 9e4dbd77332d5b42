#!/usr/bin/env python3
"""Writes dtypes.bin: random blocks of every tensor type and what the `gguf` package makes of them.

    python3 tests/golden/make_dtypes.py tests/golden/dtypes.bin

Per type, little-endian: u32 type, u32 columns, the row as it lies in a file, then the columns as float32. Scales are
finite halves of every size, all other bytes are random. Needs gguf, numpy.
"""
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

# type -> where the f16 scales are in a block
TYPES = {T.F32: None, T.F16: None, T.BF16: None, T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2],
         T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ4_NL: [0]}
COLUMNS = 768


def finite_halves(rng, n):
    bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
    return np.where(bits & 0x7C00 == 0x7C00, bits ^ 0x0400, bits).astype(np.uint16)


def row_of(rng, kind):
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    n = COLUMNS // block
    if kind == T.F32:
        return rng.standard_normal(n).astype(np.float32).view(np.uint8)
    if kind == T.F16:
        return finite_halves(rng, n).view(np.uint8)
    if kind == T.BF16:
        bits = rng.integers(0, 1 << 16, n, dtype=np.uint16)
        return np.where(bits & 0x7F80 == 0x7F80, bits ^ 0x0080, bits).astype(np.uint16).view(np.uint8)
    blocks = rng.integers(0, 256, (n, block_bytes), dtype=np.uint8)
    for at in TYPES[kind]:
        blocks[:, at:at + 2] = finite_halves(rng, n).view(np.uint8).reshape(n, 2)
    return blocks.reshape(-1)


def main():
    rng = np.random.default_rng(20260101)
    with open(sys.argv[1], "wb") as out:
        for kind in TYPES:
            row = row_of(rng, kind)
            values = gguf.dequantize(row.reshape(1, -1), kind).reshape(-1).astype("<f4")
            assert values.size == COLUMNS and np.isfinite(values).all()
            out.write(np.array([kind, COLUMNS], "<u4").tobytes() + row.tobytes() + values.tobytes())


main()
