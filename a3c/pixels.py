"""Pixels on a CPU: the background subtracted in one pass, where PyTorch takes three."""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor


def subtract(pixels: Tensor, background: Tensor, out: Tensor) -> Tensor:
    """out [N, ...] bfloat16 or float32 = uint8 [N, ...] - int16 [...], exactly; out: contiguous."""
    count = len(pixels)
    minuend, subtrahend = pixels.reshape(count, -1).numpy(), background.flatten().numpy()
    if out.dtype == torch.bfloat16:  # NumPy has none
        subtract_to_bfloat16(minuend, subtrahend, out.view(torch.int16).view(count, -1).numpy())
    else:
        subtract_to_float32(minuend, subtrahend, out.view(count, -1).numpy())
    return out


@numba.njit(nogil=True)
def subtract_to_bfloat16(minuend, subtrahend, out):  # type: ignore[no-untyped-def]
    """out int16: bits. They are the upper half of a float32's, whose lower half is zero here."""
    for i in range(minuend.shape[0]):
        for k in range(minuend.shape[1]):
            difference = np.float32(np.int32(minuend[i, k]) - np.int32(subtrahend[k]))
            out[i, k] = np.int16(difference.view(np.int32) >> 16)


@numba.njit(nogil=True)
def subtract_to_float32(minuend, subtrahend, out):  # type: ignore[no-untyped-def]
    for i in range(minuend.shape[0]):
        for k in range(minuend.shape[1]):
            out[i, k] = np.float32(np.int32(minuend[i, k]) - np.int32(subtrahend[k]))
