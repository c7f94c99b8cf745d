"""Policy: a trained network that acts on observations; load() finds one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from a3c.devices import ToHost, pick_device, pick_precision, without_tf32
from a3c.envs.coding import Coding, Unreadable
from a3c.envs.gymnasium import GymnasiumEnvs
from a3c.envs.names import check_gymnasium_id
from a3c.envs.protocol import Array, Spec
from a3c.errors import InputError
from a3c.games import chosen, usual_epsilon, with_random
from a3c.methods import make_method
from a3c.network import Network, State, flatten
from a3c.run import models
from a3c.run.checkpoint import Checkpoint
from a3c.run.start import check_parameters


class Policy:
    """A trained policy. It remembers the LSTM's state between calls of `act`, if it has one."""

    def __init__(self, saved: Checkpoint, device: str = "auto", seed: int = 0):
        self.config, self.spec = saved.config, with_spaces(saved)
        self.coding = Coding(self.spec)
        self.device = pick_device(device)
        if self.device.type == "cuda":
            without_tf32()  # as in training, also where the caller trains nothing
        dtype = pick_precision(saved.config, self.device)
        self.network = Network(saved.config, self.spec, make_method(saved.config), dtype).to(
            self.device
        )
        parameters, _ = flatten(self.network)
        check_parameters(parameters, saved)
        parameters.copy_(saved.tensors["parameters"])
        self.network.requires_grad_(False)
        self.network.prepare()
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.random = np.random.default_rng(seed)
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
        array, single = self._read(observations)
        if self.state is not None and len(self.state[0]) != len(array):
            raise InputError(
                f"observations of {len(array)} agents; expected {len(self.state[0])}, whose past "
                "the policy remembers: reset() forgets it"
            )
        if self.state is None:
            self.state = self.network.initial_state(len(array), self.device)
        actions, self.state = self._choose(array, self.state, greedy)
        return self._one(actions) if single else actions

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[Any, tuple[Array, ...] | None]:
        """`act` as stable-baselines3 spells it, so that its `evaluate_policy` takes a policy.

        observation and deterministic are `act`'s observations and greedy. state: what the call
        before returned, None at first. episode_start: bool [N], where an episode begins and the
        state does not count. Returns actions, as `act` does, and the state after them: hidden and
        cell of an LSTM, float32 [N, cells] each, else None. What `act` remembers plays no
        part. Raises InputError as `act` does, and for what is no such state or episode_start.
        """
        array, single = self._read(observation)
        before = self.network.initial_state(len(array), self.device)
        if before is not None and state is not None:
            put_state(before, state, episode_start)
        actions, after = self._choose(array, before, deterministic)
        kept = None if after is None else tuple(ToHost(part).read() for part in after)
        return self._one(actions) if single else actions, kept

    def _read(self, observations: Any) -> tuple[Array, bool]:
        """Observations as the network reads them, [N, ...], and whether it was one without N."""
        batch, single = self.coding.batch(observations)
        try:
            return self.coding.encode(batch), single
        except Unreadable as error:
            raise InputError(f"cannot act on {error}") from None

    def _choose(
        self, array: Array, state: State | None, greedy: bool
    ) -> tuple[Array, State | None]:
        """Actions [N, ...] as the environment takes them, and the LSTM's next state."""
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
        outputs, state = self.network(tensor, state)
        choices = chosen(self.network, outputs[0], self.generator, greedy)
        epsilon = 0.0 if greedy else usual_epsilon(self.config, self.spec, greedy)
        choices = with_random(choices, epsilon, self.spec, self.random)
        return self.coding.decode(ToHost(choices).read()), state

    def _one(self, actions: Array) -> Any:
        """The first action, without N."""
        return actions[0] if self.spec.discrete else actions[0, ...]  # arrays of shape () as well


def put_state(into: State, state: Any, episode_start: Any) -> None:
    """Write a state of `predict` into zeros [N, L cells], but not where an episode begins.

    Raises InputError for arrays of other shapes.
    """
    agents, cells = into[0].shape
    parts, starts = arrays(state, np.float32), arrays([episode_start], bool)
    if [part.shape for part in parts] != [(agents, cells)] * 2:
        raise InputError(
            f"state has {shapes(parts)}; expected two arrays [{agents}, {cells}], as predict has "
            f"returned them for {agents} agents"
        )
    if episode_start is not None and [start.size for start in starts] != [agents]:
        raise InputError(f"episode_start has {shapes(starts)}; expected one array [{agents}]")
    for zeros, part in zip(into, parts, strict=True):
        zeros.copy_(torch.from_numpy(part))
        if episode_start is not None:
            zeros[torch.from_numpy(starts[0].reshape(agents)).to(zeros.device)] = 0


def arrays(parts: Any, dtype: Any) -> list[Array]:
    """Of anything that holds numbers; none of what does not."""
    try:
        return [np.array(part, dtype) for part in parts]
    except (TypeError, ValueError):
        return []


def shapes(parts: list[Array]) -> str:
    """For a complaint."""
    return ", ".join(str(list(part.shape)) for part in parts) or "no arrays of numbers"


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
