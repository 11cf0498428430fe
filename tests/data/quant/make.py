#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes the golden files of tests/kernels/test_quant.c with the gguf Python package.

needs: pip install gguf numpy

input.f32      1024 values: normal blocks, then odd ones (all zero, tiny, huge, largest last, ties)
FORMAT.bin     input.f32 as the package quantizes it
FORMAT.bits    random bits as packed data (so scales are any F16, infinity and NaN too)
FORMAT.f32     both of them dequantized by the package, FORMAT.bin first; for the K and IQ formats, which
               the package cannot quantize to, FORMAT.bits alone
"""
import os
import numpy as np
from gguf import GGMLQuantizationType as T, quants

HERE = os.path.dirname(os.path.abspath(__file__))
FORMATS = {
    "F16": (T.F16, 1, 2),
    "BF16": (T.BF16, 1, 2),
    "Q8_0": (T.Q8_0, 32, 34),
    "Q4_0": (T.Q4_0, 32, 18),
    "Q4_1": (T.Q4_1, 32, 20),
    "Q5_0": (T.Q5_0, 32, 22),
    "Q5_1": (T.Q5_1, 32, 24),
    "MXFP4": (T.MXFP4, 32, 17),
}
BITS_ONLY = {
    "Q2_K": (T.Q2_K, 256, 84),
    "Q3_K": (T.Q3_K, 256, 110),
    "Q4_K": (T.Q4_K, 256, 144),
    "Q5_K": (T.Q5_K, 256, 176),
    "Q6_K": (T.Q6_K, 256, 210),
    "IQ4_NL": (T.IQ4_NL, 32, 18),
    "IQ4_XS": (T.IQ4_XS, 256, 136),
}


def inputs():
    rng = np.random.default_rng(20)
    x = rng.normal(0, 0.05, (32, 32)).astype(np.float32)
    x[16] = 0
    x[17] = -0.0
    x[18] *= np.float32(1e-7)
    x[19] *= np.float32(1e-30)
    x[20] *= np.float32(1e5)
    x[21, 31] = 3.0
    x[22, 31] = -3.0
    x[23] = np.arange(32) - 16  # negative side is largest
    x[24] = np.arange(32) * 0.5 - 7.75  # halves of a step
    x[25] = 1.0
    x[26] = -1.0
    x[27, ::2] = -x[27, 1::2]
    x[28] = rng.integers(-127, 128, 32)
    x[28, 0] = 127
    x[29] = (rng.integers(-127, 127, 32) + 0.5).astype(np.float32)
    x[29, 0] = 127
    x[30] = 65504.0
    x[31, 0] = 65519.0
    return x


def write(name, array):
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(np.ascontiguousarray(array).tobytes())


def main():
    x = inputs()
    write("input.f32", x)
    for name, (kind, elems, size) in FORMATS.items():
        packed = np.ascontiguousarray(quants.quantize(x, kind)).view(np.uint8).reshape(-1)
        bits = np.random.default_rng(21).integers(0, 256, 1024 // elems * size, dtype=np.uint8)
        write(name + ".bin", packed)
        write(name + ".bits", bits)
        both = np.concatenate([packed, bits])
        with np.errstate(all="ignore"):
            typed = both.view(np.float16) if name == "F16" else both
            write(name + ".f32", quants.dequantize(typed, kind).astype(np.float32).reshape(-1))
    for name, (kind, elems, size) in BITS_ONLY.items():
        bits = np.random.default_rng(22).integers(0, 256, 2048 // elems * size, dtype=np.uint8)
        write(name + ".bits", bits)
        with np.errstate(all="ignore"):
            write(name + ".f32", quants.dequantize(bits, kind).astype(np.float32).reshape(-1))


main()
