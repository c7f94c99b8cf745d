"""Saved states: damaged ones and those of other settings are refused, old ones load; copies."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from atari2600 import AtariEnv, AtariVectorEnv, agent, games, snapshot, state

Array = NDArray[Any]


@pytest.fixture(scope="module")
def env() -> AtariVectorEnv:
    env = AtariVectorEnv("breakout", 3, num_threads=1)
    env.reset(seed=1)
    return env


def version_1(state: Array) -> Array:
    """The state as this project's first version wrote it: no checksum, a short header."""
    (header, rest), content = snapshot.split(state)
    kept = {k: header[k] for k in ("game", "num_envs", "batch_size", "observation", "kind")
            if k in header}  # fmt: skip
    text = json.dumps([{"version": 1} | kept, rest]).encode()
    parts = [np.array([len(text)]), np.frombuffer(text, np.uint8), content]
    return np.concatenate([part.reshape(-1).view(np.uint8) for part in parts])


def answers(env: AtariVectorEnv, steps: int = 30) -> list[bytes]:
    """What follows."""
    random = np.random.default_rng(3)
    size = env.num_envs
    return [env.step(random.integers(4, size=size))[0].tobytes() for _ in range(steps)]


def test_every_changed_byte_is_noticed(env: AtariVectorEnv) -> None:
    state = env.save_state()
    random = np.random.default_rng(0)
    header = 8 + int(state[:8].view(np.int64)[0])
    places = [*random.integers(len(state), size=60), *random.integers(header, size=60), *range(8)]
    before = env.save_state()
    for at in places:
        broken = state.copy()
        broken[at] ^= random.integers(1, 256)
        with pytest.raises(ValueError, match="expected"):
            env.load_state(broken)
    np.testing.assert_array_equal(env.save_state(), before)  # and nothing was filled in
    env.load_state(state)


def test_states_of_version_1_go_on_exactly(env: AtariVectorEnv) -> None:
    old = version_1(env.save_state())
    expected = answers(env)
    other = AtariVectorEnv("breakout", 3)
    other.load_state(old)
    assert answers(other) == expected
    single = AtariEnv("pong")
    single.reset(seed=1)
    old = version_1(single.save_state())
    wanted = [single.step(k % 6)[0].tobytes() for k in range(20)]
    other_single = AtariEnv("pong")
    other_single.load_state(old)
    assert [other_single.step(k % 6)[0].tobytes() for k in range(20)] == wanted


def test_states_of_this_version_have_their_numbers_where_they_were() -> None:
    """Old ones are read by these places alone: who moves one makes another version."""
    assert snapshot.VERSION == 2
    numbers = {name: value for name, value in vars(state).items() if name.isupper()}
    places = {name: value for name, value in numbers.items() if isinstance(value, int)}
    digest = hashlib.sha256(json.dumps(places, sort_keys=True).encode()).hexdigest()
    assert digest[:16] == "9e0ce78eabf3a1fb"
    kept = [name for name in agent.Agents._fields if name not in ("pixels", "quads")]
    assert kept == [
        "generators", "pooled", "stacks", "final", "rewards", "terminated", "truncated", "lives",
        "frames", "episode_frames",
    ]  # fmt: skip


BEYOND = [
    (state.PC, 1 << 20), (state.SP, -1), (state.BANK, 4096), (state.BANK, -4096),
    (state.BUFFER, 2), (state.LOGGED, 3000), (state.ROW, -1), (state.LINE_POSITION, 300),
    (state.PF, -1), (state.GRP1, 256), (state.HMP0, 16), (state.POS_BL, 160),
    (state.HELD_ACTION, 18), (state.LAST_CLOCK, -100_000), (state.END_CLOCK, 10**9),
    (state.DPC + 2, 2048), (state.TIMER_SHIFT, 40), (state.FIRE0, 1000), (state.DDRA, 256),
]  # fmt: skip


