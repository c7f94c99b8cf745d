"""A method of another kind needs a class of its own and nothing else: no thread, store or envs.

N-step Q-learning with a target network, as far as it takes to learn a task of two observations:
one epsilon for all, nothing annealed. The real one is in value_methods.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Generator, Tensor, nn

from a3c import node
from a3c.config import Config
from a3c.envs.protocol import Spec
from a3c.heads import Outputs, initialise
from a3c.loss import n_step_returns
from a3c.method import Losses
from a3c.network import Network
from a3c.presets import preset
from a3c.rollout import Rollout
from a3c.run import checkpoint, log
from a3c.train import train


class ActionValues(nn.Module):
    def __init__(self, width: int, spec: Spec):
        super().__init__()
        self.linear = nn.Linear(width, spec.num_actions)
        initialise(self.linear, 0.01)

    def forward(self, features: list[Tensor]) -> Outputs:
        return (self.linear(features[0]),)


class NStepQ:
    torsos = 1
    needs_newest = True
    target_every_agent_steps = 300
    looks_ahead = False

    def __init__(self, config: Config):
        self.config = config

    def heads(self, width: int, spec: Spec) -> nn.Module:
        return ActionValues(width, spec)

    def behaviour(self, thread: int, agents: int, device: torch.device) -> "NStepQ":
        return self

    def prepare(self, agent_steps: int) -> dict[str, float]:
        return {}

    def save(self) -> dict[str, Tensor]:
        return {}

    def load(self, saved: dict[str, Tensor]) -> None:
        pass

    def act(self, network: Network, outputs: Outputs, generator: Generator) -> Tensor:
        best = outputs[0].argmax(-1)
        random = torch.rand(len(best), 2, generator=generator)
        drawn = (random[:, 1] * outputs[0].shape[-1]).long()
        return torch.where(random[:, 0] < 0.2, drawn, best)

    def loss(self, network: Network, target: Network | None, rollout: Rollout) -> Losses:
        assert target is not None
        (after,), _ = target(rollout.last_observations, None)
        (values,), _ = network.recall(rollout.state, rollout.not_ended)  # [T, N, A]
        taken = values.gather(-1, rollout.actions.unsqueeze(-1)).squeeze(-1)
        ends = rollout.ended.float()
        returns = n_step_returns(rollout.rewards, ends, after.max(-1).values, self.config.gamma)
        total = (returns - taken).square().mean()
        return Losses(total, {"q_loss": total.detach(), "q": taken.detach().mean()})


class Echo(gymnasium.Env[Any, Any]):
    """The action that the observation names is rewarded; 10 steps an episode."""

    observation_space = spaces.Box(0, 1, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, **kwargs: Any) -> None:
        self.steps = self.wanted = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.shown(), {}

    def shown(self) -> Any:
        self.wanted = int(self.np_random.integers(2))
        return np.eye(2, dtype=np.float32)[self.wanted]

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == self.wanted)
        self.steps += 1
        return self.shown(), reward, self.steps == 10, False, {}


gymnasium.register("Echo-v0", Echo)


@pytest.mark.parametrize("mode", ["async", "sync"])
def test_another_method_trains_is_logged_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(node, "make_method", NStepQ)
    changes = {"env": "Echo-v0", "num_threads": 2, "mode": mode, "gamma": 0.5, "lr": 1e-2}
    changes |= {"rollout_length": 8, "total_agent_steps": 8000}
    config = preset("control", runs_dir=str(tmp_path), **changes)
    run = train(config, quiet=True)
    assert run.mean_return_100 is not None
    assert run.mean_return_100 > 8  # one action in ten is wrong at random; untrained: 5
    record = log.read(run.folder / "metrics.jsonl")[-1]
    assert {"q_loss", "q"} <= set(record)
    saved = checkpoint.newest(run.folder).checkpoint
    target, parameters = saved.tensors["target"], saved.tensors["parameters"]
    assert target.shape == parameters.shape
    assert not torch.equal(target, parameters)
    more = replace(config, total_agent_steps=9000)
    assert train(more, resume=run.folder, quiet=True).agent_steps >= 9000 > run.agent_steps


def test_learning_with_the_newest_parameters_leaves_the_gradient_no_lag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two syncs an update: the policy that acted is 0 to 6 updates old, the gradient is new."""
    monkeypatch.setattr(node, "make_method", NStepQ)
    config = preset(
        "control", env="Echo-v0", total_agent_steps=2000, sync_every=7, runs_dir=str(tmp_path)
    )
    records = log.read(train(config, quiet=True).folder / "metrics.jsonl")
    lags = [record for record in records if "policy_lag" in record]
    assert {record["gradient_lag"] for record in lags} == {0}
    assert max(record["policy_lag"] for record in lags) > 2
