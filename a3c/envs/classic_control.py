"""The exact state of Gymnasium's classic-control environments (CartPole, ...), as arrays.

Gymnasium has no interface for it. These five are simple enough to know all that changes: the
physical state, a few numbers beside it, the random generator and the wrappers' counters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

from a3c.envs.protocol import other_version

WRAPPERS = ("TimeLimit", "OrderEnforcing", "PassiveEnvChecker")  # those whose state is known
CHANGING = ("state", "steps_beyond_terminated", "last_u", "_elapsed_steps", "_has_reset")


def save(envs: Sequence[gymnasium.Env[Any, Any]]) -> dict[str, NDArray[Any]] | None:
    """The state of all `envs`; None if one is not of classic control, or wrapped otherwise."""
    if not all(_known(layer) for env in envs for layer in _layers(env)):
        return None
    text = json.dumps([_record(env) for env in envs])
    return {"classic_control": np.frombuffer(text.encode(), np.uint8).copy()}


def load(envs: Sequence[gymnasium.Env[Any, Any]], state: dict[str, NDArray[Any]]) -> None:
    """Restore what `save` returned, into as many environments of the same kind, or into several
    times as many: copies. Raises EnvironmentFault for what another version has saved."""
    records = json.loads(state["classic_control"].tobytes())
    records *= len(envs) // len(records)
    for env, record in zip(envs, records, strict=True):
        env.unwrapped.np_random.bit_generator.state = record["np_random"]
        layers = list(_layers(env))
        if len(layers) != len(record["layers"]):
            found = f"{len(record['layers'])} layers of an environment; expected {len(layers)}"
            raise other_version(found)
        for layer, values in zip(layers, record["layers"], strict=True):
            for name, value in values.items():
                setattr(layer, name, _decoded(value))


def _known(layer: Any) -> bool:
    kind = type(layer)
    return kind.__name__ in WRAPPERS or "gymnasium.envs.classic_control" in kind.__module__


def _record(env: gymnasium.Env[Any, Any]) -> dict[str, Any]:
    layers = [
        {name: _encoded(vars(layer)[name]) for name in CHANGING if name in vars(layer)}
        for layer in _layers(env)
    ]
    return {"np_random": env.unwrapped.np_random.bit_generator.state, "layers": layers}


def _layers(env: Any) -> Iterator[Any]:
    """The wrappers from the outside in, then the environment itself."""
    while isinstance(env, gymnasium.Wrapper):
        yield env
        env = env.env
    yield env


def _encoded(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"dtype": str(value.dtype), "values": value.tolist()}
    return value.item() if isinstance(value, np.generic) else value


def _decoded(value: Any) -> Any:
    return np.array(value["values"], value["dtype"]) if isinstance(value, dict) else value
