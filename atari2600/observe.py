"""What an agent sees: the brighter of the last two frames, in grey or colour, resized.

Everything is exactly what ale-py's vector environment computes (OpenCV's area interpolation of
8-bit images in float32, rounding half to even), so sums must keep their order: no fastmath here.

The screens repeat themselves, from one line to the next and from one word of 8 pixels to the next;
both passes do work only where they do not, which is most of their speed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from atari2600.state import WIDTH

Array = NDArray[Any]
ROW_WORDS = WIDTH // 8  # a screen's row in words of 8 pixels
SMALLEST_WEIGHT = 1e-3  # OpenCV leaves out cells that overlap less
TO_WHOLE = np.float32(12582912.0)  # 1.5 x 2^23: adding it rounds a float32 half to even


class Axis(NamedTuple):
    """How an axis is resized: output j is the sum of `weights[j, k]` x input `first[j] + k`."""

    first: Array  # int32 [size]
    count: Array  # int32 [size]
    weights: Array  # float32 [size, most]


def area_axis(source: int, size: int) -> Axis:
    """OpenCV's area interpolation of `source` pixels to `size`."""
    scale = source / size
    cells = [area_cell(source, scale, j) for j in range(size)]
    most = max(len(weights) for _, weights in cells)
    padded = np.zeros((size, most), np.float32)
    for j, (_, weights) in enumerate(cells):
        padded[j, : len(weights)] = weights
    first = np.array([first for first, _ in cells], np.int32)
    return Axis(first, np.array([len(weights) for _, weights in cells], np.int32), padded)


def area_cell(source: int, scale: float, j: int) -> tuple[int, list[float]]:
    """(first input, weights) of output j: the overlaps of [j, j+1) x scale with each input."""
    begin, end = j * scale, j * scale + scale
    cell = min(scale, source - begin)
    whole_begin, whole_end = math.ceil(begin), min(math.floor(end), source - 1)
    whole_begin = min(whole_begin, whole_end)
    weights = [1.0 / cell] * (whole_end - whole_begin)
    first = whole_begin
    if whole_begin - begin > SMALLEST_WEIGHT:
        first -= 1
        weights.insert(0, (whole_begin - begin) / cell)
    if end - whole_end > SMALLEST_WEIGHT:
        weights.append(min(min(end - whole_end, 1.0), cell) / cell)
    return first, weights


def linear_axis(source: int, size: int) -> Axis:
    """What OpenCV's area interpolation does where an image grows: two inputs, weights of 2048.

    An input keeps its value over the outputs that lie in it, except where two inputs meet.
    """
    first = np.zeros(size, np.int32)
    weights = np.zeros((size, 2), np.float32)
    for j in range(size):
        begin = math.floor(j * (source / size))
        part = np.float32((j + 1) - (begin + 1) * (size / source))
        part = np.float32(part - np.floor(part)) if part > 0 else np.float32(0)
        if begin >= source - 1:
            begin, part = source - 1, np.float32(0)
        first[j] = begin
        weights[j] = np.round((1 - part) * np.float32(2048)), np.round(part * np.float32(2048))
    return Axis(first, np.full(size, 2, np.int32), weights)


def axes(height: int, width: int) -> tuple[int, Axis, Axis]:
    pass


def outputs_of_words(columns: Axis) -> Array:
    """int32 [ROW_WORDS, 2]: the first output column that needs a word, and the last plus one."""
    first_word = columns.first // 8
    last_word = (columns.first + columns.count - 1) // 8
    words = np.arange(ROW_WORDS)[:, None]
    needed = (first_word <= words) & (words <= last_word)  # [ROW_WORDS, size]
    begin = needed.argmax(1)
    end = needed.shape[1] - needed[:, ::-1].argmax(1)
    return np.stack([begin, end], 1).astype(np.int32)


@numba.njit(_nrt=False)
def pool(first, second, pooled, levels):  # type: ignore[no-untyped-def]
    """pooled = the brighter of two screens: words of colour codes in, words of levels out."""
    for row in range(0, first.shape[0], ROW_WORDS):
        if row > 0 and repeats(first, row) and repeats(second, row):
            for k in range(row, row + ROW_WORDS):
                pooled[k] = pooled[k - ROW_WORDS]
            continue
        a, b = ~first[row], second[row]
        word = np.uint64(0)
        for k in range(row, row + ROW_WORDS):
            if first[k] != a or second[k] != b:
                a, b = first[k], second[k]
                word = brighter(a, b, levels)
            pooled[k] = word


