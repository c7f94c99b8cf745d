"""Policy.act: takes what the environment gives, returns what it takes, refuses the rest."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from safetensors import safe_open
from safetensors.torch import save_file

import a3c
from a3c import cli
from a3c.devices import pick_precision
from a3c.envs.gymnasium import GymnasiumEnvs
from a3c.run import checkpoint, models
from atari2600 import AtariVectorEnv

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
TWO = spaces.Discrete(2)
ONE_SIDED = spaces.Box(np.array([0, -np.inf]), np.array([np.inf, 0]), dtype=np.float64)


class Odd(gymnasium.Env[Any, Any]):
    """Random observations of any space; insists on actions of its own."""

    def __init__(self, **kwargs: Any):
        self.observation_space, self.action_space = SPACES[kwargs["name"]]
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.steps += 1
        return self.observation_space.sample(), 1.0, self.steps == 20, False, {}


SPACES: dict[str, tuple[gymnasium.Space[Any], gymnasium.Space[Any]]] = {
    "Start": (VECTOR, spaces.Discrete(3, start=-1)),
    "Tight": (VECTOR, spaces.Box(-0.1, 0.1, (2, 3), np.float64)),
    "OneSided": (VECTOR, ONE_SIDED),
    "Scalars": (spaces.Box(0, 1, (), np.float32), spaces.Box(0, 0.01, (), np.float32)),
    "Seats": (spaces.Discrete(16), TWO),
    "SeatsFromFive": (spaces.Discrete(16, start=5), TWO),
    "Matrix": (spaces.Box(-np.inf, np.inf, (2, 3), np.float64), TWO),
    "Bytes": (spaces.Box(0, 255, (128,), np.uint8), TWO),
    "Image": (spaces.Box(0, 255, (24, 28, 3), np.uint8), TWO),
    "Grey": (spaces.Box(0, 255, (24, 28), np.uint8), TWO),
    "ChannelsFirst": (spaces.Box(0, 255, (3, 24, 28), np.uint8), TWO),
}
for name in SPACES:
    gymnasium.register(f"{name}-v0", Odd, kwargs={"name": name})


Trained = Callable[[str], Path]


def train(env: str, folder: Path, **changes: Any) -> Path:
    """A run of a few agent steps."""
    config = a3c.preset(
        "control", env=env, total_agent_steps=80, num_envs=2, runs_dir=str(folder), **changes
    )
    return a3c.train(config, quiet=True).folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The run of an environment, the same one for all tests."""
    return functools.cache(lambda env: train(env, tmp_path_factory.mktemp("runs")))


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("greedy", [False, True])
def test_it_speaks_the_environments_language(
    name: str, greedy: bool, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the file alone: the environment is not known any more when it is loaded."""
    run = trained(f"{name}-v0")
    envs = SyncVectorEnv([lambda: gymnasium.make(f"{name}-v0")] * 3)
    env = gymnasium.make(f"{name}-v0")
    monkeypatch.delitem(gymnasium.registry, f"{name}-v0")
    policy = a3c.load(run)
    observations, _ = envs.reset(seed=1)
    one, _ = env.reset(seed=1)
    for _ in range(3):
        actions = policy.act(observations, greedy=greedy)
        assert envs.action_space.contains(actions)
        observations, *_ = envs.step(actions)
        action = policy.act(one, greedy=greedy)
        assert env.action_space.contains(action)
        one, *_ = env.step(action)


def test_one_observation_and_a_batch_of_one_are_acted_on_alike(trained: Trained) -> None:
    policy = a3c.load(trained("Tight-v0"))
    one = np.array([0.1, 0.2, 0.3], np.float32)
    action, actions = policy.act(one, greedy=True), policy.act(one[None], greedy=True)
    assert action.shape == (2, 3)
    assert np.array_equal(action, actions[0])
    for same in (one.tolist(), one.astype(np.float64), torch.from_numpy(one)):
        assert np.array_equal(policy.act(same, greedy=True), action)


def test_training_and_acting_read_alike(trained: Trained) -> None:
    """What the network is shown for one observation, by the learner's way and by act's."""
    policy = a3c.load(trained("Bytes-v0"))
    envs = GymnasiumEnvs("Bytes-v0", 2)
    learner = envs.reset(seed=4)
    raw = np.stack([gymnasium.make("Bytes-v0").reset(seed=4 + i)[0] for i in range(2)])
    assert np.array_equal(policy.coding.encode(raw), learner)
    assert learner.max() <= 1


def test_whole_floats_are_the_integers_that_training_takes_them_for(trained: Trained) -> None:
    policy = a3c.load(trained("Bytes-v0"))
    raw = np.arange(256).reshape(2, 128).astype(np.uint8)
    as_integers, as_floats = (policy.coding.batch(x)[0] for x in (raw, raw.astype(np.float64)))
    assert as_floats.dtype == np.uint8
    assert np.array_equal(as_integers, as_floats)
    assert policy.act(raw.astype(np.float32), greedy=True).shape == (2,)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "auto"])
def test_it_computes_in_the_precision_of_the_run(precision: Any, tmp_path: Path) -> None:
    """`auto` is this processor's, as in training."""
    saved = models.find("breakout")
    config = dataclasses.replace(saved.config, precision=precision)
    checkpoint.save(tmp_path / "model.safetensors", saved._replace(config=config))
    policy = a3c.load(tmp_path / "model.safetensors", device="cpu")
    assert policy.network.torsos[0].dtype == pick_precision(config, torch.device("cpu"))


def test_atari_takes_one_stack_too() -> None:
    policy = a3c.load("breakout")
    envs = AtariVectorEnv("breakout", num_envs=2)
    stacks, _ = envs.reset(seed=0)  # [2, 4, 84, 84]
    both = policy.act(stacks, greedy=True)
    one = policy.act(stacks[0], greedy=True)
    assert isinstance(one, np.int64)
    assert one == both[0] == policy.act(np.moveaxis(stacks[0], 0, -1), greedy=True)
    assert policy.act(stacks.astype(np.int64), greedy=True).tolist() == both.tolist()
    envs.close()


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (np.random.default_rng(0).random((2, 84, 84, 4)), "are float64; expected uint8"),
        (np.zeros((2, 84, 84, 4), np.float32), "are float32; expected uint8"),
        (np.full((2, 84, 84, 4), 256), "observation 256, not from 0 to 255 .agent 0"),
        (np.full((2, 84, 84, 4), -1), "observation -1, not from 0 to 255"),
        (np.zeros((84, 84), np.uint8), r"are \[84, 84\]; expected \[N, 84, 84, 4\]"),
        (np.zeros((2, 84, 84), np.uint8), r"expected \[N, 84, 84, 4\], or \[84, 84, 4\]"),
        (np.zeros((0, 84, 84, 4), np.uint8), r"are \[0, 84, 84, 4\]"),
        (np.zeros((1, 2, 84, 84, 4), np.uint8), r"are \[1, 2, 84, 84, 4\]"),
    ],
)
def test_images_that_cannot_be_meant(given: Any, complaint: str) -> None:
    with pytest.raises(a3c.InputError, match=complaint):
        a3c.load("breakout").act(given)


