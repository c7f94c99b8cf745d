"""Where an agent step's time goes: one thread's updates under Python's profiler.

    python benchmarks/update_profile.py                        # one line for each part
    python benchmarks/update_profile.py --game beam_rider --network nature

Processor time of this thread, microseconds for each agent step. The profiler takes some itself, so
the total is measured without it; `all else` is what the parts leave of that.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import re
import time

import torch

from a3c.metrics import Metrics
from a3c.node import Node
from a3c.presets import preset

WARM_UP = 10  # updates
# The parts, and the functions whose own time is theirs
PARTS = {
    "the emulator": ["cpu.py:run"],
    "convolutions, forward; and backward towards an image": ["conv2d"],
    "convolutions, backward": ["convolution_backward"],
    "linear layers, forward": ["linear"],
    "linear layers and ReLUs, backward": ["convolutions.py:backward", "threshold_backward"],
    "pixels without the background": ["subtract_to_bfloat16", "subtract_to_float32", "subtracted"],
    "copies": ["copy_", "to", "clone", "reshape", "stack"],
    "ReLUs, forward": ["clamp_min"],
    "optimiser": ["addcmul", "addcdiv_", "sqrt_", "mul_"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--game", default="breakout")
    parser.add_argument("--network", default="auto")
    parser.add_argument("--updates", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = preset("fast", env=options.game, network=options.network, num_threads=1, grow=False,
                    device="cpu")  # fmt: skip
    node = Node(config, [torch.device("cpu")], Metrics(1))
    node.begin()
    (learner,) = node.learners
    for _ in range(WARM_UP):
        learner.cycle()
    agent_steps = options.updates * config.num_envs * config.rollout_length
    start = time.thread_time()
    for _ in range(options.updates):
        learner.cycle()
    seconds = time.thread_time() - start
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    for _ in range(options.updates):
        learner.cycle()
    profile.disable()
    parts = own_seconds(pstats.Stats(profile))
    for part, took in {**parts, "all else": seconds - sum(parts.values()), "all": seconds}.items():
        print(f"{1e6 * took / agent_steps:6.1f} {part}")


def own_seconds(stats: pstats.Stats) -> dict[str, float]:
    """Each part's, without what it calls."""
    own = dict.fromkeys(PARTS, 0.0)
    for (file, _, function), (_, _, seconds, *_) in stats.stats.items():  # type: ignore[attr-defined]
        for part in PARTS:
            if belongs(f"{file}:{function}", part):
                own[part] += seconds
    return own


def belongs(function: str, part: str) -> bool:
    """Whether a function, `file:name` or what the profiler calls a built-in one, is of a part."""
    # ~:<method 'copy_' of 'torch._C.TensorBase' objects>
    words = re.findall(r"\w+", function) if function.startswith("~:") else []
    return any(function.endswith(name) or name in words for name in PARTS[part])


if __name__ == "__main__":
    main()
