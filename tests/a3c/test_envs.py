"""The environments' protocol: names, spaces, lost lives, ends, exact states."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from a3c.config import InputError, preset
from a3c.envs import numpy_envs
from a3c.envs.atari import AtariEnvs, atari_options
from a3c.envs.gymnasium import GymnasiumEnvs, gymnasium_spec
from a3c.envs.names import atari_game
from a3c.envs.protocol import Spec


@pytest.mark.parametrize(
    ("env", "game"),
    [
        ("breakout", "breakout"),
        ("ms_pacman", "ms_pacman"),
        ("ALE/Breakout-v5", "breakout"),
        ("ALE/MsPacman-v5", "ms_pacman"),
        ("BreakoutNoFrameskip-v4", "breakout"),
        ("CartPole-v1", None),
        ("Blackjack-v1", None),  # also the name of an Atari game
        ("blackjack", "blackjack"),
        ("ALE/Breakout-ram-v5", None),
        ("cartpole", None),
    ],
)
def test_names_of_games(env: str, game: str | None) -> None:
    assert atari_game(env) == game


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


def test_frame_skips_reach_the_emulator() -> None:
    assert atari_options(preset("fast"))["frameskip"] == 4
    assert atari_options(preset("seed"))["frameskip"] == (2, 5)  # 2, 3 or 4, as Gymnasium says it


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


def test_cartpole_gives_final_observations() -> None:
    envs = GymnasiumEnvs("CartPole-v1", 2)
    envs.reset(seed=0)
    while True:
        step = envs.step(np.array([1, 0]))
        if step.terminated.any():
            break
    assert step.final_observations is not None
    ended = step.terminated
    assert (np.abs(step.final_observations[ended, 2]) > 0.2).all()  # the pole has fallen
    assert (np.abs(step.observations[ended]) <= 0.05).all()  # and stands again


@pytest.mark.parametrize(
    "env",
    ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0"],
)
def test_classic_control_is_restored_exactly(env: str) -> None:
    def steps(envs: GymnasiumEnvs, count: int) -> list[bytes]:
        random, seen = np.random.default_rng(1), []
        for _ in range(count):
            shape = (3,) if envs.spec.discrete else (3, envs.spec.num_actions)
            actions = random.integers(0, 2, shape)
            step = envs.step(actions if envs.spec.discrete else actions.astype(np.float32))
            seen.append(b"".join(np.ascontiguousarray(a).tobytes() for a in step[:4]))
        return seen

    envs, other = GymnasiumEnvs(env, 3), GymnasiumEnvs(env, 3)
    envs.reset(seed=1)
    steps(envs, 57)
    state = envs.save_state()
    assert state is not None
    other.reset(seed=2)
    other.load_state(state)
    assert steps(envs, 250) == steps(other, 250)  # through ends of episodes and new starts


def test_others_say_that_they_cannot_be_restored() -> None:
    assert GymnasiumEnvs("CliffWalking-v1", 1).save_state() is None


def test_discrete_observations_become_one_hot() -> None:
    envs = GymnasiumEnvs("CliffWalking-v1", 2)
    first = envs.reset(seed=0)
    assert first.shape == (2, 48)
    assert first.sum(1).tolist() == [1, 1]
    assert first.argmax(1).tolist() == [36, 36]
    assert envs.spec == Spec((48,), False, False, True, 4)


def test_continuous_actions_are_clipped_on_their_way_out() -> None:
    envs = GymnasiumEnvs("Pendulum-v1", 2)
    decoded = envs.decode(np.array([[7.0], [-0.5]], np.float32))
    assert decoded.tolist() == [[2.0], [-0.5]]


def test_discrete_actions_count_from_the_spaces_start() -> None:
    envs = GymnasiumEnvs("CartPole-v1", 1)
    envs.action_space = spaces.Discrete(2, start=5)
    assert envs.decode(np.array([0, 1])).tolist() == [5, 6]


@pytest.mark.parametrize(
    ("observations", "actions", "complaint"),
    [
        (spaces.Box(-1, 1, (3,)), spaces.MultiDiscrete([2, 2]), "takes actions"),
        (spaces.Box(-1, 1, (3,)), spaces.Box(0, 5, (2,), np.int32), "takes actions"),
        (spaces.Dict({"x": spaces.Discrete(2)}), spaces.Discrete(2), "gives observations"),
    ],
)
def test_unsupported_spaces(
    observations: gymnasium.Space[object], actions: gymnasium.Space[object], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        gymnasium_spec("Some-v0", observations, actions)
