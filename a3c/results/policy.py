"""Policy: a trained network that acts on observations; load() finds one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a3c.checkpoint import Checkpoint
from a3c.config import InputError
from a3c.devices import ToHost, pick_device, pick_precision
from a3c.methods import make_method
from a3c.network import Network, State, flatten
from a3c.results import models

Array = NDArray[Any]


class Policy:
    """A trained policy. It remembers the LSTM's state between calls of `act`, if it has one."""

    def __init__(self, saved: Checkpoint, device: str = "auto", seed: int = 0):
        self.config, self.spec = saved.config, saved.spec
        self.device = pick_device(device)
        dtype = pick_precision(saved.config, self.device)
        self.network = Network(saved.config, saved.spec, make_method(saved.config), dtype).to(
            self.device
        )
        parameters, _ = flatten(self.network)
        parameters.copy_(saved.tensors["parameters"])
        self.network.requires_grad_(False)
        self.network.prepare()
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.state: State | None = None

    def reset(self) -> None:
        """Forget the LSTM's state: the next `act` is the first of new episodes."""
        self.state = None

    def act(self, observations: Array, greedy: bool = False) -> Array:
        """Actions for N agents: int64 [N], or float32 [N, A] for continuous actions.

        observations: [N, 84, 84, 4] or [N, 4, 84, 84] uint8 for Atari, the newest frame last;
        [N, D] floats for vectors. Raises InputError for another shape.
        """
        shape = self.spec.observation_shape
        array = np.asarray(observations)
        if self.spec.stacked and array.shape[1:] == (shape[2], *shape[:2]):
            array = np.moveaxis(array, 1, -1)
        if array.shape[1:] != shape:
            expected = ", ".join(str(size) for size in shape)
            raise InputError(f"observations are {list(array.shape)}; expected [N, {expected}]")
        array = np.ascontiguousarray(array, np.uint8 if self.spec.pixels else np.float32)
        tensor = torch.from_numpy(array).to(self.device)
        if self.state is None:
            self.state = self.network.initial_state(len(array), self.device)
        (parameters, _), self.state = self.network(tensor, self.state)
        return ToHost(self.choose(parameters, greedy)).read()

    def choose(self, parameters: Tensor, greedy: bool) -> Tensor:
        """Actions [N] or [N, A] from the distributions' parameters [N, A or 2A]."""
        head = self.network.heads.policy
        return head.mode(parameters) if greedy else head.sample(parameters, self.generator)


def load(model_or_run: str | Path, device: str = "auto", seed: int = 0) -> Policy:
    """The policy of a game whose model ships, in a model file, or in a run's newest checkpoint.

    Raises InputError if there is none, or it is damaged.
    """
    return Policy(models.find(str(model_or_run)), device, seed)
