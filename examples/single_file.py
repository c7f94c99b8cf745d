"""PPO in one file, in the manner of CleanRL, on this emulator. It needs torch, nothing of `a3c`.

    python examples/single_file.py pong --total-agent-steps 1000000

Read it from top to bottom; change what you like.
"""

import argparse

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn
from torch.distributions import Categorical

from atari2600 import AtariVectorEnv

parser = argparse.ArgumentParser(description="PPO on Atari.")
parser.add_argument("game", nargs="?", default="pong")
parser.add_argument("--total-agent-steps", type=int, default=1_000_000)
parser.add_argument("--num-envs", type=int, default=16)
parser.add_argument("--rollout-length", type=int, default=128)
parser.add_argument("--num-minibatches", type=int, default=4)
parser.add_argument("--update-epochs", type=int, default=4)
parser.add_argument("--lr", type=float, default=2.5e-4)
parser.add_argument("--gamma", type=float, default=0.99)
parser.add_argument("--gae-lambda", type=float, default=0.95)
parser.add_argument("--clip-coef", type=float, default=0.1)
parser.add_argument("--ent-coef", type=float, default=0.01)
parser.add_argument("--vf-coef", type=float, default=0.5)
parser.add_argument("--seed", type=int, default=1)


class Network(nn.Module):
    """The network of Mnih et al. (2015), with a policy and a value."""

    def __init__(self, num_actions: int):
        super().__init__()
        self.torso = nn.Sequential(
            nn.Conv2d(4, 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
            nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(),
        )  # fmt: skip
        self.policy, self.value = nn.Linear(512, num_actions), nn.Linear(512, 1)
        nn.init.orthogonal_(self.policy.weight, 0.01)  # all actions alike at first

    def forward(self, observations: Tensor) -> tuple[Categorical, Tensor]:
        features = self.torso(observations / 255)
        return Categorical(logits=self.policy(features)), self.value(features)[:, 0]


def main() -> None:
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    T, N = args.rollout_length, args.num_envs
    # A reset in the same step: no step is spent on it. Rewards are clipped below, for the optimiser
    envs = AtariVectorEnv(
        args.game, N, autoreset_mode=AutoresetMode.SAME_STEP, reward_clipping=False
    )
    network = Network(int(envs.single_action_space.n))
    optimiser = torch.optim.Adam(network.parameters(), args.lr, eps=1e-5)
    seen = torch.zeros(T, N, 4, 84, 84, dtype=torch.uint8)
    actions, log_probs = torch.zeros(T, N, dtype=torch.int64), torch.zeros(T, N)
    rewards, ends, values = torch.zeros(T, N), torch.zeros(T, N), torch.zeros(T + 1, N)
    running, returns = np.zeros(N), [0.0]
    now = torch.from_numpy(envs.reset(seed=args.seed)[0])
    num_updates = -(-args.total_agent_steps // (T * N))
    for update in range(num_updates):
        optimiser.param_groups[0]["lr"] = args.lr * (1 - update / num_updates)
        for t in range(T):
            with torch.no_grad():
                policy, values[t] = network(now)
            seen[t], actions[t] = now, policy.sample()
            log_probs[t] = policy.log_prob(actions[t])
            observations, reward, terminated, truncated, _ = envs.step(actions[t].numpy())
            now, ended = torch.from_numpy(observations), terminated | truncated
            rewards[t], ends[t] = torch.from_numpy(np.sign(reward)), torch.from_numpy(ended)
            running += reward
            returns += running[ended].tolist()
            running[ended] = 0
        with torch.no_grad():
            values[T] = network(now)[1]
        advantages, advantage = torch.zeros(T, N), torch.zeros(N)
        for t in reversed(range(T)):
            goes_on = 1 - ends[t]
            delta = rewards[t] + args.gamma * goes_on * values[t + 1] - values[t]
            advantages[t] = advantage = delta + args.gamma * args.gae_lambda * goes_on * advantage
        facts = (seen, actions, log_probs, advantages, advantages + values[:T])
        batch = [fact.flatten(0, 1) for fact in facts]
        for _ in range(args.update_epochs):
            for part in torch.randperm(T * N).chunk(args.num_minibatches):
                observation, action, old_log_prob, gain, target = (fact[part] for fact in batch)
                policy, value = network(observation)
                ratio = (policy.log_prob(action) - old_log_prob).exp()
                gain = (gain - gain.mean()) / (gain.std() + 1e-8)
                clipped = ratio.clamp(1 - args.clip_coef, 1 + args.clip_coef)
                loss = -torch.minimum(ratio * gain, clipped * gain).mean()
                loss = loss - args.ent_coef * policy.entropy().mean()
                loss = loss + args.vf_coef * (value - target).square().mean()
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), 0.5)
                optimiser.step()
        mean = sum(returns[-100:]) / len(returns[-100:])
        print(f"{(update + 1) * T * N:,} agent steps, mean return of the last games {mean:.2f}")
    envs.close()


if __name__ == "__main__":
    main()