@pytest.mark.parametrize(("register", "value"), BEYOND)
def test_old_states_with_registers_out_of_bounds_are_refused(
    env: AtariVectorEnv, register: int, value: int
) -> None:
    """They have no checksum, and these registers are indices of compiled code."""
    old = env.machines.registers[1, register]
    env.machines.registers[1, register] = value
    broken = version_1(env.save_state())
    env.machines.registers[1, register] = old
    before = env.save_state()
    with pytest.raises(ValueError, match="damaged"):
        env.load_state(broken)
    np.testing.assert_array_equal(env.save_state(), before)


def test_old_states_with_broken_generators_or_turns_are_refused(env: AtariVectorEnv) -> None:
    generators = env.agents.generators.copy()
    for position, words in ((10**6, generators[2, 1, 0]), (624, 0)):
        env.agents.generators[2, 1, 624] = position
        env.agents.generators[2, 1, :624] = words
        broken = version_1(env.save_state())
        env.agents.generators[:] = generators
        with pytest.raises(ValueError, match="random generator"):
            env.load_state(broken)
    (header, rest), content = snapshot.split(version_1(env.save_state()))
    for asked in ([0, 1], [0, 1, 7], [0, 0, 1], None, 5, [], ["0", 1, [2]]):
        text = json.dumps([header, rest | {"asked": asked}]).encode()
        parts = [np.array([len(text)]), np.frombuffer(text, np.uint8), content]
        broken = np.concatenate([part.reshape(-1).view(np.uint8) for part in parts])
        with pytest.raises(ValueError, match="whose turn"):
            env.load_state(broken)


