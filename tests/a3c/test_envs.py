"""Atari behind the protocol: lost lives, frame skips, games that follow from the seed."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from a3c.envs import atari, numpy_envs
from a3c.envs.atari import AtariEnvs, atari_options
from a3c.envs.protocol import Array, Spec
from a3c.presets import preset


@pytest.mark.parametrize(
    ("emulator", "shape"), [("atari2600", (2, 84, 84, 4)), ("ale", (2, 84, 84))]
)
def test_breakout_reports_lost_lives_and_goes_on(emulator: str, shape: tuple[int, ...]) -> None:
    envs = numpy_envs(preset("fast", noop_max=0, emulator=emulator), 2, torch.device("cpu"))
    assert envs.spec == Spec((84, 84, 4), True, True, True, 4)
    frames = envs.reset(seed=3)
    assert frames.shape == shape
    assert frames.dtype == np.uint8
    lost = np.zeros(2, int)
    lives_at_end = []
    for _ in range(400):
        step = envs.step(np.array([1, 0]))  # the first fires and never moves: it loses its lives
        lost += step.life_lost
        assert not (step.life_lost & step.terminated).any()
        if step.terminated[0]:
            assert step.final_observations is not None
            lives_at_end.append(lost[0])
            lost[0] = 0
    assert lives_at_end
    assert set(lives_at_end) == {4}  # five lives: four are lost in the game, the fifth ends it
    assert lost[1] == 1  # reset fires once; this one never fires again
    envs.close()


@pytest.mark.parametrize("emulator", ["atari2600", "ale"])
def test_a_game_that_is_cut_off_has_not_ended(emulator: str) -> None:
    """It is truncated, so that the value of what would have followed counts."""
    config = preset("fast", noop_max=0, max_episode_frames=40, emulator=emulator)
    envs = numpy_envs(config, 2, torch.device("cpu"))
    envs.reset(seed=3)
    steps = [envs.step(np.zeros(2, int)) for _ in range(12)]
    envs.close()
    assert not any(step.terminated.any() for step in steps)
    cut = [k for k, step in enumerate(steps) if step.truncated.any()]
    assert cut
    assert steps[cut[0]].truncated.all()


def test_frame_skips_reach_the_emulator() -> None:
    assert atari_options(preset("fast"))["frameskip"] == 4
    assert atari_options(preset("seed"))["frameskip"] == (2, 5)  # 2, 3 or 4, as Gymnasium says it


def test_every_option_of_atari_reaches_the_emulator() -> None:
    config = preset("fast", frame_skip=3, sticky_actions=0.375, noop_max=7, full_action_set=True,
                    max_episode_frames=999)  # fmt: skip
    assert atari_options(config) == {
        "frameskip": 3,
        "repeat_action_probability": 0.375,
        "noop_max": 7,
        "full_action_space": True,
        "max_num_frames_per_episode": 999,
        "reward_clipping": False,  # not here: the returns in the log are whole
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }


def test_games_follow_from_the_seed_alike_on_both_emulators() -> None:
    def play(seed: int, emulator: str = "ale") -> list[bytes]:
        config = preset("fast", sticky_actions=0.25, emulator=emulator)
        envs = AtariEnvs("breakout", config, 2)
        first = envs.reset(seed).tobytes()
        actions = np.random.default_rng(0).integers(0, 4, (60, 2))
        seen = [envs.step(action).observations.tobytes() for action in actions]
        envs.close()
        return [first, *seen]

    assert play(7) == play(7)
    assert play(7) == play(7, "atari2600")
    assert play(7) != play(8)


@pytest.mark.parametrize(("emulator", "alone"), [("ale", True), ("atari2600", False)])
def test_games_of_ale_py_are_made_and_reset_by_one_thread_at_a_time(
    monkeypatch: pytest.MonkeyPatch, emulator: str, alone: bool
) -> None:
    locked = []

    class Vector:
        single_action_space = spaces.Discrete(4)

        def __init__(self, *_: object, **__: object):
            locked.append(atari.ONE_AT_A_TIME.locked())

        def reset(self, seed: int) -> tuple[object, dict[str, object]]:
            locked.append(atari.ONE_AT_A_TIME.locked())
            return np.zeros((1, 4, 84, 84), np.uint8), {"lives": np.zeros(1)}

    monkeypatch.setattr(atari, "AleVectorEnv", Vector)
    monkeypatch.setattr(atari, "AtariVectorEnv", Vector)
    atari.AtariEnvs("breakout", preset("fast", emulator=emulator), 1).reset(1)
    assert locked == [alone, alone]
    assert not atari.ONE_AT_A_TIME.locked()


def test_a_life_gained_is_none_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    class Vector:
        single_action_space = spaces.Discrete(4)

        def __init__(self, *_: object, **__: object):
            self.left = [3, 4, 3]

        def reset(self, seed: int) -> tuple[Array, dict[str, Array]]:
            return np.zeros((1, 4, 84, 84), np.uint8), {"lives": np.array([self.left.pop(0)])}

        def step(self, _: Array) -> tuple[Array, Array, Array, Array, dict[str, Array]]:
            seen, info = self.reset(0)
            return seen, np.zeros(1), np.zeros(1, bool), np.zeros(1, bool), info

    monkeypatch.setattr(atari, "AtariVectorEnv", Vector)
    envs = atari.AtariEnvs("breakout", preset("fast"), 1)
    envs.reset(1)
    assert [bool(envs.step(np.zeros(1, int)).life_lost[0]) for _ in range(2)] == [False, True]


def test_copies_of_a_game_have_its_lives() -> None:
    """Else one would have lost a life with its first step, or not."""
    config = preset("fast", env="breakout")
    few, many = (AtariEnvs("breakout", config, num_envs) for num_envs in (2, 4))
    for envs in (few, many):
        envs.reset(1)
    few.lives = np.array([5, 3])
    state = few.save_state()
    assert state is not None
    many.load_state(state)
    assert many.lives.tolist() == [5, 3, 5, 3]
