"""One actor-learner thread: Algorithm S3 of Mnih et al. (2016), with N agents in place of one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from a3c.config import Config
from a3c.envs.atari import STACKED_FRAMES
from a3c.envs.protocol import Envs
from a3c.loss import actor_critic_loss, gae
from a3c.metrics import Metrics, Stopwatch
from a3c.network import ActorCritic, flatten
from a3c.rollout import Agents, Upload, advance, collect
from a3c.shared import SharedParameters

BACKGROUND_STEPS = 100


class ActorLearner:
    """A thread's own things: environments, network, agents, random generator, CUDA stream."""

    def __init__(
        self,
        index: int,
        config: Config,
        envs: Envs,
        network: ActorCritic,
        shared: SharedParameters,
        metrics: Metrics,
        device: torch.device,
    ):
        self.index, self.config, self.envs, self.shared = index, config, envs, shared
        self.network, self.metrics, self.device = network, metrics, device
        self.parameters, self.gradients = flatten(network)  # [P] each
        network.remember(config.rollout_length, envs.num_envs)
        self.upload = Upload(device, envs.spec.stacked)
        self.generator = torch.Generator(device).manual_seed(seed_of(config, index))
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.agents: Agents
        self.updates = self.synced_at = 0

    def start(self, updates: int = 0) -> None:
        """New episodes for all agents; another game than at any other number of updates."""
        observations = self.envs.reset(seed_of(self.config, self.index, updates))
        agents = self.envs.num_envs
        self.agents = Agents(
            self.upload.observations(observations),
            self.network.initial_state(agents, self.device),
            np.zeros(agents, np.float64),
            np.zeros(agents, np.int64),
        )

    @torch.no_grad()
    def measure_background(self) -> None:
        """Let the untrained policy play; its mean observation becomes the shared background.

        For one thread, before `start`. Does nothing for a network without a background.
        """
        background = self.network.torso.background
        if background is None:
            return
        self.start()
        self.network.prepare()
        total = torch.zeros_like(background)  # [H, W, C]
        for t in range(-STACKED_FRAMES, BACKGROUND_STEPS):  # stacks start with black frames
            policy, _, state = self.network(self.agents.observations, self.agents.state)
            actions = self.network.policy.sample(policy, self.generator)
            step = self.envs.step(actions.cpu().numpy())
            advance(self.agents, self.upload, step, state)
            if t >= 0:
                total += self.agents.observations.float().mean(0)
        background.copy_((total / BACKGROUND_STEPS).round())  # whole numbers: exact in bfloat16
        self.shared.parameters.copy_(self.parameters)

    def run(self) -> None:
        """Update after update until the run ends."""
        with torch.cuda.stream(self.stream):  # does nothing for None
            while self.shared.going_on():
                self.update()

    def update(self) -> None:
        """Sync, rollout, returns, loss, gradients, apply."""
        config, stopwatch = self.config, Stopwatch()
        with stopwatch("forward"):
            self.sync()
            self.network.prepare()
        rollout, games = collect(
            self.envs, self.network, self.agents, self.upload, self.generator, config, stopwatch
        )
        with stopwatch("backward"):
            values = rollout.values.detach()  # [T, N]
            advantages = gae(
                rollout.rewards,
                values,
                rollout.dones,
                rollout.bootstrap,
                config.gamma,
                config.gae_lambda,
            )
            losses = actor_critic_loss(
                rollout.log_probs,
                rollout.entropies,
                rollout.values,
                advantages,
                advantages + values,
                config.ent_coef,
                config.vf_coef,
                config.loss_reduction,
            )
            self.gradients.zero_()
            losses.total.backward()
        with stopwatch("apply"):
            agent_steps = rollout.rewards.numel()
            applied = self.shared.apply(self.gradients, agent_steps, self.synced_at, self.index)
            self.updates += 1
        self.metrics.add(games, losses, applied, stopwatch)

    def sync(self) -> None:
        """Copy the shared parameters, or stay with the older ones if the run wants such a lag."""
        if self.updates % self.config.sync_every == 0:
            self.synced_at = self.shared.copy_to(self.parameters)

    def save(self) -> dict[str, NDArray[Any] | Tensor]:
        """This thread's part of a checkpoint: random state and, where possible, its agents."""
        saved: dict[str, NDArray[Any] | Tensor] = {"generator": self.generator.get_state()}
        if self.config.sync_every > 1:
            saved["parameters"] = self.parameters
            saved["sync"] = np.array([self.updates, self.synced_at])
        environments = self.envs.save_state()
        if environments is None:
            return saved
        saved |= {f"envs.{name}": array for name, array in environments.items()}
        saved["observations"] = self.agents.observations
        saved["returns"], saved["lengths"] = self.agents.returns, self.agents.lengths
        if self.agents.state is not None:
            saved["hidden"], saved["cell"] = self.agents.state
        return saved

    def load(self, saved: dict[str, Tensor], updates: int) -> None:
        """Go on from a checkpoint; agents whose games could not be saved start new ones."""
        self.generator.set_state(saved["generator"])
        if "sync" in saved:
            self.parameters.copy_(saved["parameters"])
            self.updates, self.synced_at = saved["sync"].tolist()
        if "observations" not in saved:
            return self.start(updates)
        self.envs.reset(seed_of(self.config, self.index, updates))
        prefix = "envs."
        self.envs.load_state(
            {k.removeprefix(prefix): v.numpy() for k, v in saved.items() if k.startswith(prefix)}
        )
        state = None
        if "hidden" in saved:
            state = saved["hidden"].to(self.device), saved["cell"].to(self.device)
        observations = saved["observations"].to(self.device)
        self.agents = Agents(
            observations, state, saved["returns"].numpy(), saved["lengths"].numpy()
        )


def seed_of(config: Config, thread: int, updates: int = 0) -> int:
    """A seed for each thread that no other thread, run or resumption shares, within 31 bits."""
    sequence = np.random.SeedSequence([config.seed, thread, updates])
    return int(sequence.generate_state(1)[0] >> 2)
