"""What a run starts from: a longer one, another model's parameters, and what is refused."""

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from a3c.config import Config
from a3c.envs.protocol import Spec
from a3c.envs.spaces import space_of
from a3c.errors import InputError
from a3c.presets import preset
from a3c.run import checkpoint, log, models, provenance, start
from a3c.schedules import learning_rate
from a3c.train import train
from tests.a3c.test_train import final, games, small


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return small(tmp_path_factory.mktemp("runs"), total_agent_steps=1000)


@pytest.fixture(scope="module")
def run(config: Config) -> Path:
    """A finished run that no test changes."""
    return train(config, quiet=True).folder


def everything(folder: Path) -> dict[str, bytes]:
    """All files of a folder but the lock, which is empty again."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_can_be_made_longer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = small(tmp_path, total_agent_steps=2000)
    long = replace(short, total_agent_steps=4000)
    run = train(short, quiet=True)
    resumed = train(long, resume=str(run.folder))
    assert resumed.finished
    assert resumed.agent_steps >= 4000
    assert resumed.folder == run.folder.resolve()
    before, after = (learning_rate(each, run.agent_steps) for each in (short, long))
    assert after > before
    expected = "4,000 agent steps in place of 2,000: the learning rate goes from "
    assert f"{expected}{before:.3g} to {after:.3g}" in capsys.readouterr().out
    assert checkpoint.newest(run.folder).checkpoint.config == long
    assert Config(**json.loads((run.folder / "config.json").read_text())) == long
    steps = [record["agent_steps"] for record in log.read(run.folder / "metrics.jsonl")]
    assert steps == sorted(steps)
    assert max(steps) == resumed.agent_steps
    # from now on the new length is the run's
    assert train(long, resume=run.folder, quiet=True).agent_steps == resumed.agent_steps


def test_what_a_longer_run_does_to_what_falls() -> None:
    saved = preset("fast", ent_coef=0.5, ent_final_fraction=0.0)  # 10 million agent steps
    long = replace(saved, total_agent_steps=20_000_000)
    assert start.new_length(long, saved, 5_000_000) == (
        "20,000,000 agent steps in place of 10,000,000: the learning rate goes from 0.00052 to "
        "0.00125, the weight of the entropy bonus goes from 0.25 to 0.375"
    )
    saved, long = (replace(each, lr_schedule="constant") for each in (saved, long))
    assert start.new_length(long, saved, 5) == "20,000,000 agent steps in place of 10,000,000"


def test_options_that_another_number_of_nodes_would_have_changed_are_named() -> None:
    saved = preset("fast", num_threads=2, mode="sync")
    assert start.kept_options(replace(saved, nodes=4, total_agent_steps=10), saved) == [
        "the run keeps --minibatches 2, --correction none; "
        "a new one of so many nodes would have --minibatches 8, --correction vtrace"
    ]
    given = replace(saved, minibatches=1, correction="vtrace", lr=1e-3, rmsprop_decay=0.9)
    for config in (saved, given, replace(saved, mode="async", correction="vtrace", minibatches=1)):
        assert start.kept_options(config, config) == []
    assert start.kept_options(replace(given, nodes=4), given) == []


def test_a_longer_run_of_constant_lr_equals_one_that_was_as_long_from_the_start(
    tmp_path: Path,
) -> None:
    whole = small(tmp_path, lr_schedule="constant", total_agent_steps=3008)
    part = train(replace(whole, total_agent_steps=992), quiet=True)
    assert part.agent_steps == 992
    resumed = train(whole, resume=part.folder, quiet=True)
    once = train(whole, quiet=True)
    assert torch.equal(final(resumed)["parameters"], final(once)["parameters"])
    assert games(resumed.folder) == games(once.folder)


def test_a_finished_run_says_so_and_nothing_is_changed(
    run: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(run)
    again = train(config, resume=run)
    said = capsys.readouterr().out
    assert "already finished: 1,024 of 1,000 agent steps" in said
    assert "--total-agent-steps MORE makes it longer" in said
    assert said.splitlines()[-1] == f"play it: a3c play {run.resolve()}"
    assert again == replace(again, folder=run.resolve(), agent_steps=1024, finished=True)
    assert again.episodes == len(games(run))
    assert everything(run) == before


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lr": 0.5}, "--lr 0.5 contradicts the run to resume, which has 0.003"),
        ({"env": "Acrobot-v1"}, "the environment Acrobot-v1 contradicts"),
        ({"num_envs": 5}, "--num-envs 5 contradicts"),
        ({"seed": 2}, "--seed 2 contradicts"),
        ({"run_name": "other"}, "--run-name other contradicts"),
        ({"total_agent_steps": 1023}, "1,023; expected at least the 1,024 that the run has done"),
    ],
)
def test_python_is_checked_as_the_command_line_is(
    run: Path, config: Config, changes: dict[str, object], expected: str
) -> None:
    before = everything(run)
    for resume in (run, str(run)):
        with pytest.raises(InputError, match=expected):
            train(replace(config, **changes), resume=resume, quiet=True)  # type: ignore[arg-type]
    assert everything(run) == before


def test_what_changes_nothing_that_is_learned_is_free(tmp_path: Path) -> None:
    config = small(tmp_path, total_agent_steps=500)
    folder = train(config, quiet=True).folder
    free = {"log_every_seconds": 0.5, "checkpoint_every_seconds": 9.0, "device": "cpu"}
    free |= {"runs_dir": "elsewhere", "total_agent_steps": 1000}
    changed = replace(config, **free)  # type: ignore[arg-type]
    assert train(changed, resume=folder, quiet=True).finished
    assert checkpoint.newest(folder).checkpoint.config == changed


def test_a_file_to_resume_says_what_to_do(run: Path, config: Config) -> None:
    path = checkpoint.numbered(run)[0]
    for resume in (path, str(path)):
        with pytest.raises(InputError) as caught:
            train(config, resume=resume, quiet=True)
        assert f"--resume {run} goes on from its newest checkpoint" in str(caught.value)
        assert f"--from {path} starts a new run" in str(caught.value)
    with pytest.raises(InputError, match=f"part of a run folder; expected {run}"):
        train(config, resume=run / "checkpoints", quiet=True)


def test_parameters_alone_cannot_be_resumed(run: Path, config: Config, tmp_path: Path) -> None:
    saved = checkpoint.newest(run).checkpoint
    parameters = {"parameters": saved.tensors["parameters"]}
    checkpoint.folder(tmp_path).mkdir()
    checkpoint.save_into(tmp_path, saved._replace(tensors=parameters))
    with pytest.raises(InputError, match=r"has parameters alone, no run to resume; --from"):
        train(config, resume=tmp_path, quiet=True)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda text: text.replace("0.003", "0.5"), "--lr 0.003, not 0.5"),
        (lambda text: "[1, 2]", "config.json cannot be read"),
        (lambda text: text[:50], "config.json cannot be read"),
        (lambda text: text.replace('"log_every_seconds": 0.2', '"log_every_seconds": 7'), None),
        (lambda text: text.replace('"run_name": "",', ""), None),
    ],
)
def test_a_config_json_edited_by_hand_is_named_and_written_anew(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[str], str],
    expected: str | None,
) -> None:
    config = small(tmp_path, total_agent_steps=500)
    folder = train(config, quiet=True).folder
    path = folder / "config.json"
    spoiled = spoil(path.read_text())
    assert spoiled != path.read_text()
    path.write_text(spoiled)
    longer = replace(config, total_agent_steps=1000)
    train(longer, resume=folder)
    said = capsys.readouterr().out
    assert ("config.json" in said) == (expected is not None)
    assert expected is None or expected in said
    assert Config(**json.loads(path.read_text())) == longer


def test_of_a_game_with_other_actions_a_line_names_them() -> None:
    model = models.find("pong")
    to_qbert = start.origin("pong", model, preset("fast", env="qbert"))
    assert to_qbert.endswith(
        "agent steps on pong; its actions are NOOP, FIRE, RIGHT, LEFT, RIGHTFIRE, LEFTFIRE, those "
        "of qbert NOOP, FIRE, UP, RIGHT, LEFT, DOWN"
    )
    for alike in ("pong", "PongNoFrameskip-v4", "carnival"):
        assert "NOOP" not in start.origin("pong", model, preset("fast", env=alike))


def test_a_new_run_from_a_models_parameters(
    run: Path, config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = final_parameters(run)
    # an lr of almost nothing: what the new run begins with is what it ends with
    quiet_lr = replace(config, lr=1e-30, total_agent_steps=32, runs_dir=str(tmp_path))
    best = tmp_path / "best.safetensors"
    best.write_bytes(checkpoint.numbered(run)[0].read_bytes())
    for start_from in (run, str(best)):
        new = train(quiet_lr, start_from=start_from)
        assert f"parameters of {start_from}: 1,024 agent steps" in capsys.readouterr().out
        assert new.agent_steps == 32
        assert torch.equal(final_parameters(new.folder), trained)
        assert provenance.read(new.folder)[0]["start_from"] == str(start_from)
    newer = train(quiet_lr, quiet=True, start_from=tmp_path / "latest")  # where that led by then
    assert provenance.read(newer.folder)[0]["start_from"] == str(new.folder)
    scratch = train(quiet_lr, quiet=True)
    assert not torch.equal(final_parameters(scratch.folder), trained)
    assert "start_from" not in provenance.read(scratch.folder)[0]


def final_parameters(folder: Path) -> torch.Tensor:
    return checkpoint.newest(folder).checkpoint.tensors["parameters"]


def test_a_new_run_from_a_model_that_ships_with_its_background(tmp_path: Path) -> None:
    shipped = models.find("breakout")
    tiny = {"num_threads": 1, "num_envs": 2, "total_agent_steps": 10, "rollout_length": 5}
    same = {"network": shipped.config.network}
    config = preset("fast", lr=1e-30, runs_dir=str(tmp_path), **tiny, **same)
    new = train(config, quiet=True, start_from="breakout")
    assert torch.equal(final_parameters(new.folder), shipped.tensors["parameters"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"env": "Acrobot-v1"}, "trained on CartPole-v1, with observation shape (4,); expected (6"),
        ({"recurrent": True}, "False, the new run True; expected the same, --no-recurrent"),
        (
            {"network": "paper-vector"},
            "has --network mlp, the new run paper-vector; expected the same, --network mlp",
        ),
        ({"clip_rewards": True}, "has --clip-rewards False, the new run True"),  # another scale
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_anything_is_created(
    run: Path, config: Config, tmp_path: Path, changes: dict[str, object], expected: str
) -> None:
    new = replace(config, runs_dir=str(tmp_path / "runs"), **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError) as caught:
        train(new, quiet=True, start_from=run)
    assert expected in str(caught.value)
    with pytest.raises(InputError, match="no model 'nothing'"):
        train(new, quiet=True, start_from="nothing")
    with pytest.raises(InputError, match="--from contradicts --resume"):
        train(config, quiet=True, resume=run, start_from=run)
    assert not list(tmp_path.iterdir())


def test_a_model_of_another_size_is_refused(run: Path, config: Config, tmp_path: Path) -> None:
    saved = checkpoint.newest(run).checkpoint
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, saved._replace(tensors={"parameters": torch.zeros(7)}))
    with pytest.raises(InputError, match="the model has 7 parameters; expected"):
        train(config, quiet=True, start_from=path)


def test_what_the_network_does_not_have_does_not_matter() -> None:
    pixels = models.find("breakout").spec
    vectors = replace(pixels, pixels=False, observation_shape=(4,))
    one, other = preset("fast"), preset("fast", network="slim", std="dependent")
    assert start.network_of(one, pixels) == start.network_of(other, pixels)  # discrete: no std
    continuous = replace(vectors, discrete=False)
    dependent = preset("fast", std="dependent")
    assert start.network_of(one, continuous) != start.network_of(dependent, continuous)
    changed = preset("fast", scale_pixels=False, subtract_background=False)
    assert start.network_of(one, vectors) == start.network_of(changed, vectors)
    for name in ("scale_pixels", "subtract_background"):
        changed = preset("fast", **{name: False})
        assert start.network_of(one, pixels) != start.network_of(changed, pixels)


def spec_of_spaces(observations: spaces.Box[Any] | spaces.Discrete, **changes: Any) -> Spec:
    seen = space_of(observations)
    return replace(Spec((3,), False, False, True, 2, seen, space_of(spaces.Discrete(2))), **changes)


BYTES, FLOATS = spaces.Box(0, 10, (3,), np.int64), spaces.Box(-1, 1, (3,))


@pytest.mark.parametrize(
    ("had", "has", "expected"),
    [
        (BYTES, spaces.Box(0, 1000, (3,), np.int64), r"Box\(0, 10, \(3,\), int64\); expected Box"),
        (spaces.Discrete(3), FLOATS, r"Discrete\(3, start=0\); expected Box\(-1, 1, "),
        (FLOATS, BYTES, r"observations Box\(-1, 1, \(3,\), float32\); expected"),
        (FLOATS, spaces.Box(-2, 9, (3,)), None),  # as they are
        (BYTES, spaces.Box(0, 10, (3,), np.int32), None),
        (spaces.Discrete(3), spaces.Discrete(3, start=5), None),
    ],
)
def test_observations_that_mean_something_else_by_now(
    had: spaces.Box[Any], has: spaces.Box[Any], expected: str | None
) -> None:
    refused = nullcontext() if expected is None else pytest.raises(InputError, match=expected)
    with refused:
        start.check_spec("the model", "My-v0", spec_of_spaces(had), "My-v0", spec_of_spaces(has))


def test_what_is_easily_overlooked_in_an_environment_of_ones_own() -> None:
    def said(config: Config, **changes: Any) -> list[str]:
        lines = start.warnings_of(config, spec_of_spaces(FLOATS, **changes))
        return [line.split()[0] for line in lines]

    assert said(preset("control", env="CartPole-v1")) == []
    assert said(preset("fast", env="CartPole-v1")) == ["learning"]
    assert said(preset("fast", env="CartPole-v1", clip_rewards=False)) == []
    assert said(preset("fast")) == []
    assert said(preset("control", env="CartPole-v1"), pixels=True) == ["the"]
    assert said(preset("control", env="CartPole-v1", lr=1e-3), pixels=True) == []  # tuned
    assert said(preset("fast", env="CartPole-v1", clip_rewards=False), pixels=True) == []
    config = preset("control", env="Pendulum-v1")
    far = ["some"]
    most = float(np.finfo(np.float64).max)  # as good as no bound
    for low, high, expected in (
        (-most, most, []),
        (0, 3.4e38, []),
        *((-1, 1, []), (-9, 9, []), (0, 1, []), (-99, 99, far), (0, 0.1, far)),
        *((20, 30, far), (-7, -5, far), (1000, np.inf, far), (-np.inf, -2, far), (0, np.inf, [])),
    ):
        box = spaces.Box(np.array([low, -np.inf]), np.array([high, np.inf]), dtype=np.float64)
        assert said(config, discrete=False, actions=space_of(box)) == expected


def test_a_model_that_is_not_there_is_named_before_games_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For which the emulator may have to be compiled."""
    monkeypatch.setattr(sys.modules["a3c.train"], "Node", None)
    with pytest.raises(InputError, match="no model 'nowhere'"):
        train(small(tmp_path), start_from="nowhere", quiet=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"nodes": 2},
        {"cluster": "auto"},
        {"device": "cuda"},
        {"cuda_graphs": "off"},
        {"checkpoint_every_seconds": 3.0},
        {"log_every_seconds": 3.0},
        {"runs_dir": "elsewhere"},
        {"evaluate_every": 1000},
        {"evaluate_every": 1000, "evaluate_episodes": 3},
    ],
)
def test_where_and_how_a_run_goes_on_may_change(changes: dict[str, Any]) -> None:
    """docs/running.md, "Going on"."""
    saved = preset("fast")
    start.check_resumable(replace(saved, **changes), saved, 0)
    with pytest.raises(InputError, match=r"--lr 1\.0 contradicts the run to resume"):
        start.check_resumable(replace(saved, lr=1.0, **changes), saved, 0)
