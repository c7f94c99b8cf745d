"""What an agent sees: the brighter of the last two frames, in grey or colour, stacked.

Screens repeat themselves, from one row to the next and from one word of 8 pixels to the next;
work is done only where they do not. Resizing is in resize.py.
"""

from __future__ import annotations

import numba
import numpy as np

from atari2600.state import ROW_WORDS


@numba.njit(_nrt=False)
def pool(first, second, pooled, levels):  # type: ignore[no-untyped-def]
    """pooled = the brighter of two screens: colour codes in, levels out, uint64 [rows, 20]."""
    for y in range(first.shape[0]):
        up = max(y - 1, 0)
        changed = np.uint64(y == 0)
        for k in range(ROW_WORDS):
            changed |= (first[y, k] ^ first[up, k]) | (second[y, k] ^ second[up, k])
        if changed == 0:
            for k in range(ROW_WORDS):
                pooled[y, k] = pooled[up, k]
        else:
            pool_row(first, second, pooled, levels, y, up)


@numba.njit(_nrt=False)
def pool_row(first, second, pooled, levels, y, up):  # type: ignore[no-untyped-def]
    """One row, given the row above it; the first row is its own `up`."""
    for k in range(ROW_WORDS):
        a, b = first[y, k], second[y, k]
        if up < y and a == first[up, k] and b == second[up, k]:
            pooled[y, k] = pooled[up, k]
        elif k > 0 and a == first[y, k - 1] and b == second[y, k - 1]:
            pooled[y, k] = pooled[y, k - 1]
        else:
            pooled[y, k] = brighter(a, b, levels)


@numba.njit(_nrt=False)
def brighter(a, b, levels):  # type: ignore[no-untyped-def]
    """8 levels from two times 8 colour codes."""
    word = np.uint64(0)
    if a == b:  # as mostly
        for byte in range(8):
            shift = np.uint64(8 * byte)
            word |= np.uint64(levels[(a >> shift) & np.uint64(255)]) << shift
        return word
    for byte in range(8):
        shift = np.uint64(8 * byte)
        one = levels[(a >> shift) & np.uint64(255)]
        other = levels[(b >> shift) & np.uint64(255)]
        word |= np.uint64(max(one, other)) << shift
    return word


@numba.njit(_nrt=False)
def pool_more(screen, pooled, levels):  # type: ignore[no-untyped-def]
    """pooled = the brighter of what it was and a screen: at the end of an episode, so rarely."""
    for y in range(pooled.shape[0]):
        for k in range(ROW_WORDS):
            old, word = pooled[y, k], np.uint64(0)
            for byte in range(8):
                shift = np.uint64(8 * byte)
                new = np.uint64(levels[(screen[y, k] >> shift) & np.uint64(255)])
                word |= max((old >> shift) & np.uint64(255), new) << shift
            pooled[y, k] = word


@numba.njit(_nrt=False)
def push(stacks, quads, i, image, depth, channels_last):  # type: ignore[no-untyped-def]
    """The newest image [channels, rows, columns] onto stack i, which drops its oldest.

    A stack is [depth, pixels, channels] or, with channels last, [pixels, depth x channels].
    """
    channels = image.shape[0]
    if channels_last and depth * channels == 4 and channels == 1:
        push_quads(quads, i, image[0])
    elif channels_last:
        push_last(stacks, i, image, depth)
    else:
        push_first(stacks, i, image, depth)


@numba.njit(_nrt=False)
def push_first(stacks, i, image, depth):  # type: ignore[no-untyped-def]
    """[depth, pixels, channels]. Plane by plane: such copies do not overlap, and so are fast."""
    channels, height, width = image.shape
    plane = height * width * channels
    for old in range(depth - 1):
        for k in range(plane):
            stacks[i, old * plane + k] = stacks[i, (old + 1) * plane + k]
    newest = (depth - 1) * plane
    for y in range(height):
        for channel in range(channels):
            at = newest + y * width * channels + channel
            if channels == 1:
                for x in range(width):
                    stacks[i, at + x] = image[0, y, x]
            else:
                for x in range(width):
                    stacks[i, at + x * channels] = image[channel, y, x]


@numba.njit(_nrt=False)
def push_last(stacks, i, image, depth):  # type: ignore[no-untyped-def]
    """[pixels, depth x channels]: each pixel's bytes move down, and the newest come behind."""
    channels, height, width = image.shape
    size = depth * channels
    for k in range(stacks.shape[1] - channels):
        stacks[i, k] = stacks[i, k + channels]
    for y in range(height):
        for channel in range(channels):
            at = (y * width + 1) * size - channels + channel
            for x in range(width):
                stacks[i, at + x * size] = image[channel, y, x]


@numba.njit(_nrt=False)
def push_quads(quads, i, image):  # type: ignore[no-untyped-def]
    """The common case of a pixel's four grey levels, oldest first: one word (little-endian)."""
    width = image.shape[1]
    for y in range(image.shape[0]):
        for x in range(width):
            old = np.uint32(quads[i, y * width + x])
            quads[i, y * width + x] = old >> np.uint32(8) | np.uint32(image[y, x]) << np.uint32(24)
