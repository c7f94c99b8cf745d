"""Policy: a trained network that acts on observations; load() finds one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from a3c.config import InputError
from a3c.devices import ToHost, pick_device, pick_precision
from a3c.envs.coding import Coding, Unreadable
from a3c.envs.gymnasium import GymnasiumEnvs
from a3c.envs.names import check_gymnasium_id
from a3c.envs.protocol import Spec
from a3c.games import chosen
from a3c.methods import make_method
from a3c.network import Network, State, flatten
from a3c.run import models
from a3c.run.checkpoint import Checkpoint


class Policy:
    """A trained policy. It remembers the LSTM's state between calls of `act`, if it has one."""

    def __init__(self, saved: Checkpoint, device: str = "auto", seed: int = 0):
        self.config, self.spec = saved.config, with_spaces(saved)
        self.coding = Coding(self.spec)
        self.device = pick_device(device)
        dtype = pick_precision(saved.config, self.device)
        self.network = Network(saved.config, self.spec, make_method(saved.config), dtype).to(
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

    def act(self, observations: Any, greedy: bool = False) -> Any:
        """An action for each of N agents, as the environment takes it; or one for one observation.

        observations: what the environment gives, [N, ...] of its observation space (of Atari's
        stacks the frames may come first or last), or one without N. Returns an array of the action
        space, [N, ...] or one without N. Raises InputError for what the environment cannot give,
        and for another number of agents than before where there is a state to remember.
        """
        batch, single = self.coding.batch(observations)
        try:
            array = self.coding.encode(batch)
        except Unreadable as error:
            raise InputError(f"cannot act on {error}") from None
        if self.state is not None and len(self.state[0]) != len(array):
            raise InputError(
                f"observations of {len(array)} agents; expected {len(self.state[0])}, whose past "
                "the policy remembers: reset() forgets it"
            )
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        if self.state is None:
            self.state = self.network.initial_state(len(array), self.device)
        (parameters, _), self.state = self.network(tensor, self.state)
        choices = chosen(self.network, parameters, self.generator, greedy)
        actions = self.coding.decode(ToHost(choices).read())
        if not single:
            return actions
        return actions[0] if self.spec.discrete else actions[0, ...]  # arrays of shape () as well


def with_spaces(saved: Checkpoint) -> Spec:
    """The Spec; of a checkpoint from before it had spaces, with those of the environment.

    Where that cannot be made here, or its observations are read in another way by now, the policy
    takes and gives what the network does.
    """
    spec = saved.spec
    if spec.stacked or spec.actions is not None:
        return spec
    try:
        check_gymnasium_id(saved.config.env)
        envs = GymnasiumEnvs(saved.config.env, 1)
        envs.close()
    except Exception:  # whatever a missing or changed environment raises
        return spec
    now = envs.spec
    if (now.discrete, now.num_actions) != (spec.discrete, spec.num_actions):
        return spec
    read_alike = now.observation_shape == spec.observation_shape and not envs.coding.scaling
    return replace(spec, actions=now.actions, observations=now.observations if read_alike else None)


def load(model_or_run: str | Path, device: str = "auto", seed: int = 0) -> Policy:
    """The policy of a game whose model ships, in a model file, or in a run's newest checkpoint.

    Raises InputError if there is none, or it is damaged.
    """
    return Policy(models.find(str(model_or_run)), device, seed)
