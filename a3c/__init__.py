"""a3c-gpu: asynchronous advantage actor-critic with many agents a thread.

import a3c
run = a3c.train(a3c.Config(env="breakout", total_agent_steps=2_000_000))
policy = a3c.load(run.folder)
actions = policy.act(observations)
"""

from a3c.config import Config
from a3c.errors import InputError
from a3c.presets import preset
from a3c.results.policy import Policy, load
from a3c.run.folder import Run
from a3c.run.provenance import version_of
from a3c.train import RunFailed, train

__version__ = version_of("a3c-gpu") or "unknown"  # of code that is not installed
__all__ = ["Config", "InputError", "Policy", "Run", "RunFailed", "load", "preset", "train"]
