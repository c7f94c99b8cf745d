"""PPO in one file, in the manner of CleanRL, on this emulator. It needs torch, nothing of `a3c`.

    python examples/single_file.py pong --total-agent-steps 1000000

Read it from top to bottom; change what you like.
"""

import argparse

import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor, nn
from torch.distributions import Categorical

from atari2600 import AtariVectorEnv

ROLLOUT_LENGTH, LR, GAMMA, GAE_LAMBDA = 128, 2.5e-4, 0.99, 0.95
UPDATE_EPOCHS, NUM_MINIBATCHES = 4, 4
CLIP_COEF, ENT_COEF, VF_COEF, MAX_GRAD_NORM = 0.1, 0.01, 0.5, 0.5
parser = argparse.ArgumentParser(description="PPO on Atari.")
parser.add_argument("game", nargs="?", default="pong")
parser.add_argument("--total-agent-steps", type=int, default=1_000_000)
parser.add_argument("--num-envs", type=int, default=16)
parser.add_argument("--seed", type=int, default=1)


def network_of(num_actions: int) -> nn.Sequential:
    """The network of Mnih et al. (2015): logits of the actions, and last the value."""
    return nn.Sequential(
        nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(),
        nn.Linear(512, num_actions + 1),
    )  # fmt: skip


def main() -> None:
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    T, N = ROLLOUT_LENGTH, args.num_envs
    # No step is spent on a reset; rewards are clipped below, for the optimiser alone
    envs = AtariVectorEnv(args.game, N, autoreset_mode="SameStep", reward_clipping=False)
    assert isinstance(envs.single_action_space, Discrete)
    network = network_of(int(envs.single_action_space.n))
    optimiser = torch.optim.Adam(network.parameters(), LR, eps=1e-5)
    seen = torch.zeros(T, N, 4, 84, 84, dtype=torch.uint8)
    actions, log_probs = torch.zeros(T, N, dtype=torch.int64), torch.zeros(T, N)
    rewards, ends, values = torch.zeros(T, N), torch.zeros(T, N), torch.zeros(T + 1, N)
    running, returns = np.zeros(N), list[float]()
    now = torch.from_numpy(envs.reset(seed=args.seed)[0])
    num_rollouts = -(-args.total_agent_steps // (T * N))
    for rollout in range(num_rollouts):
        optimiser.param_groups[0]["lr"] = LR * (1 - rollout / num_rollouts)
        for t in range(T):
            with torch.no_grad():
                policy, values[t] = act(network, now)
            seen[t], actions[t] = now, policy.sample()
            log_probs[t] = policy.log_prob(actions[t])
            observations, reward, terminated, truncated, _ = envs.step(actions[t].numpy())
            now, ended = torch.from_numpy(observations), terminated | truncated
            rewards[t], ends[t] = torch.from_numpy(np.sign(reward)), torch.from_numpy(ended)
            running += reward
            returns += running[ended].tolist()
            running[ended] = 0
        with torch.no_grad():
            values[T] = act(network, now)[1]
        advantages = gae(rewards, ends, values)
        facts = (seen, actions, log_probs, advantages, advantages + values[:T])
        batch = [fact.flatten(0, 1) for fact in facts]  # [T N, ...]
        for _ in range(UPDATE_EPOCHS):
            for part in torch.randperm(T * N).chunk(NUM_MINIBATCHES):
                loss = ppo_loss(network, [fact[part] for fact in batch])
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), MAX_GRAD_NORM)
                optimiser.step()
        mean = f"{np.mean(returns[-100:]):.2f}" if returns else "-"
        print(f"{(rollout + 1) * T * N:,} agent steps, mean return of the last games {mean}")
    envs.close()


def act(network: nn.Module, observations: Tensor) -> tuple[Categorical, Tensor]:
    outputs = network(observations / 255)
    return Categorical(logits=outputs[:, :-1]), outputs[:, -1]


def gae(rewards: Tensor, ends: Tensor, values: Tensor) -> Tensor:
    """Advantages [T, N] of rewards and ends [T, N] and values [T + 1, N]."""
    advantages, advantage = torch.zeros_like(rewards), torch.zeros_like(rewards[0])
    for t in reversed(range(len(rewards))):
        delta = rewards[t] + GAMMA * (1 - ends[t]) * values[t + 1] - values[t]
        advantages[t] = advantage = delta + GAMMA * GAE_LAMBDA * (1 - ends[t]) * advantage
    return advantages


def ppo_loss(network: nn.Module, batch: list[Tensor]) -> Tensor:
    seen, actions, old, gain, target = batch
    policy, value = act(network, seen)
    ratio = (policy.log_prob(actions) - old).exp()
    gain = (gain - gain.mean()) / (gain.std() + 1e-8)
    objective = torch.minimum(ratio * gain, ratio.clamp(1 - CLIP_COEF, 1 + CLIP_COEF) * gain)
    loss: Tensor = VF_COEF * (value - target).square() - objective - ENT_COEF * policy.entropy()
    return loss.mean()


if __name__ == "__main__":
    main()