@pytest.mark.parametrize(
    ("env", "given", "complaint"),
    [
        ("Start-v0", np.full((2, 3), np.nan), "cannot act on a NaN observation .agent 0"),
        ("Start-v0", [[0, 0, 0], [0, np.inf, 0]], "an infinite observation .agent 1"),
        ("Start-v0", [[0, 0, 0], [0, 1e300, 0]], "an infinite observation .agent 1"),
        ("Start-v0", np.zeros((2, 4)), r"are \[2, 4\]; expected \[N, 3\], or \[3\]"),
        ("Start-v0", 1.0, r"are one number; expected \[N, 3\]"),
        ("Start-v0", [], r"are \[0\]"),
        ("Start-v0", [[0, 0], [0]], "are a list; expected one array of float32"),
        ("Start-v0", torch.zeros(2, 3, requires_grad=True), "are a Tensor; expected one array"),
        ("Start-v0", (np.zeros(3, np.float32), {}), "are a tuple; expected one array"),
        ("Start-v0", {"x": 1}, "are a dict; expected one array of float32"),
        ("Start-v0", ["a", "b", "c"], "expected float32"),
        ("Start-v0", None, "are a NoneType; expected one array"),
        ("Seats-v0", [3, 16], "observation 16, not from 0 to 15 .agent 1"),
        ("Seats-v0", -1, "observation -1, not from 0 to 15"),
        ("Seats-v0", 2**63, "observation 9223372036854775808, not from 0 to 15"),
        ("Seats-v0", 3.5, "are float64; expected int64"),
        ("Seats-v0", np.eye(16)[:2], r"are \[2, 16\]; expected \[N\], or one number"),
        ("Seats-v0", np.zeros((2, 16), int), r"are \[2, 16\]; expected \[N\], or one number"),
        ("SeatsFromFive-v0", 4, "observation 4, not from 5 to 20"),
        ("Bytes-v0", np.full((2, 128), 0.5), "are float64; expected uint8"),
        ("Bytes-v0", np.full((2, 128), np.nan), "are float64; expected uint8"),
        ("Bytes-v0", np.full((2, 128), 300), "observation 300, not from 0 to 255"),
    ],
)
def test_observations_that_cannot_be_meant(
    env: str, given: Any, complaint: str, trained: Trained
) -> None:
    policy = a3c.load(trained(env))
    with pytest.raises(a3c.InputError, match=complaint):
        policy.act(given)


