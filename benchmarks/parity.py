"""Rollouts and updates that a GPU must compute as a CPU does: the part `parity` of gpu.py.

The environments were prepared in advance and the actions are without chance, so that all that can
differ is arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Generator, Tensor

from a3c.config import Config
from a3c.devices import pick_device, pick_devices
from a3c.envs.on_device import OnDevice
from a3c.envs.protocol import Array, NumpyStep, Spec
from a3c.heads import Outputs
from a3c.methods import A3C
from a3c.metrics import Metrics
from a3c.network import Network
from a3c.node import Node
from a3c.presets import preset
from benchmarks.rows import Row
from benchmarks.tables import Lines, header, line, verdict

CLOSE = 1e-4  # relative error of gradients in float32
ENDS = 0.2  # of an agent's steps, of each kind of end
ROLLOUTS = 3  # prepared: the first has truncations, and is learned from without a CUDA graph


class Extent(NamedTuple):
    """How much is computed."""

    agents: int
    rollout_length: int
    updates: int


class Prepared:
    """NumpyEnvs whose observations and ends were drawn in advance; rewards follow from the actions.

    `actions`: what was brought to them. alike: all agents see and get the same. truncating: at
    these first steps alone episodes may be truncated, and one is.
    """

    def __init__(
        self,
        spec: Spec,
        num_envs: int,
        moments: int,
        ends: float,
        alike: bool = False,
        truncating: int = 0,
    ):
        self.spec, self.num_envs, self.moments, self.t = spec, num_envs, moments, 0
        random, agents = np.random.default_rng(1), 1 if alike else num_envs
        seen = spec.observation_shape[: 2 if spec.stacked else None]  # the newest frame alone
        shape = moments, agents, *seen
        drawn = (
            random.integers(0, 256, shape, np.uint8) if spec.pixels else random.normal(size=shape)
        )
        happened = random.random((3, moments, agents)) < ends  # terminated, truncated, lives lost
        happened[1, truncating + 1 :] = happened[1, 0] = False  # moment 0 comes last
        happened[0, 1, 0], happened[1, 1, 0] = False, truncating > 0
        self.observations = spread(drawn.astype(np.uint8 if spec.pixels else np.float32), num_envs)
        self.terminated, self.truncated, self.life_lost = (spread(x, num_envs) for x in happened)
        self.remembers = ends > 0  # where nothing ends only the time counts
        self.actions: list[Array] = []

    def reset(self, seed: int) -> Array:
        self.t = 0
        return self.observations[0]

    def step(self, actions: Array) -> NumpyStep:
        if self.remembers:
            self.actions.append(actions.copy())
        self.t = t = (self.t + 1) % self.moments
        terminated = self.terminated[t]
        truncated = self.truncated[t] & ~terminated
        rewards = (actions.reshape(self.num_envs, -1).sum(1) + t) % 3 - 1
        final = self.observations[t - 1] if (terminated | truncated).any() else None
        return NumpyStep(
            self.observations[t],
            rewards.astype(np.float32),
            terminated,
            truncated,
            self.life_lost[t] & ~terminated & ~truncated,
            final,
        )

    def save_state(self) -> dict[str, Array] | None:
        return None

    def load_state(self, state: dict[str, Array]) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass


def spread(moments: Array, num_envs: int) -> Array:
    """[T, 1, ...] -> [T, N, ...]; as it is where there are N."""
    return moments if moments.shape[1] == num_envs else moments.repeat(num_envs, 1)


class Likeliest(A3C):
    """Acts without chance: the devices' random numbers differ."""

    def act(self, network: Network, outputs: Outputs, generator: Generator) -> Tensor:
        return network.heads.policy.mode(outputs[0])


@contextmanager
def node_of(
    config: Config, make: Callable[..., Prepared] | None, method: type[A3C] = A3C
) -> Iterator[Node]:
    """A node that is ready to start; in place of its environments what `make` makes of a number."""
    changed: dict[str, Any] = {"make_method": method}
    if make is not None:
        changed["make_envs"] = lambda _, agents, device: OnDevice(make(agents), device)
        changed["check_memory"] = lambda *_: None  # of environments that are not there
    torch.set_num_threads(1)  # as train() has it
    with mock.patch.multiple("a3c.node", **changed):
        node = Node(config, pick_devices(config.device), Metrics(config.mean_frame_skip))
        node.begin()
    try:
        yield node
    finally:
        node.stop()
        node.join()
        node.close()