@numba.njit(_nrt=False)
def repeats(words, row):  # type: ignore[no-untyped-def]
    """Whether a row equals the one above it."""
    difference = np.uint64(0)
    for k in range(row, row + ROW_WORDS):
        difference |= words[k] ^ words[k - ROW_WORDS]
    return difference == 0


@numba.njit(_nrt=False)
def brighter(a, b, levels):  # type: ignore[no-untyped-def]
    """8 levels from two times 8 colour codes."""
    word = np.uint64(0)
    if a == b:
        for shift in range(0, 64, 8):
            code = (a >> np.uint64(shift)) & np.uint64(255)
            word |= np.uint64(levels[code]) << np.uint64(shift)
        return word
    for shift in range(0, 64, 8):
        one = levels[(a >> np.uint64(shift)) & np.uint64(255)]
        other = levels[(b >> np.uint64(shift)) & np.uint64(255)]
        word |= np.uint64(max(one, other)) << np.uint64(shift)
    return word


@numba.njit(_nrt=False)
def pool_more(screen, pooled, levels):  # type: ignore[no-untyped-def]
    """pooled = the brighter of what it was and a screen: at the end of an episode, so rarely."""
    for k in range(pooled.shape[0]):
        word = np.uint64(0)
        for shift in range(0, 64, 8):
            old = (pooled[k] >> np.uint64(shift)) & np.uint64(255)
            new = np.uint64(levels[(screen[k] >> np.uint64(shift)) & np.uint64(255)])
            word |= max(old, new) << np.uint64(shift)
        pooled[k] = word


@numba.njit(_nrt=False)
def resize(words, pixels, rows, columns, outputs, line, total, result):  # type: ignore[no-untyped-def]
    """result [rows x columns] = the image `pixels` (also as `words`), area-interpolated.

    `line` is the current input row, resized; only what differs from the row before is computed.
    """
    width, height = columns.first.shape[0], rows.first.shape[0]
    current = -1
    for y in range(height):
        for k in range(rows.count[y]):
            row = rows.first[y] + k
            if row != current:
                resize_row(words, pixels, row, current, columns, outputs, line)
                current = row
            weight = rows.weights[y, k]
            if k == 0:
                for x in range(width):
                    total[x] = weight * line[x]
            else:
                for x in range(width):
                    total[x] += weight * line[x]
        for x in range(width):
            result[y * width + x] = np.uint8((total[x] + TO_WHOLE) - TO_WHOLE)


@numba.njit(_nrt=False)
def resize_row(words, pixels, row, previous, columns, outputs, line):  # type: ignore[no-untyped-def]
    """line = input row `row` resized, given that it is row `previous` (-1: none) resized."""
    done = 0
    for k in range(ROW_WORDS):
        at = row * ROW_WORDS + k
        if previous >= 0 and words[at] == words[previous * ROW_WORDS + k]:
            continue
        for x in range(max(done, outputs[k, 0]), outputs[k, 1]):
            total = np.float32(0)
            first = row * WIDTH + columns.first[x]
            for t in range(columns.count[x]):
                total += columns.weights[x, t] * np.float32(pixels[first + t])
            line[x] = total
        done = outputs[k, 1]


@numba.njit(_nrt=False)
def push(stacks, i, image, depth, channels_last):  # type: ignore[no-untyped-def]
    """The newest image [channels, pixels] onto stack i, which drops its oldest.

    A stack is [depth, pixels, channels] or, with channels last, [pixels, depth x channels].
    """
    channels, pixels = image.shape
    if channels_last:
        size = depth * channels
        for pixel in range(pixels):
            at = pixel * size
            for k in range(size - channels):
                stacks[i, at + k] = stacks[i, at + k + channels]
            for channel in range(channels):
                stacks[i, at + size - channels + channel] = image[channel, pixel]
        return
    newest = (depth - 1) * pixels * channels
    for k in range(newest):
        stacks[i, k] = stacks[i, k + pixels * channels]
    for pixel in range(pixels):
        for channel in range(channels):
            stacks[i, newest + pixel * channels + channel] = image[channel, pixel]
