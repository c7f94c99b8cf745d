"""What nodes of a cluster should send: what they learned, or sums of gradients? By agent steps.

    python benchmarks/schemes.py            # ten minutes; writes benchmarks/results/schemes.md
    python benchmarks/schemes.py --tiny     # every step, in seconds; prints the table

Four nodes of one thread in one process, without Ray. Each makes k updates with what it has, then
they exchange one after another: a node's parameters lack what the other three learned meanwhile.

    steps   each node steps its own parameters, the server adds the differences (as in a cluster)
    sum     a node's parameters stand still, the server makes one step with the sum of its gradients
    mean    the same with their mean
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from a3c.cluster.exchange import Exchange, Newest, apply
from a3c.config import Config
from a3c.metrics import Metrics
from a3c.node import Node
from a3c.presets import preset
from a3c.run import provenance
from a3c.shared import Applied, SharedParameters

NODES = 4
CPU = torch.device("cpu")
OUT = Path(__file__).parent / "results" / "schemes.md"


class Steps:
    """A node that steps its own parameters."""

    def __init__(self, node: Node):
        self.node, self.exchange = node, Exchange(node.store)

    def exchange_with(self, server: SharedParameters) -> None:
        change = self.exchange.take()
        apply(server, change)
        vectors = {name: vector.numpy().copy() for name, vector in server.save().items()}
        if change.square_avg is None:  # the server answers in kind
            del vectors["square_avg"]
        counters = server.agent_steps, server.updates
        self.exchange.merge(Newest(0, 0, *counters, vectors, False, False, (0, 0.0, 0.0)))


class Sums:
    """A node that sums its clipped gradients."""

    def __init__(self, node: Node, mean: bool):
        self.node, self.mean = node, mean
        self.total = torch.zeros_like(node.store.parameters)  # [P]
        self.agent_steps = self.updates = 0
        node.store.apply = self.add  # type: ignore[method-assign]

    def add(
        self, gradients: Tensor, agent_steps: int, thread: int, norm: Tensor | None = None
    ) -> Applied:
        """In place of a step."""
        assert norm is not None
        self.total += gradients
        self.agent_steps += agent_steps
        self.updates += 1
        return Applied(self.node.store.updates, norm, 0.0, 0.0)

    def exchange_with(self, server: SharedParameters) -> None:
        gradients = self.total / (self.updates if self.mean else 1)
        server.apply(gradients, self.agent_steps, 0, norm=gradients.norm())
        self.total.zero_()
        self.agent_steps = self.updates = 0
        self.node.store.parameters.copy_(server.parameters)
        self.node.store.agent_steps = server.agent_steps
        self.node.store.updates = server.updates


def made(
    scheme: str, config: Config, metrics: Metrics
) -> tuple[SharedParameters, list[Steps | Sums]]:
    """The server and its nodes."""
    nodes = [Node(config, [CPU], metrics, first_thread=i) for i in range(NODES)]
    nodes[0].begin()  # which measures how to normalise
    parameters = nodes[0].store.parameters
    for node in nodes[1:]:
        node.store.restart(parameters)
        node.start_games(updates=0)
    server = SharedParameters(parameters, nodes[0].store.layout, config)
    if scheme == "steps":
        return server, [Steps(node) for node in nodes]
    return server, [Sums(node, scheme == "mean") for node in nodes]


def learned(scheme: str, updates: int, config: Config) -> list[float]:
    """Mean return of the last 100 games at each quarter of the run."""
    metrics = Metrics(1)
    server, nodes = made(scheme, config, metrics)
    returns: list[float] = []
    while not server.finished:
        for each in nodes:
            for _ in range(updates):
                each.node.learners[0].cycle()
        for each in nodes:
            each.exchange_with(server)
        if server.agent_steps >= config.total_agent_steps * (len(returns) + 1) / 4:
            returns.append(metrics.status()["mean_return_100"] or 0.0)
    for each in nodes:
        each.node.close()
    return returns


def table(agent_steps: int, seeds: int, updates: tuple[int, ...]) -> Iterator[str]:
    """Means over seeds; of the end each seed's."""
    yield "| updates between exchanges | sent | 1/4 | 1/2 | 3/4 | end | end, by seed |"
    yield "| ---: | --- | ---: | ---: | ---: | ---: | --- |"
    for count in updates:
        for scheme in ("steps", "sum", "mean"):
            runs = []
            for seed in range(1, seeds + 1):
                config = preset(
                    "control",
                    env="CartPole-v1",
                    seed=seed,
                    num_threads=1,
                    total_agent_steps=agent_steps,
                )
                runs.append(learned(scheme, count, config))
            means = [f"{fmean(each):.1f}" for each in zip(*runs, strict=True)]
            ends = ", ".join(f"{run[-1]:.1f}" for run in runs)
            yield f"| {count} | {scheme} | {' | '.join(means)} | {ends} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    tiny = parser.parse_args().tiny
    torch.set_num_threads(1)
    agent_steps, seeds, updates = (4_000, 1, (1,)) if tiny else (200_000, 10, (1, 4, 16))
    lines = []
    for line in table(agent_steps, seeds, updates):
        print(line, flush=True)
        lines.append(line)
    if not tiny:
        OUT.write_text("\n".join(page(agent_steps, lines)) + "\n")


def page(agent_steps: int, lines: list[str]) -> Iterator[str]:
    """What is committed."""
    here = provenance.provenance()
    yield "# Steps or sums of gradients: what a cluster's nodes send"
    yield ""
    yield "`python benchmarks/schemes.py`"
    yield ""
    yield f"CartPole-v1, `control`, {NODES} nodes of one thread, {agent_steps:,} agent steps."
    yield "Mean return of the last 100 games of training, mean of the seeds."
    yield f"Commit {here['commit']}; {here['processor']}, torch {here['torch']}."
    yield ""
    yield from lines


if __name__ == "__main__":
    main()