def test_a_recurrent_policy_remembers_so_many_agents(tmp_path: Path) -> None:
    policy = a3c.load(train("Start-v0", tmp_path, recurrent=True))
    policy.act(np.zeros((3, 3)))
    for other in (np.zeros((2, 3)), np.zeros(3)):
        with pytest.raises(a3c.InputError, match=r"agents; expected 3, .* reset\(\) forgets"):
            policy.act(other)
    assert len(policy.act(np.zeros((3, 3)))) == 3
    policy.reset()
    assert policy.act(np.zeros(3)).shape == ()


def without_spaces(run: Path, folder: Path) -> Path:
    """The newest checkpoint as one from before Spec had spaces."""
    with safe_open(checkpoint.numbered(run)[0], "pt") as file:
        header = json.loads(file.metadata()["a3c"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name in ("observations", "actions"):
        del header["spec"][name]
    text = json.dumps(header)
    path = folder / "old.safetensors"
    save_file(tensors, path, {"a3c": text, "sha256": checkpoint.digest(text, tensors)})
    return path


def test_a_checkpoint_without_spaces_takes_the_environments(
    trained: Trained, tmp_path: Path
) -> None:
    run = trained("Start-v0")
    old, new = a3c.load(without_spaces(run, tmp_path)), a3c.load(run)
    assert checkpoint.load(tmp_path / "old.safetensors").spec.actions is None
    assert old.spec == new.spec
    given = np.zeros((3, 3))
    assert old.act(given, greedy=True).tolist() == new.act(given, greedy=True).tolist()


@pytest.mark.parametrize(
    ("env", "given", "expected"),
    [
        ("Start-v0", np.zeros((3, 3)), [0, 1, 2]),
        ("Seats-v0", np.eye(16)[:3], [0, 1]),
        ("Image-v0", np.zeros((3, 24, 28, 3), np.uint8), [0, 1]),
    ],
)
def test_a_checkpoint_without_spaces_and_environment_speaks_the_networks_language(
    env: str,
    given: Any,
    expected: list[int],
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = without_spaces(trained(env), tmp_path)
    monkeypatch.delitem(gymnasium.registry, env)
    actions = a3c.load(path).act(given)
    assert actions.dtype == np.int64
    assert set(actions.tolist()) <= set(expected)


def test_bytes_that_were_read_unscaled_still_are(trained: Trained, tmp_path: Path) -> None:
    """The network of a checkpoint without spaces has seen 0 to 255."""
    policy = a3c.load(without_spaces(trained("Bytes-v0"), tmp_path))
    given = np.full((1, 128), 200, np.uint8)
    assert policy.coding.encode(policy.coding.batch(given)[0]).max() == 200


def test_the_projects_own_id_is_the_game(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = "--total-agent-steps 40 --num-envs 2 --num-threads 1"
    assert cli.main(["train", "atari2600/Breakout-v5", *words.split()]) == 0
    saved = checkpoint.newest(tmp_path / "runs" / "latest").checkpoint
    assert saved.spec.stacked
    assert saved.config.clip_rewards  # the preset of Atari
    assert a3c.load("atari2600/Pong-v5").config == a3c.load("pong").config


def test_specs_fit_into_a_checkpoint(trained: Trained) -> None:
    """Infinite bounds too, as JSON that is JSON."""
    run = trained("OneSided-v0")
    with safe_open(checkpoint.numbered(run)[0], "pt") as file:
        text = file.metadata()["a3c"]
    assert "Infinity" not in text
    saved = checkpoint.newest(run).checkpoint.spec
    assert json.loads(json.dumps(dataclasses.asdict(saved))) == json.loads(text)["spec"]
    assert saved.actions is not None
    assert saved.actions.bounds()[0].tolist() == [0, -np.inf]


# ---- predict, as stable-baselines3 spells it ----


def test_predict_has_the_arguments_of_stable_baselines3() -> None:
    parameters = inspect.signature(a3c.Policy.predict).parameters
    assert {name: each.default for name, each in list(parameters.items())[1:]} == {
        "observation": inspect.Parameter.empty,
        "state": None,
        "episode_start": None,
        "deterministic": False,
    }


@pytest.mark.parametrize("name", ["Start", "Tight", "Scalars", "Seats", "ChannelsFirst"])
def test_predict_is_act(name: str, trained: Trained) -> None:
    """Greedy or drawn, of one observation or of several; without an LSTM there is no state."""
    run = trained(f"{name}-v0")
    acting, predicting = a3c.load(run, seed=3), a3c.load(run, seed=3)
    space = gymnasium.make(f"{name}-v0").observation_space
    space.seed(5)
    one, several = space.sample(), np.stack([space.sample() for _ in range(3)])
    for deterministic in (True, False):
        for observation in (one, several):
            expected = acting.act(observation, greedy=deterministic)
            starts = np.ones(3, bool)  # which a policy without an LSTM has no need of
            found, state = predicting.predict(observation, None, starts, deterministic)
            assert state is None
            assert type(found) is type(expected)
            np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("Tight-v0", tmp_path_factory.mktemp("recurrent"), recurrent=True)


def test_predict_gives_its_memory_away(recurrent: Path) -> None:
    """It keeps none, and leaves that of `act` alone; an episode that begins has none."""
    policy, other = a3c.load(recurrent), a3c.load(recurrent)
    observations = np.random.default_rng(1).uniform(-1, 1, (4, 2, 3)).astype(np.float32)
    before = policy.act(observations[3], greedy=True)
    state, starts = None, np.ones(2, bool)
    for step in range(3):
        actions, state = policy.predict(observations[step], state, starts, deterministic=True)
        np.testing.assert_array_equal(actions, other.act(observations[step], greedy=True))
        assert state is not None
        assert [(part.shape, str(part.dtype)) for part in state] == [((2, 256), "float32")] * 2
        starts = np.zeros(2, bool)
    kept = [part.copy() for part in state or ()]
    half, _ = policy.predict(observations[3], state, [True, False], True)
    going_on, _ = policy.predict(observations[3], kept, None, True)  # a list does as well
    assert all(map(np.array_equal, kept, state or ()))  # what was given is not written to
    np.testing.assert_array_equal(half[0], before[0])
    np.testing.assert_array_equal(half[1], going_on[1])
    assert not np.array_equal(half[0], going_on[0])
    other.reset()
    other.act(observations[3], greedy=True)
    np.testing.assert_array_equal(
        policy.act(observations[0], greedy=True), other.act(observations[0], greedy=True)
    )


def test_predict_takes_one_agent_with_its_memory(recurrent: Path) -> None:
    policy = a3c.load(recurrent)
    action, state = policy.predict(np.zeros(3), None, np.ones(1, bool), True)
    assert action.shape == (2, 3)
    for start in (True, np.array([True])):
        again, _ = policy.predict(np.zeros(3), state, start, True)
        np.testing.assert_array_equal(again, action)
    assert not np.array_equal(policy.predict(np.zeros(3), state, None, True)[0], action)


@pytest.mark.parametrize(
    ("state", "start", "complaint"),
    [
        (np.zeros((2, 3, 256)), None, r"state has \[3, 256\], \[3, 256\]; expected two arrays"),
        (np.zeros((2, 256)), None, r"state has \[256\], \[256\]; expected two arrays \[2, 256\]"),
        ((np.zeros((2, 256)),), None, r"state has \[2, 256\]; expected two arrays"),
        ("hidden", None, "state has no arrays of numbers; expected two arrays"),
        (7, None, "state has no arrays of numbers; expected two arrays"),
        (np.zeros((2, 2, 256)), np.ones(3), r"episode_start has \[3\]; expected one array \[2\]"),
        (np.zeros((2, 2, 256)), True, r"episode_start has \[\]; expected one array \[2\]"),
        (np.zeros((2, 2, 256)), [[1], [1, 2]], "episode_start has no arrays of numbers"),
    ],
)
def test_a_state_that_cannot_be_meant(
    state: Any, start: Any, complaint: str, recurrent: Path
) -> None:
    with pytest.raises(a3c.InputError, match=complaint):
        a3c.load(recurrent).predict(np.zeros((2, 3)), state, start)


def test_predict_refuses_what_act_refuses(trained: Trained) -> None:
    policy = a3c.load(trained("Start-v0"))
    with pytest.raises(a3c.InputError, match=r"are \[2, 4\]; expected \[N, 3\]"):
        policy.predict(np.zeros((2, 4)))
    with pytest.raises(a3c.InputError, match="cannot act on a NaN observation"):
        policy.predict(np.full(3, np.nan))


@pytest.mark.parametrize("memory", [False, True])
def test_stable_baselines3_evaluates_a_policy(
    memory: bool, trained: Trained, recurrent: Path
) -> None:
    """The real one: an environment of ours pays 1 for each of 20 steps."""
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    run = recurrent if memory else trained("Tight-v0")
    envs = make_vec_env("Tight-v0", n_envs=2)
    assert evaluate_policy(a3c.load(run), envs, n_eval_episodes=3) == (20.0, 0.0)


def test_stable_baselines3_evaluates_a_model_that_ships() -> None:
    """On its own wrappers, [N, 84, 84, 4], with the whole game as the episode."""
    pytest.importorskip("stable_baselines3")
    pytest.importorskip("cv2")
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecFrameStack

    options = {"frameskip": 1, "repeat_action_probability": 0.0, "max_num_frames_per_episode": 2000}
    envs = make_atari_env("atari2600/Breakout-v5", n_envs=2, seed=1, env_kwargs=options)
    mean, _ = evaluate_policy(
        a3c.load("breakout"), VecFrameStack(envs, 4), n_eval_episodes=2, deterministic=False
    )
    assert isinstance(mean, float)
    assert mean > 10  # in so few frames; random play has 1 in a whole game
