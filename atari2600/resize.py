"""OpenCV's area interpolation of 8-bit images, bit for bit: what ale-py resizes its screens with.

Three methods, as there: sums of float32 in a fixed order, rounded half to even; whole blocks of
pixels where both sizes divide; and, where an image grows, whole numbers with 11 bits of weight.
Nothing here may be reordered or fused (no fastmath). Facts measured against opencv-python and
ale-py; the tests do it again.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from atari2600.state import ROW_WORDS, WIDTH

Array = NDArray[Any]
AREA, BLOCKS, GROWING = range(3)
SMALLEST_WEIGHT = 1e-3  # inputs that overlap an output less are left out
TO_WHOLE = np.float32(12582912.0)  # 1.5 x 2^23: adding it rounds a float32 half to even
ONE = np.float32(2048)  # the weights' unit in a growing image


class Axis(NamedTuple):
    """Output j of an axis is the sum of weights[j, t] x input first[j] + t."""

    first: Array  # uint64 [size]
    weights: Array  # float32 [size, taps]


class Resizing(NamedTuple):
    """From [height, 160] to [rows, columns]."""

    method: Array  # int64 [1]
    rows: Axis
    columns: Axis
    outputs: Array  # int64 [ROW_WORDS, 2]: the columns that need a word: first, last + 1


class Lines(NamedTuple):
    """Working memory: the input's rows, resized to the output's width."""

    lines: Array  # float32 [height, columns], equal rows once
    line_of: Array  # int64 [height]: where an input row's line is


def resizing(height: int, rows: int, columns: int) -> Resizing:
    """How a screen of `height` rows becomes an image."""
    if rows > height or columns > WIDTH:
        method, axis = GROWING, growing_axis
    elif height % rows == 0 and WIDTH % columns == 0:
        method, axis = BLOCKS, area_axis
    else:
        method, axis = AREA, area_axis
    across = axis(WIDTH, columns)
    return Resizing(np.array([method]), axis(height, rows), across, outputs_of_words(across))


def lines_of(height: int, columns: int) -> Lines:
    return Lines(np.zeros((height, columns), np.float32), np.zeros(height, np.int64))


def area_axis(source: int, size: int) -> Axis:
    """Weights by the overlap of output cells with inputs."""
    cells = [area_cell(source, source / size, j) for j in range(size)]
    return axis_of(source, [first for first, _ in cells], [weights for _, weights in cells])


def area_cell(source: int, scale: float, j: int) -> tuple[int, list[float]]:
    """(first input, weights) of output j, which covers [j, j + 1) x scale."""
    begin, end = j * scale, j * scale + scale
    cell = min(scale, source - begin)
    whole_end = min(math.floor(end), source - 1)
    whole_begin = min(math.ceil(begin), whole_end)
    weights = [1.0 / cell] * (whole_end - whole_begin)
    first = whole_begin
    if whole_begin - begin > SMALLEST_WEIGHT:
        first -= 1
        weights.insert(0, (whole_begin - begin) / cell)
    if end - whole_end > SMALLEST_WEIGHT:
        weights.append(min(min(end - whole_end, 1.0), cell) / cell)
    return first, weights


def growing_axis(source: int, size: int) -> Axis:
    """Two inputs each: the second counts where an output reaches over the border between them."""
    first, weights = [], []
    for j in range(size):
        at = math.floor(j * (source / size))
        part = np.float32((j + 1) - (at + 1) * (size / source))
        part = part - np.floor(part) if part > 0 and at < source - 1 else np.float32(0)
        first.append(at)
        weights.append([float(np.round((1 - part) * ONE)), float(np.round(part * ONE))])
    return axis_of(source, first, weights)


def axis_of(source: int, first: list[int], weights: list[list[float]]) -> Axis:
    """An axis with equally many weights for all outputs, zeros where there are fewer.

    Zeros go behind, or before where the axis ends; either way the sum is the same float32.
    """
    taps = max(len(row) for row in weights)
    padded = np.zeros((len(first), taps), np.float32)
    for j, row in enumerate(weights):
        before = max(first[j] + taps - source, 0)
        first[j] -= before
        padded[j, before : before + len(row)] = row[: taps - before]
    return Axis(np.array(first, np.uint64), padded)


def outputs_of_words(columns: Axis) -> Array:
    """int64 [ROW_WORDS, 2]: the first output column that needs each word, and the last plus one."""
    first = columns.first.astype(np.int64)
    words = np.arange(ROW_WORDS)[:, None]
    needed = (first // 8 <= words) & (words <= (first + columns.weights.shape[1] - 1) // 8)
    size = len(first)
    begin = np.where(needed.any(1), needed.argmax(1), size)
    end = np.where(needed.any(1), size - needed[:, ::-1].argmax(1), 0)
    return np.stack([begin, end], 1).astype(np.int64)


@numba.njit(_nrt=False)
def resize(words, pixels, how, memory, result):  # type: ignore[no-untyped-def]
    """result [rows, columns] = the image `pixels` [height, 160], which is also `words`."""
    if how.method[0] == AREA:
        resize_rows(words, pixels, how, memory)
        for y in range(result.shape[0]):
            blend(how.rows, memory, result, y)
    elif how.method[0] == BLOCKS:
        add_blocks(pixels, result)
    else:
        grow(pixels, how.rows, how.columns, result)


@numba.njit(_nrt=False)
def resize_rows(words, pixels, how, memory):  # type: ignore[no-untyped-def]
    """Every input row to the output's width; what equals the row above is taken over from it."""
    lines, line_of = memory.lines, memory.line_of
    width = lines.shape[1]
    resize_part(pixels, how.columns, lines, 0, 0, np.int64(0), width)
    line = line_of[0] = np.int64(0)
    for y in range(1, words.shape[0]):
        changed = np.uint64(0)
        for k in range(ROW_WORDS):
            changed |= words[y, k] ^ words[y - 1, k]
        if changed != 0:
            line += 1
            for x in range(width):
                lines[line, x] = lines[line - 1, x]
            done = np.int64(0)
            for k in range(ROW_WORDS):
                if words[y, k] != words[y - 1, k]:
                    begin, end = max(done, how.outputs[k, 0]), how.outputs[k, 1]
                    resize_part(pixels, how.columns, lines, y, line, begin, end)
                    done = max(done, end)
        line_of[y] = line


