"""The Mersenne Twister mt19937 in Numba: std::mt19937 and NumPy's legacy seeding, exactly.

Every machine has three of them, as ALE has: `generators[i, WHICH]` is a row of 624 words and the
position of the next one (Matsumoto and Nishimura, "Mersenne Twister", ACM TOMACS 8(1), 1998).
"""

from __future__ import annotations

import numba
import numpy as np

# NumPy's scalars, for the reason that ale.py gives
ENVIRONMENT = np.int64(0)  # sticky actions: two draws a frame
WRAPPER = np.int64(1)  # AtariVectorEnv's: no-op starts, and drawn frame skips
SYSTEM = np.int64(2)  # the console's: RAM at power-on, timer at every system reset
GENERATORS = 3

LENGTH, MIDDLE = 624, 397
POSITION = LENGTH
WORDS = LENGTH + 1
LOW = 0xFFFFFFFF
REJECTIONS = 64  # in a row: so no draw goes on for ever, not even of a generator of zeros


@numba.njit(_nrt=False)
def seed(generators, i, which, value):  # type: ignore[no-untyped-def]
    """Restart generator `which` of machine i; of `value` the low 32 bits count."""
    word = np.uint64(value) & np.uint64(LOW)
    for k in range(LENGTH):
        generators[i, which, k] = word
        mixed = np.uint64(1812433253) * (word ^ (word >> np.uint64(30)))
        word = (mixed + np.uint64(k + 1)) & np.uint64(LOW)
    generators[i, which, POSITION] = LENGTH


@numba.njit(_nrt=False)
def twist(generators, i, which):  # type: ignore[no-untyped-def]
    """The next 624 words from the last ones."""
    for k in range(LENGTH):
        following = generators[i, which, k + 1 if k < LENGTH - 1 else 0]
        far = generators[i, which, k + MIDDLE if k < LENGTH - MIDDLE else k + MIDDLE - LENGTH]
        joined = np.uint32(generators[i, which, k] & 0x80000000) | np.uint32(following & 0x7FFFFFFF)
        word = np.uint32(far) ^ np.uint32(joined >> 1)
        if following & 1:
            word ^= np.uint32(0x9908B0DF)
        generators[i, which, k] = word
    generators[i, which, POSITION] = 0


@numba.njit(_nrt=False)
def draw(generators, i, which):  # type: ignore[no-untyped-def]
    """The next 32 bits of generator `which` of machine i, as an int64."""
    if generators[i, which, POSITION] >= LENGTH:
        twist(generators, i, which)
    at = generators[i, which, POSITION]
    generators[i, which, POSITION] = at + 1
    word = np.int64(generators[i, which, at])
    word ^= word >> 11
    word ^= (word << 7) & 0x9D2C5680
    word ^= (word << 15) & 0xEFC60000
    word ^= word >> 18
    return word & LOW


@numba.njit(_nrt=False)
def draw_below(generators, i, which, bound):  # type: ignore[no-untyped-def]
    """A uniform whole number in [0, bound) by multiplication, without a bias.

    Lemire, "Fast Random Integer Generation in an Interval" (2019), as Linux's C++ library does it:
    where the low half of the product is below 2^32 mod bound, draw again; at most REJECTIONS times,
    which a seeded generator comes to in less than one of 2^64 cases, whatever the bound.
    """
    product = draw(generators, i, which) * bound
    for _ in range(REJECTIONS):
        if product & LOW >= (LOW + 1) % bound:
            break
        product = draw(generators, i, which) * bound
    return product >> 32
