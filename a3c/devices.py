"""Which device to compute on, and in which precision."""

from __future__ import annotations

import torch

from a3c.config import Config, InputError


def pick_device(name: str) -> torch.device:
    """auto: the first CUDA device, else the CPU. Raises InputError for one that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (kind == "cpu" and index) or (index and not index.isdigit()):
        raise InputError(f"--device is {name!r}; expected auto, cpu, cuda or cuda:0")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device is {name!r}, but torch finds no CUDA device; try --device cpu")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"--device is {name!r}; expected cuda:0 to cuda:{torch.cuda.device_count() - 1}"
        )
    return torch.device(name)


def pick_precision(config: Config, device: torch.device) -> torch.dtype:
    """The torso's arithmetic. bfloat16 where the hardware multiplies it, else it is slower."""
    if config.precision != "auto":
        return getattr(torch, config.precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    return torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32


def cpu_multiplies_bfloat16() -> bool:
    """AMX or AVX512-BF16. (Not public in torch 2.11, which has no `get_capabilities`.)"""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
