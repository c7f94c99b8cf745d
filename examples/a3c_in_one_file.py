"""A3C in one file: Algorithm S3 of Mnih et al. (2016) on CartPole. It needs nothing of `a3c`.

    python examples/a3c_in_one_file.py --total-agent-steps 500000

Threads share one vector of parameters. Each copies it, plays a few steps with its copy, and changes
the shared one by its gradient, whatever the others have done meanwhile. Where it differs from
Algorithm S3: each thread has several agents, over which and over whose steps the gradient is a
mean; it is clipped; the value counts half; a game that is cut off counts on with its value; and a
lock keeps updates whole. There is no entropy bonus (the paper's section 4).
"""

import argparse
import threading

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn.utils import parameters_to_vector, vector_to_parameters

AGENTS, ROLLOUT_LENGTH = 8, 16  # of a thread; agent steps between two updates
LR, GAMMA, VALUE_WEIGHT, MAX_GRAD_NORM = 3e-3, 0.99, 0.5, 0.5
DECAY, EPSILON = 0.99, 1e-5  # of RMSProp's average of squared gradients
parser = argparse.ArgumentParser(description="A3C on CartPole.")
parser.add_argument("--total-agent-steps", type=int, default=500_000)
parser.add_argument("--num-threads", type=int, default=2)


class Network(nn.Module):
    """Actor and critic: observations [N, 4] -> logits of the actions [N, 2], values [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.policy, self.value = (
            nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), last)
            for last in (nn.Linear(64, 2), nn.Linear(64, 1))
        )

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        return self.policy(observations), self.value(observations).squeeze(-1)


class Shared:
    """What the threads share: parameters [P], RMSProp's average [P], and how far they have come."""

    def __init__(self, total_agent_steps: int):
        self.parameters = parameters_to_vector(Network().parameters()).detach()
        self.squares = torch.zeros_like(self.parameters)
        self.agent_steps, self.total = 0, total_agent_steps
        self.returns: list[float] = []  # of the games that have ended
        self.lock = threading.Lock()

    def copy_to(self, network: Network) -> None:
        with self.lock:
            vector_to_parameters(self.parameters.clone(), network.parameters())

    def apply(self, gradient: Tensor) -> None:
        """One step of shared RMSProp, with a rate that falls to 0."""
        with self.lock:
            lr = LR * max(0.0, 1 - self.agent_steps / self.total)
            self.squares.mul_(DECAY).addcmul_(gradient, gradient, value=1 - DECAY)
            self.parameters -= lr * gradient / (self.squares + EPSILON).sqrt()
            self.agent_steps += AGENTS * ROLLOUT_LENGTH


def actor_learner(shared: Shared, seed: int) -> None:
    """A thread's life: sync, rollout, loss, gradient, apply."""
    envs = gymnasium.make_vec(
        "CartPole-v1", AGENTS, "sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
    )
    network, running = Network(), np.zeros(AGENTS)
    observations = envs.reset(seed=AGENTS * seed)[0]
    while shared.agent_steps < shared.total:
        shared.copy_to(network)
        log_probs, values, rewards, ends = [], [], [], []  # T tensors [N] each
        for _ in range(ROLLOUT_LENGTH):
            logits, value = network(torch.as_tensor(observations))
            policy = Categorical(logits=logits)
            action = policy.sample()
            observations, reward, terminated, truncated, info = envs.step(action.numpy())
            running += reward
            ended = terminated | truncated
            cut = truncated & ~terminated
            if cut.any():  # the game would have gone on: so does its value
                last = torch.as_tensor(np.stack([*info["final_obs"][cut]]))
                with torch.no_grad():
                    reward[cut] += GAMMA * network(last)[1].numpy()
            log_probs.append(policy.log_prob(action))
            values.append(value)
            rewards.append(torch.as_tensor(reward, dtype=torch.float32))
            ends.append(torch.as_tensor(ended, dtype=torch.float32))
            shared.returns += running[ended].tolist()
            running[ended] = 0
        with torch.no_grad():
            bootstrap = network(torch.as_tensor(observations))[1]
        targets = returns_of(rewards, ends, bootstrap)  # [T, N]
        advantages = targets - torch.stack(values)
        objective = torch.stack(log_probs) * advantages.detach()  # a constant for the policy
        loss = (VALUE_WEIGHT * advantages.square() - objective).mean()
        gradient = parameters_to_vector(torch.autograd.grad(loss, list(network.parameters())))
        shared.apply(gradient * (MAX_GRAD_NORM / gradient.norm()).clamp(max=1))
    envs.close()


def returns_of(rewards: list[Tensor], ends: list[Tensor], bootstrap: Tensor) -> Tensor:
    """R <- r + gamma R, backwards from the value of where the agents stand: [T, N]."""
    following, returns = bootstrap, []
    for reward, end in zip(reversed(rewards), reversed(ends), strict=True):
        following = reward + GAMMA * (1 - end) * following
        returns.append(following)
    return torch.stack(returns[::-1])


def main() -> None:
    args = parser.parse_args()
    torch.set_num_threads(1)  # a thread is an actor-learner here, not a part of an operation
    torch.manual_seed(1)
    shared = Shared(args.total_agent_steps)
    threads = [
        threading.Thread(target=actor_learner, args=(shared, index), daemon=True)
        for index in range(args.num_threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(timeout=2)
            mean = f"{np.mean(shared.returns[-100:]):.1f}" if shared.returns else "-"
            print(f"{shared.agent_steps:,} agent steps, mean return of the last games {mean}")


if __name__ == "__main__":
    main()
