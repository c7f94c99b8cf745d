"""What the commands make of a model that has values of actions and no policy."""

from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch

import a3c
from a3c import cli
from a3c.command.train_options import train_options
from a3c.config import Config
from a3c.errors import InputError
from a3c.games import SAMPLED_EPSILON
from a3c.presets import preset
from a3c.results import report
from a3c.results.play import PlayOptions, play
from a3c.run import log
from a3c.train import train
from tests.a3c.test_train import small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one-step Sarsa, evaluated as it went."""
    config = small(
        tmp_path_factory.mktemp("runs"),
        method="one-step-sarsa",
        total_agent_steps=2000,
        evaluate_every=1000,
        evaluate_episodes=2,
    )
    return train(config, quiet=True).folder


def observations(count: int) -> Any:
    return np.random.default_rng(0).normal(size=(count, 4)).astype(np.float32)


def test_greedy_is_greedy_in_the_action_values(run: Path) -> None:
    policy = a3c.load(run, "cpu")
    seen = observations(500)
    (values,), _ = policy.network(torch.from_numpy(seen), None)
    assert policy.act(seen, greedy=True).tolist() == values.argmax(-1).tolist()


def test_predict_acts_alike(run: Path) -> None:
    policy, seen = a3c.load(run, "cpu"), observations(500)
    actions, state = policy.predict(seen, deterministic=True)
    assert state is None
    assert actions.tolist() == policy.act(seen, greedy=True).tolist()


def test_sampled_is_greedy_but_for_one_random_action_in_twenty(run: Path) -> None:
    policy = a3c.load(run, "cpu")
    seen = observations(20_000)
    others = (policy.act(seen) != policy.act(seen, greedy=True)).mean()
    # of the random actions a half is the best one; three standard deviations are 0.0033
    assert others == pytest.approx(SAMPLED_EPSILON / 2, abs=0.0033)
    one, other = (a3c.load(run, "cpu", seed=seed).act(seen) for seed in (0, 0))
    assert one.tolist() == other.tolist()


@pytest.mark.parametrize(
    ("policy", "asked", "epsilon"),
    [("sample", None, 0.05), ("greedy", None, 0.01), ("sample", 0.0, 0.0), ("greedy", 0.5, 0.5)],
)
def test_scores_state_the_epsilon(
    run: Path, tmp_path: Path, policy: Any, asked: float | None, epsilon: float
) -> None:
    options = PlayOptions(
        str(run), episodes=2, policy=policy, epsilon=asked, film=False, out=str(tmp_path / "play")
    )
    scores = play(options, quiet=True)
    assert scores["protocol"]["epsilon"] == epsilon
    assert scores["protocol"]["policy"] == policy


def test_with_no_random_actions_both_policies_are_the_same(run: Path, tmp_path: Path) -> None:
    returns = [
        play(
            PlayOptions(str(run), episodes=5, policy=policy, epsilon=0.0, film=False,
                        out=str(tmp_path / policy)),
            quiet=True,
        )["returns"]
        for policy in ("sample", "greedy")
    ]  # fmt: skip
    assert returns[0] == returns[1]


def test_it_is_evaluated_plotted_and_reported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(log.read_evaluations(run)) == 2
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plot", str(run), "--out", "curves.png"]) == 0
    assert cli.main(["report", str(run), "--out", "report.html"]) == 0
    page = (tmp_path / "report.html").read_text()
    assert '"method": "Asynchronous one-step Sarsa"' in page
    assert set(report.METHOD_WORDS) == set(get_args(get_type_hints(Config)["method"]))


@pytest.mark.parametrize("name", ["one-step-q", "one-step-sarsa", "n-step-q"])
def test_the_reports_command_repeats_the_run(name: str) -> None:
    """Without what the method does not read, which could not be given."""
    for config in (preset(name), preset("fast", method=name), preset("control", method=name)):
        words = report.command(config).split()[2:]
        assert alike(train_options(words).config, config)
    assert f"--preset {name}" in report.command(preset(name))


def alike(one: Config, other: Config) -> bool:
    unread = {"gae_lambda", "ent_coef", "ent_final_fraction", "vf_coef", "runs_dir"}
    return {**vars(one), **dict.fromkeys(unread)} == {**vars(other), **dict.fromkeys(unread)}


def test_a_study_compares_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = '[base]\nenv = "CartPole-v1"\ntotal_agent_steps = 1200\n'
    spec += '[grid]\nmethod = ["a3c", "n-step-q"]\n'
    (tmp_path / "spec.toml").write_text(spec)
    assert cli.main(["study", "spec.toml", "--out", "out"]) == 0
    table = (tmp_path / "out" / "study.csv").read_text()
    assert "a3c" in table
    assert "n-step-q" in table


def test_a_file_names_what_the_method_reads(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('env = "CartPole-v1"\nent_coef = 0.5\n')
    words = ["--config", str(path)]
    assert train_options(words).config.ent_coef == 0.5
    with pytest.raises(InputError, match="--method n-step-q does not read it"):
        train_options([*words, "--method", "n-step-q"])
    path.write_text('env = "CartPole-v1"\nmethod = "n-step-q"\ntarget_emulator_frames = 50\n')
    assert train_options(words).config.target_emulator_frames == 50