class Played(NamedTuple):
    """What came of the same rollouts and updates."""

    actions: Array  # [T, N, ...] of all rollouts
    gradients: Tensor  # float64 [updates, P]


# With a large epsilon a step is the gradient times the learning rate, and so large that it can be
# read off the parameters: whatever way they took there
READABLE: dict[str, Any] = {
    "lr": 100.0, "lr_schedule": "constant", "rmsprop_initial": 0.0, "rmsprop_eps": 1.0,
    "rmsprop_decay": 0.99, "max_grad_norm": 1e9, "precision": "float32", "num_threads": 1,
}  # fmt: skip


def parity(network: str, head: str, device: str, extent: Extent) -> Row:
    """The CPU's gradients against the device's, with and without graphs."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
    expected = played(network, head, "cpu", "off", extent)
    found = {mode: played(network, head, device, mode, extent) for mode in modes(device)}
    row: Row = {mode: difference(expected, each) for mode, each in found.items()}
    if "on" in found:
        row["on against off"] = difference(found["off"], found["on"])
    same = row.get("on against off", 0.0) == 0  # bit by bit
    return row | {"ok": same and all(error < CLOSE for error in row.values())}


def modes(device: str) -> tuple[str, ...]:
    """Of graphs, on that device."""
    return ("off", "on") if pick_device(device).type == "cuda" else ("off",)


def played(network: str, head: str, device: str, mode: str, extent: Extent) -> Played:
    """A few rollouts and updates of a thread, each from the same parameters."""
    config = config_of_parity(network, head, device, mode, extent)
    made: list[Prepared] = []
    gradients: list[Tensor] = []

    def make(agents: int) -> Prepared:
        made.append(prepared(network, head, agents, extent))
        return made[-1]

    with node_of(config, make, Likeliest) as node:
        initial = node.store.parameters.clone()

        def look(_: int) -> None:
            gradients.append((initial - node.store.parameters).cpu().double())
            node.store.parameters.copy_(initial)

        node.store.in_update = look
        run_to_its_end(node)
    return Played(np.stack(made[0].actions), torch.stack(gradients))


def prepared(network: str, head: str, agents: int, extent: Extent) -> Prepared:
    """Environments of which one rollout in ROLLOUTS has truncations: no CUDA graph fits those, and
    what is learned with one and without is compared."""
    spec, length = spec_of_parity(network, head), extent.rollout_length
    alike = head == "minibatches"
    return Prepared(spec, agents, ROLLOUTS * length, ENDS, alike, truncating=length)


def config_of_parity(network: str, head: str, device: str, mode: str, extent: Extent) -> Config:
    grouped, vectors = head == "minibatches", network == "mlp"
    return preset(
        "fast",
        env="CartPole-v1" if vectors else "breakout",
        network=network,
        num_envs=extent.agents,
        rollout_length=extent.rollout_length,
        total_agent_steps=extent.agents * extent.rollout_length * extent.updates,
        minibatches=2 if grouped else 1,
        grow=False,
        correction="vtrace" if grouped else "none",
        recurrent=head == "recurrent",
        std="dependent" if head == "dependent std" else "independent",
        device=device,
        **READABLE,
        cuda_graphs=mode if device != "cpu" else "off",
    )


def spec_of_parity(network: str, head: str) -> Spec:
    """Pixels or vectors, discrete or continuous actions."""
    pixels = network != "mlp"
    return Spec((84, 84, 4) if pixels else (6,), pixels, pixels, "std" not in head, 4)


def run_to_its_end(node: Node) -> None:
    node.start()
    node.join()
    if node.failures:
        raise node.failures[0]


def difference(one: Played, other: Played) -> float:
    """The largest relative error of an update's gradient; infinite where actions differ."""
    if one.actions.dtype.kind == "i" and not np.array_equal(one.actions, other.actions):
        return float("inf")
    errors = (one.gradients - other.gradients).norm(dim=1) / one.gradients.norm(dim=1)
    return float(errors.max())


def parity_table(rows: dict[str, Row]) -> Lines:
    """In float32 without TF32; the worst of all updates."""
    kinds = ["off", "on", "on against off"]
    yield from header(["network, head", "graphs off", "graphs on", "on against off", ""], "lrrrl")
    for name, row in rows.items():
        cells = [f"{row[kind]:.1e}" if kind in row else "-" for kind in kinds]
        yield line([name, *cells, verdict(row)])