@numba.njit(_nrt=False)
def resize_part(pixels, columns, lines, y, line, begin, end):  # type: ignore[no-untyped-def]
    """Columns begin to end of one row. Unsigned indices: Numba tests no sign then."""
    row, to = np.uint64(y), np.uint64(line)
    if columns.weights.shape[1] == 3:  # as for 84 columns
        for x in range(np.uint64(begin), np.uint64(end)):
            at = columns.first[x]
            total = columns.weights[x, 0] * np.float32(pixels[row, at])
            total += columns.weights[x, 1] * np.float32(pixels[row, at + np.uint64(1)])
            total += columns.weights[x, 2] * np.float32(pixels[row, at + np.uint64(2)])
            lines[to, x] = total
        return
    for x in range(np.uint64(begin), np.uint64(end)):
        total = np.float32(0)
        for t in range(columns.weights.shape[1]):
            at = columns.first[x] + np.uint64(t)
            total += columns.weights[x, t] * np.float32(pixels[row, at])
        lines[to, x] = total


@numba.njit(_nrt=False)
def blend(rows, memory, result, y):  # type: ignore[no-untyped-def]
    """Output row y from the lines of its inputs."""
    lines, line_of = memory.lines, memory.line_of
    taps, width = rows.weights.shape[1], result.shape[1]
    if y > 1 and same_cell(rows, line_of, y):
        for x in range(width):
            result[y, x] = result[y - 2, x]
    elif taps == 3:  # as for 84 rows of 210 or 250
        at = rows.first[y]
        a, b, c = line_of[at], line_of[at + np.uint64(1)], line_of[at + np.uint64(2)]
        p, q, r = rows.weights[y, 0], rows.weights[y, 1], rows.weights[y, 2]
        for x in range(width):
            total = p * lines[a, x] + q * lines[b, x] + r * lines[c, x]
            result[y, x] = np.uint8((total + TO_WHOLE) - TO_WHOLE)
    else:
        for x in range(width):
            total = np.float32(0)
            for t in range(taps):
                total += rows.weights[y, t] * lines[line_of[rows.first[y] + np.uint64(t)], x]
            result[y, x] = np.uint8((total + TO_WHOLE) - TO_WHOLE)


@numba.njit(_nrt=False)
def same_cell(rows, line_of, y):  # type: ignore[no-untyped-def]
    """Whether output row y and the one before the last are made of one line with equal weights.

    Not the last row: the weights of 84 rows of 210 alternate.
    """
    taps = rows.weights.shape[1]
    line = line_of[rows.first[y]]
    same = line_of[rows.first[y - 2]] == line
    same &= line_of[rows.first[y] + np.uint64(taps - 1)] == line
    for t in range(taps):
        same &= rows.weights[y, t] == rows.weights[y - 2, t]
    return same


@numba.njit(_nrt=False)
def add_blocks(pixels, result):  # type: ignore[no-untyped-def]
    """Means of blocks of pixels; those of 2 x 2 are rounded half up, others half to even."""
    height, width = pixels.shape[0] // result.shape[0], WIDTH // result.shape[1]
    share = np.float32(1.0 / (height * width))
    for y in range(result.shape[0]):
        for x in range(result.shape[1]):
            total = np.int64(0)
            for row in range(y * height, (y + 1) * height):
                for column in range(x * width, (x + 1) * width):
                    total += pixels[row, column]
            if height == 2 and width == 2:
                result[y, x] = (total + 2) >> 2
            else:
                result[y, x] = np.uint8((np.float32(total) * share + TO_WHOLE) - TO_WHOLE)


@numba.njit(_nrt=False)
def grow(pixels, rows, columns, result):  # type: ignore[no-untyped-def]
    """Between two rows and two columns, in whole numbers."""
    one = np.uint64(1)
    for y in range(result.shape[0]):
        top = rows.first[y]
        for x in range(result.shape[1]):
            left = columns.first[x]
            p, q = np.int64(columns.weights[x, 0]), np.int64(columns.weights[x, 1])
            upper = (p * pixels[top, left] + q * pixels[top, left + one]) >> 4
            lower = (p * pixels[top + one, left] + q * pixels[top + one, left + one]) >> 4
            above = np.int64(rows.weights[y, 0]) * upper >> 16
            below = np.int64(rows.weights[y, 1]) * lower >> 16
            result[y, x] = (above + below + 2) >> 2