@pytest.mark.parametrize("name", games.names())
def test_bounds_hold_in_every_game(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No state that a game comes to is refused."""
    from atari2600.backends import translate

    monkeypatch.setattr(translate, "code_of", lambda _, image, *__: translate.nothing(image))
    env = AtariVectorEnv(name, 2, num_threads=1, repeat_action_probability=0.25)
    env.reset(seed=1)
    random = np.random.default_rng(0)
    for _ in range(20):
        for _ in range(5):
            env.step(random.integers(len(env.action_set), size=2))
        env.load_state(version_1(env.save_state()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": 4}, "mode 0; expected 4"),
        ({"difficulty": 1}, "difficulty 0; expected 1"),
        ({"frameskip": 2}, "skip_low 4; expected 2"),
        ({"frameskip": (4, 6)}, "skip_high 5; expected 6"),
        ({"repeat_action_probability": 0.5}, "repeat_action_probability 0.0; expected 0.5"),
        ({"episodic_life": True}, "episodic_life 0; expected 1"),
        ({"reward_clipping": False}, "clip_rewards 1; expected 0"),
        ({"noop_max": 7}, "noop_max 30; expected 7"),
        ({"max_num_frames_per_episode": 9}, "max_frames 108000; expected 9"),
        ({"autoreset_mode": "SameStep"}, "same_step 0; expected 1"),
    ],
)
def test_states_of_other_settings_are_refused(options: dict[str, Any], message: str) -> None:
    env = AtariVectorEnv("breakout", 2, num_threads=1)
    env.reset(seed=1)
    with pytest.raises(ValueError, match=message):
        AtariVectorEnv("breakout", 2, num_threads=1, **options).load_state(env.save_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": 4}, "mode 0; expected 4"),
        ({"frameskip": (2, 5)}, r"frameskip \[4, 5\]; expected \[2, 5\]"),
        ({"repeat_action_probability": 0.5}, "repeat_action_probability 0.25; expected 0.5"),
        ({"max_num_frames_per_episode": 9}, "max_num_frames_per_episode 0; expected 9"),
    ],
)
def test_states_of_a_single_game_with_other_settings_are_refused(
    options: dict[str, Any], message: str
) -> None:
    env = AtariEnv("breakout")
    env.reset(seed=1)
    with pytest.raises(ValueError, match=message):
        AtariEnv("breakout", **options).load_state(env.save_state())


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_go_on_with_the_same_games(copied: Any) -> None:
    envs = AtariVectorEnv("breakout", 3, num_threads=2, frameskip=(2, 5))
    fresh = copied(envs)
    np.testing.assert_array_equal(fresh.reset(seed=4)[0], envs.reset(seed=4)[0])
    envs.step(np.array([1, 2, 3]))
    other = copied(envs)
    assert answers(other) == answers(envs)
    envs.send(np.array([1, 2, 3]))
    other = copied(envs)
    np.testing.assert_array_equal(other.recv()[0], envs.recv()[0])
    envs.close()
    single = AtariEnv("pong", frameskip=(2, 5))
    single.reset(seed=3)
    single.step(2)
    again = copied(single)
    for k in range(20):
        np.testing.assert_array_equal(again.step(k % 6)[0], single.step(k % 6)[0])


def test_a_copy_loads_the_game_as_well() -> None:
    """Where `load_game` stands until the next reset."""
    env = AtariEnv("breakout")
    env.reset(seed=3)
    env.seed_game(5)
    env.load_game()
    again = copy.deepcopy(env)
    env.reset()
    again.reset()
    assert again.ale.getFrameNumber() == env.ale.getFrameNumber()
    for k in range(20):
        np.testing.assert_array_equal(again.step(k % 4)[0], env.step(k % 4)[0])


def test_a_state_is_loaded_several_times(env: AtariVectorEnv) -> None:
    state, actions = env.save_state(), np.random.default_rng(5).integers(4, size=(30, 3))
    expected = [env.step(each) for each in actions]
    many = AtariVectorEnv("breakout", 6)
    many.load_state(state, copies=2)
    for each, (seen, rewards, *_) in zip(actions, expected, strict=True):
        answer = many.step(np.tile(each, 2))
        np.testing.assert_array_equal(answer[0], np.concatenate([seen, seen]))
        np.testing.assert_array_equal(answer[1], np.tile(rewards, 2))
    many.step(np.array([0, 1, 2, 3, 3, 3]))  # each for itself from there on
    env.load_state(state)


@pytest.mark.parametrize(
    ("num_envs", "copies", "options", "message"),
    [
        (6, 4, {}, "copies is 4; expected 1, or with whole batches a divisor of the 6"),
        (6, 0, {}, "copies is 0; expected at least 1"),
        (6, 2, {"batch_size": 3}, "copies is 2; expected 1, or with whole batches"),
        (6, 3, {}, "num_envs 3; expected 2"),
        (6, 1, {}, "num_envs 3; expected 6"),
    ],
)
def test_copies_that_do_not_fit_are_refused(
    env: AtariVectorEnv, num_envs: int, copies: int, options: dict[str, Any], message: str
) -> None:
    many = AtariVectorEnv("breakout", num_envs, **options)
    with pytest.raises(ValueError, match=message):
        many.load_state(env.save_state(), copies)


def test_a_copy_has_its_own_memory_for_observations() -> None:
    out = np.zeros((2, 4, 84, 84), np.uint8)
    envs = AtariVectorEnv("breakout", 2, num_threads=1, out=out)
    envs.reset(seed=4)
    other = copy.deepcopy(envs)
    assert not np.shares_memory(other.observations, out)
    np.testing.assert_array_equal(other.observations, out)
    assert answers(other) == answers(envs)


def test_a_state_has_what_the_next_reset_will_do() -> None:
    """That another game was asked for; and the seed that Gymnasium tells."""
    single, other = AtariEnv("pong"), AtariEnv("pong")
    single.reset(seed=1)
    single.seed_game(5)
    single.load_game()
    other.load_state(single.save_state())
    twin = copy.deepcopy(single)
    assert other.np_random_seed == twin.np_random_seed == single.np_random_seed == 1
    for each in (single, other, twin):
        each.reset()
    steps = [[each.step(k % 6)[0].tobytes() for k in range(40)] for each in (single, other, twin)]
    assert steps[0] == steps[1] == steps[2]
    assert single.np_random.random() == other.np_random.random() == twin.np_random.random()
