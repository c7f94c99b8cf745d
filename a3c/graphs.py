"""CUDA graphs: what a thread's device computes, recorded once and replayed with a single call.

A forward pass, or a loss with its gradients, is dozens to hundreds of kernels of a few microseconds
each. To launch them one by one takes Python longer than it takes the GPU to run them, and threads
wait for one another's Python. So each step of a rollout, and learning from it, becomes a CUDA
graph; in this module they are called graphs.

A recorded function finds everything where it was when it was recorded: it reads and writes the same
memory each time, and depends on no Python number that changes. Ours are so on every device, which a
test on the CPU watches; where there are no graphs, they are simply called.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import torch
from torch import Generator

from a3c.config import Config
from a3c.errors import InputError

LONGEST_ROLLOUT = 128  # agent steps, each of which has a graph of its own

Returned = TypeVar("Returned")


class Graphs:
    """What the graphs of one thread share: memory, and the generator that they draw from.

    They use one another's temporary memory, but not that of returned tensors which are still held.
    So what a graph returned is read before any earlier one is replayed.
    """

    def __init__(self, generator: Generator, wanted: bool):
        self.generator, self.wanted = generator, wanted
        self.memory = torch.cuda.graph_pool_handle() if wanted else None


class Graphed(Generic[Returned]):
    """A function, with a graph for each value of its arguments for which `record` was called.

    With a graph, what it returns lies in the same memory at each call.
    """

    def __init__(self, function: Callable[..., Returned]):
        self.function = function
        self.recorded: dict[tuple[Any, ...], tuple[torch.cuda.CUDAGraph, Returned]] = {}

    def __call__(self, *arguments: Any) -> Returned:
        if arguments not in self.recorded:
            return self.function(*arguments)
        graph, returned = self.recorded[arguments]
        graph.replay()
        return returned

    def record(self, graphs: Graphs, *arguments: Any) -> None:
        """On the current stream, which is not the default one. Nothing is computed.

        To be called before threads are at work: their launches would come between.
        """
        graph = torch.cuda.CUDAGraph()
        if torch.__version__ < "2.14":  # as versions; later a graph finds it, and the call warns
            graph.register_generator_state(graphs.generator)
        graph.capture_begin(graphs.memory, capture_error_mode="thread_local")
        try:
            returned = self.function(*arguments)
        except BaseException:
            with suppress(RuntimeError):  # of a recording that failed; why it did so counts
                graph.capture_end()
            raise
        graph.capture_end()
        self.recorded[arguments] = graph, returned


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
