"""CUDA graphs: what a thread's device computes, recorded once and replayed with a single call.

A forward pass, or a loss with its gradients, is dozens to hundreds of kernels of a few microseconds
each. To launch them one by one takes Python longer than it takes the GPU to run them, and threads
wait for one another's Python. So each step of a rollout, and learning from it, becomes a graph.

A recorded function finds everything where it was when it was recorded: it reads and writes the same
memory each time, and depends on no Python number that changes. Ours are so on every device, which a
test on the CPU watches; where there are no graphs, they are simply called.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Generator

from a3c.config import Config, InputError

LONGEST_ROLLOUT = 128  # agent steps, each of which has a graph of its own
RECORDING = threading.Lock()  # one thread at a time

Returned = TypeVar("Returned")


class Graphs:
    """Those of one thread, for the stream that is current there; they draw from `generator`.

    Their memory is shared, so they must be replayed in the order in which they were recorded. They
    are, if all are recorded in the course of one rollout: the thread sets `recording` when it has
    been through a whole one, in which libraries chose their kernels.
    """

    def __init__(self, generator: Generator, wanted: bool):
        self.generator, self.wanted = generator, wanted
        self.memory = torch.cuda.graph_pool_handle() if wanted else None
        self.recording = False

    def of(self, function: Callable[..., Returned]) -> Callable[..., Returned]:
        """The function, with a graph for each value of its arguments, which are hashable.

        What it returns lies in the same memory at the next call.
        """
        graphs: dict[tuple[Any, ...], tuple[torch.cuda.CUDAGraph, Returned]] = {}

        def replayed(*arguments: Any) -> Returned:
            if not (self.wanted and self.recording):
                return function(*arguments)
            if arguments not in graphs:
                graphs[arguments] = self.record(function, arguments)
            graph, returned = graphs[arguments]
            graph.replay()
            return returned

        return replayed

    def record(
        self, function: Callable[..., Returned], arguments: tuple[Any, ...]
    ) -> tuple[torch.cuda.CUDAGraph, Returned]:
        """Nothing is computed yet. Other threads go on, as far as they do not record."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with RECORDING:
            graph.capture_begin(self.memory, capture_error_mode="thread_local")
            try:
                returned = function(*arguments)
            finally:
                graph.capture_end()
        return graph, returned


def wants_graphs(config: Config, device: torch.device) -> bool:
    """Whether a run records graphs. Raises InputError where they cannot be had as asked."""
    fits = config.rollout_length <= LONGEST_ROLLOUT
    if config.cuda_graphs != "on":
        return config.cuda_graphs == "auto" and device.type == "cuda" and fits
    if device.type != "cuda":
        raise InputError(f"--cuda-graphs is 'on', but the device is {device}; expected auto or off")
    if not fits:
        raise InputError(
            f"--cuda-graphs is 'on' with --rollout-length {config.rollout_length}; expected at "
            f"most {LONGEST_ROLLOUT}, or auto or off"
        )
    return True
