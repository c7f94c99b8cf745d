"""make_envs(): the agents' environments behind one small protocol, see protocol.py."""

from __future__ import annotations

import math

import torch

from a3c.config import Config
from a3c.envs.atari import STACKED_FRAMES, AtariEnvs, atari_bytes, atari_spec
from a3c.envs.gymnasium import GymnasiumEnvs
from a3c.envs.names import atari_game, check_gymnasium_id
from a3c.envs.on_device import OnDevice
from a3c.envs.protocol import AgentBytes, Envs, NumpyEnvs, Spec


def make_envs(config: Config, num_envs: int, device: torch.device) -> Envs:
    """N environments for one thread, as tensors on `device`.

    Raises InputError for a name that is no environment, and for spaces that are not supported.
    """
    return OnDevice(numpy_envs(config, num_envs, device), device)


def numpy_envs(config: Config, num_envs: int, device: torch.device) -> NumpyEnvs:
    """The environments in the host's memory."""
    game = atari_game(config.env)
    if game is not None:
        # to a GPU only the newest frame travels, and is stacked there
        whole = config.emulator == "atari2600" and device.type == "cpu"
        return AtariEnvs(game, config, num_envs, stack_num=STACKED_FRAMES if whole else 1)
    check_gymnasium_id(config.env)
    return GymnasiumEnvs(config.env, num_envs)


def spec_of(config: Config) -> Spec:
    """What a network must know, before there are environments. Raises InputError as make_envs does.

    An emulator is not compiled for it; of another environment one is made, and closed.
    """
    game = atari_game(config.env)
    if game is not None:
        return atari_spec(game, config)
    check_gymnasium_id(config.env)
    envs = GymnasiumEnvs(config.env, 1)
    envs.close()
    return envs.spec


def agent_bytes(config: Config, spec: Spec) -> AgentBytes:
    """What each agent's environment takes of the host's memory, as far as that is known.

    Of Gymnasium's environments it is what we keep of their observations: as they are given, as
    the network reads them, and the last ones of episodes.
    """
    game = atari_game(config.env)
    if game is not None:
        return atari_bytes(game, config)
    observation = math.prod(spec.observation_shape) * (1 if spec.pixels else 4)
    return AgentBytes(3 * observation, 0)
