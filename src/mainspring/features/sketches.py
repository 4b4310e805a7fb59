"""Sketches: HyperLogLog for how many different values there are, DDSketch for quantiles.

Both are whole numbers only (registers, counts of buckets), so that live and replay agree bit for bit in any order.

HyperLogLog: 4,096 registers over a 64-bit hash, standard error 1.04 / √4096 = 1.6 %. The estimate is Ertl's improved
one (New cardinality estimation algorithms for HyperLogLog sketches, arXiv:1702.01284, algorithm 6), which is unbiased
from nothing to 2^52 without corrections from tables and without a switch to linear counting; it is rounded to a whole
number.

DDSketch (Masson, Rim, Lee: DDSketch, VLDB 2019) with the linearly interpolated mapping: 64 buckets between two powers
of two, taken from the bits of the float64, so that no logarithm can round differently elsewhere. The answer is the
harmonic middle of the bucket, at most 1/129 = 0.78 % from every value in it. What is nearer to zero than 2^-1022 counts
as zero. Buckets are never merged, so the bound holds at every quantile.
"""

from __future__ import annotations

import math

import numpy as np

from mainspring.features.compiled import compiled

REGISTERS = 4096
RANKS = 54  # a register holds 0 to 53
_MAGNITUDE = (1 << 63) - 1
_NORMAL = 1 << 52  # bits of the smallest normal number
_BUCKET_BITS = 46  # of the 52 bits of a fraction, those that a bucket leaves open


@compiled("int64(int64)", allocates=False)
def bucket_of(bits: int) -> int:
    """Bucket of the float64 with these bits: positive, negative, or 0 for zero; buckets rise as values do."""
    magnitude = bits & _MAGNITUDE
    if magnitude < _NORMAL:
        return 0
    bucket = magnitude >> _BUCKET_BITS
    return -bucket if bits < 0 else bucket


@compiled("float64(int64)", allocates=False)
def value_of(bucket: int) -> float:
    """What stands for the values in a bucket: 2ab / (a + b) for a bucket from a to b."""
    if bucket == 0:
        return 0.0
    size = abs(bucket)
    m = float(64 + (size & 63))
    value = math.ldexp(2.0 * m * (m + 1.0) / (2.0 * m + 1.0), (size >> 6) - 1023 - 6)
    return -value if bucket < 0 else value


@compiled("int64(float64, int64)", allocates=False)
def rank_of(q: float, n: int) -> int:
    """Place of the ``q`` quantile among ``n`` sorted values, from 0: floor(q · (n − 1)), as DDSketch defines it."""
    return min(n - 1, int(np.floor(q * float(n - 1))))


@compiled("int64(int64)", allocates=False)
def register_of(bits: int) -> int:
    """Register and rank of a value: 64 · register + rank.

    The hash is the finaliser of MurmurHash3 (Appleby) over the value's bits, which is one to one.
    """
    h = np.uint64(bits) ^ np.uint64(0x9E3779B97F4A7C15)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    h = (h ^ (h >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    h ^= h >> np.uint64(33)
    rest = h & np.uint64((1 << 52) - 1)
    rank = 1
    half = np.uint64(1 << 51)
    while rank < RANKS - 1 and rest & half == np.uint64(0):
        rank += 1
        half = half >> np.uint64(1)
    return int(np.int64(h >> np.uint64(52)) * 64 + rank)


@compiled("float64(float64)", allocates=False)
def _sigma(x: float) -> float:
    """Of x, x + Σ x^(2^k) · 2^(k − 1), for registers that are still empty."""
    y, z, before = 1.0, x, -1.0
    while z != before:
        x *= x
        before = z
        z += x * y
        y += y
    return z


@compiled("float64(float64)", allocates=False)
def _tau(x: float) -> float:
    """(1 − x − Σ (1 − x^(2^-k))² · 2^-k) / 3, for registers that are full."""
    if x in (0.0, 1.0):
        return 0.0
    y, z, before = 1.0, 1.0 - x, -1.0
    while z != before:
        x = math.sqrt(x)
        before = z
        y *= 0.5
        z -= (1.0 - x) ** 2 * y
    return z / 3.0


@compiled("float64(int64[::1])", allocates=False)
def cardinality(ranks: np.ndarray) -> float:
    """How many different values there are, from the number of registers that hold each rank: int64[RANKS]."""
    m = float(REGISTERS)
    z = m * _tau(1.0 - float(ranks[RANKS - 1]) / m)
    for rank in range(RANKS - 2, 0, -1):
        z = 0.5 * (z + float(ranks[rank]))
    empty = float(ranks[0]) / m
    if empty == 1.0:
        return 0.0
    z += m * _sigma(empty)
    return float(np.floor(m * m / (2.0 * math.log(2.0) * z) + 0.5))
