"""The host waits for a device once for each agent step, and once for each rollout; nowhere else.

On the CPU nothing waits, so a stand-in counts: within an update, every operation that would bring
something from a device to the host must happen inside `ToHost.read`.
"""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

import a3c
from a3c import devices, torsos
from a3c.actor_learner import ActorLearner
from a3c.config import Config
from a3c.devices import ToHost
from a3c.games import EvaluationProtocol, make_games, play_episodes
from a3c.metrics import Metrics
from a3c.node import Node
from a3c.presets import preset
from tests.playable import HalfNeverEnds, Playable, model_of

# What a tensor's content is read by, or its shape depends on
WAITS = {
    "item", "tolist", "numpy", "cpu", "nonzero", "masked_select", "unique", "equal", "allclose",
    "is_nonzero", "__bool__", "__float__", "__int__", "__index__", "__array__", "__contains__",
}  # fmt: skip


class Watch(TorchFunctionMode):
    """Collects the lines of this project at which the host would have waited for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        indexed = name == "__getitem__" and is_mask(args[1])
        moved = name == "to" and "cpu" in str(args[1:]) + str(kwargs)
        if name in WAITS or indexed or moved:
            stack = traceback.extract_stack()[:-1]
            own = [frame for frame in stack if "/a3c/" in frame.filename]
            if not any(frame.name == "read" and "devices" in frame.filename for frame in own):
                self.lines.append(f"{Path(own[-1].filename).name}:{own[-1].lineno} {name}")
        return function(*args, **(kwargs or {}))


def is_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in parts)


@contextmanager
def counted(patch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The reads of ToHost: who asked for each."""
    found: list[str] = []
    read = ToHost.read

    def noted(sent: ToHost) -> Any:
        found.append(traceback.extract_stack()[-2].name)
        return read(sent)

    patch.setattr(devices.ToHost, "read", noted)
    yield found


CONFIGS = {
    "atari": preset("fast", num_threads=1, num_envs=2, rollout_length=6),
    "frames travel": preset("fast", num_threads=1, num_envs=2, rollout_length=6, emulator="ale"),
    "frames of truncated games": preset(
        "fast", num_threads=1, num_envs=2, rollout_length=6, emulator="ale", max_episode_frames=12
    ),
    "sync": preset("control", env="CartPole-v1", mode="sync", rollout_length=6),
    "minibatches": preset(
        "fast", num_threads=1, num_envs=4, rollout_length=6, minibatches=2, correction="vtrace"
    ),
    "recurrent": preset("control", env="CartPole-v1", recurrent=True, rollout_length=6),
    "one-step Q": preset("fast", num_threads=1, num_envs=2, rollout_length=6, method="one-step-q"),
    "Sarsa": preset("control", env="CartPole-v1", rollout_length=6, method="one-step-sarsa"),
    "truncated Sarsa": preset(
        "fast",
        num_threads=1,
        num_envs=2,
        rollout_length=6,
        emulator="ale",
        max_episode_frames=12,
        method="one-step-sarsa",
    ),
    "n-step Q": preset("control", env="CartPole-v1", rollout_length=6, method="n-step-q"),
    "continuous": preset("control", env="Pendulum-v1", rollout_length=210),  # truncated at 200
}


def learner_of(config: Config) -> ActorLearner:
    node = Node(replace(config, grow=False), [torch.device("cpu")], Metrics(1))
    node.begin()
    return node.learners[0]


@pytest.mark.parametrize("name", CONFIGS)
def test_one_wait_for_each_agent_step_and_one_for_each_rollout(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIGS[name]
    # NumPy reads the pixels where a CPU subtracts from them; on a device PyTorch does it
    monkeypatch.setattr(
        torsos, "subtract", lambda pixels, background, out: out.copy_(pixels - background)
    )
    learner = learner_of(config)
    learner.cycle()
    watch = Watch()
    with counted(monkeypatch) as reads, watch:
        learner.cycle()
    assert watch.lines == []
    steps = ["step"] * config.rollout_length
    assert reads == [*steps, "read"]  # the figures of the update before, after acting


@pytest.mark.parametrize(
    ("kind", "lengths"), [(Playable, [12, 12, 12]), (HalfNeverEnds, [10, 12, 10])]
)
def test_an_evaluation_waits_once_for_each_agent_step(
    kind: type[Playable], lengths: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not for what the host knows already: what was done, what came of it, and who leaves."""
    policy = a3c.load(model_of(kind, tmp_path), "cpu")
    games = make_games(policy.config, 3, policy.device)
    protocol = EvaluationProtocol(episodes=3, seed=0, greedy=False, epsilon=0.0, max_agent_steps=12)
    watch = Watch()
    with counted(monkeypatch) as reads, watch:
        played = play_episodes(
            games, policy.network, policy.generator, protocol, goes_on=lambda *_: True
        )
    assert [episode.length for episode in played] == lengths
    assert reads == ["step"] * 12
    assert watch.lines == []  # which games are played goes up without a wait


@pytest.mark.parametrize(
    "wait",
    [
        lambda x: float(x.sum()),
        lambda x: bool((x > 0).any()),
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.numpy(),
        lambda x: np.asarray(x),
    ],
)
def test_a_new_wait_is_noticed(wait: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    learner = learner_of(CONFIGS["sync"])
    prepare = learner.network.prepare

    def prepare_and_wait() -> None:
        wait(learner.parameters)
        prepare()

    monkeypatch.setattr(learner.network, "prepare", prepare_and_wait)
    watch = Watch()
    with watch:
        learner.cycle()
    assert watch.lines
