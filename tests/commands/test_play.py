"""Playing a trained model: whole games, the table, scores.json, films that show the game."""

import io
import itertools
import json
import os
import shutil
import signal
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ale_py.vector_env import AtariVectorEnv
from gymnasium import spaces

import a3c
import atari2600
from a3c import InputError, cli
from a3c.games import Episode, make_games, play_episodes
from a3c.results import play as module
from a3c.results import progress
from a3c.results.play import PlayOptions, play
from a3c.results.play_folder import default_folder
from a3c.results.policy import Policy
from a3c.results.scores import human_normalised
from a3c.run import checkpoint, models
from a3c.run.terminal import Screen
from a3c.train import train
from benchmarks import long_games
from tests.a3c.test_train import small
from tests.commands.test_film import frames_of
from tests.playable import (
    Continuous,
    HalfNeverEnds,
    Interrupted,
    InterruptedEarly,
    NotNumbers,
    Playable,
    model_of,
    registered,
)


@pytest.fixture(scope="module")
def breakout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Breakout run that has learned nothing, with games cut short."""
    config = a3c.Config(
        env="breakout",
        num_threads=1,
        num_envs=2,
        total_agent_steps=20,
        max_episode_frames=1200,
        sticky_actions=0.25,
        runs_dir=str(tmp_path_factory.mktemp("runs")),
    )
    return a3c.train(config, quiet=True).folder


def test_play_breakout(breakout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["play", str(breakout), "--episodes", "3", "--out", str(tmp_path), "--seed", "5"]
    assert cli.main(words) == 0
    said = capsys.readouterr().out
    scores = json.loads((tmp_path / "scores.json").read_text())
    returns = scores["returns"]
    assert len(returns) == scores["episodes"] == 3
    assert scores["mean"] == pytest.approx(np.mean(returns))
    assert scores["std"] == pytest.approx(np.std(returns, ddof=1))
    assert (scores["min"], scores["max"]) == (min(returns), max(returns))
    assert scores["human_normalised"] == pytest.approx((scores["mean"] - 1.7) / (30.5 - 1.7))
    assert scores["protocol"]["sticky_actions"] == 0.25
    for word in ("mean", "std", "min", "max", "mean length", "human-normalised"):
        assert word in said
    lengths = scores["lengths_agent_steps"]
    best = lengths[int(np.argsort(returns, kind="stable")[-1])]
    median = lengths[int(np.argsort(returns, kind="stable")[1])]
    for name, length in (("best", best), ("median", median)):
        frames = frames_of(tmp_path / f"{name}.mp4")
        assert frames.shape == (length, 210, 160, 3)
        # colours: the top rows of Breakout's wall are red
        wall = frames[0][60, 20:140].mean(0)
        assert wall[0] > 1.5 * wall[2]
        # and something moves
        assert (frames[0] != frames[-1]).any()


def test_the_same_seed_plays_the_same_games(breakout: Path, tmp_path: Path) -> None:
    options = PlayOptions(str(breakout), episodes=2, out=str(tmp_path), seed=3, epsilon=0.1)
    assert play(options)["returns"] == play(options)["returns"]


def test_python_use(breakout: Path) -> None:
    policy = a3c.load(breakout)
    envs = AtariVectorEnv("breakout", num_envs=3)
    observations, _ = envs.reset(seed=0)
    for _ in range(5):
        actions = policy.act(observations)
        assert actions.shape == (3,)
        observations, *_ = envs.step(actions)
    greedy = policy.act(observations, greedy=True)
    assert np.array_equal(greedy, policy.act(observations, greedy=True))
    envs.close()


def test_layouts_of_frames_agree() -> None:
    """By a policy that has learned what to do where: its actions differ from frame to frame."""
    policy, random = a3c.load("breakout"), np.random.default_rng(0)
    games = atari2600.AtariVectorEnv("breakout", 8)
    first, _ = games.reset(seed=0)  # [8, 4, 84, 84]
    for _ in range(50):
        first, *_ = games.step(random.integers(0, 4, 8))
    actions = policy.act(first, greedy=True)
    assert len(set(actions)) > 1
    assert np.array_equal(actions, policy.act(np.moveaxis(first, 1, -1), greedy=True))
    assert not np.array_equal(actions, policy.act(first.swapaxes(2, 3), greedy=True))
    assert not np.array_equal(actions, policy.act(first[:, ::-1], greedy=True))


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_play_control(env: str, recurrent: bool, tmp_path: Path) -> None:
    config = a3c.preset(
        "control",
        env=env,
        num_threads=1,
        total_agent_steps=300,
        recurrent=recurrent,
        runs_dir=str(tmp_path / "runs"),
    )
    run = a3c.train(config, quiet=True)
    scores = play(PlayOptions(str(run.folder), episodes=4, out=str(tmp_path / "out")))
    assert len(scores["returns"]) == 4
    assert scores["human_normalised"] is None
    if env == "CartPole-v1":
        assert scores["returns"] == scores["lengths_agent_steps"]
    policy = a3c.load(run.folder)
    size = policy.spec.observation_shape[0]
    actions = policy.act(np.zeros((5, size), np.float32))
    assert len(actions) == 5


def test_human_normalised_score() -> None:
    assert human_normalised("pong", 14.6) == 1.0
    assert human_normalised("pong", -20.7) == 0.0
    assert human_normalised("adventure", 1.0) is None


def read(out: Path) -> dict[str, Any]:
    """scores.json, which must be JSON and no more: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads((out / "scores.json").read_text(), parse_constant=refuse)


def test_scores_say_which_model_they_are_of(breakout: Path, tmp_path: Path) -> None:
    play(PlayOptions(str(breakout), 1, str(tmp_path / "run"), film=False))
    newest = checkpoint.newest(breakout)
    scores = read(tmp_path / "run")
    assert scores["run"] == breakout.name
    assert scores["checkpoint_sha256"] == newest.checkpoint.sha256 != ""
    assert scores["agent_steps_trained"] == newest.checkpoint.progress["agent_steps"]
    alone = shutil.copy(newest.path, tmp_path / "alone.safetensors")
    play(PlayOptions(str(alone), 1, str(tmp_path / "file"), film=False))
    scores = read(tmp_path / "file")
    assert scores["run"] is None
    assert scores["checkpoint_sha256"] == newest.checkpoint.sha256


def test_every_model_has_a_folder_of_its_own(
    breakout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_folder(str(breakout)) == breakout / "play"
    (tmp_path / "latest").symlink_to(breakout)
    assert default_folder(str(tmp_path / "latest")) == breakout / "play"
    assert default_folder(str(checkpoint.numbered(breakout)[0])).parent == breakout
    assert default_folder(str(checkpoint.numbered(breakout)[0])) != breakout / "play"
    assert default_folder("breakout") == default_folder("ALE/Breakout-v5") == Path("play/breakout")
    assert default_folder("pong") == Path("play/pong")
    assert default_folder(str(tmp_path / "a" / "one.safetensors")) == Path("play/one")
    assert default_folder(str(tmp_path / "a" / "model.safetensors")) == Path("play/a")
    monkeypatch.chdir(breakout.parent)
    assert default_folder(breakout.name) == Path(breakout.name, "play")


def test_by_default_a_runs_scores_lie_in_its_folder(
    breakout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["play", str(breakout), "--episodes", "1", "--no-film"]) == 0
    assert f"scores: {breakout / 'play' / 'scores.json'}" in capsys.readouterr().out
    assert read(breakout / "play")["run"] == breakout.name
    assert cli.main(["play", str(breakout), "--episodes", "1", "--no-film"]) == 0


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The complaint about what could be known before a game was played."""
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("a3c: ")
    assert said.err.count("\n") == 1
    return said.err


def test_another_models_scores_are_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--out", str(out), "--episodes", "1"]
    first, second = model_of(Playable, tmp_path), model_of(NotNumbers, tmp_path)
    assert cli.main(["play", first, *words]) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert f"{out} has the scores of another model" in refused(["play", second, *words], capsys)
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert cli.main(["play", first, *words, "--seed", "3", "--no-film"]) == 0
    assert read(out)["seeds"] == [3]
    for text in ("", "[]", '{"mean": 3}', "\x80"):  # nobody knows whose these are
        (out / "scores.json").write_text(text)
        capsys.readouterr()
        said = refused(["play", first, *words], capsys)
        whose = "another model" if "mean" in text else "scores.json does not say which model's"
        assert whose in said


def made_run(folder: Path) -> Path:
    config = a3c.preset("control", env="CartPole-v1", total_agent_steps=40,
                        rollout_length=5, runs_dir=str(folder))  # fmt: skip
    return a3c.train(config, quiet=True).folder


def test_the_same_run_may_be_played_again_after_more_training(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    options = PlayOptions(str(run), 1, str(tmp_path / "out"), film=False)
    play(options)
    saved = checkpoint.newest(run).checkpoint
    checkpoint.save_into(run, saved._replace(progress={**saved.progress, "agent_steps": 80}))
    play(options)
    assert read(tmp_path / "out")["agent_steps_trained"] == 80


def test_a_run_that_was_renamed_may_be_played_again(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    play(PlayOptions(str(run), 1, film=False))
    renamed = run.rename(tmp_path / "renamed")
    saved = checkpoint.newest(renamed).checkpoint
    checkpoint.save_into(renamed, saved._replace(progress={**saved.progress, "agent_steps": 80}))
    play(PlayOptions(str(renamed), 1, film=False))
    assert read(renamed / "play")["run"] == "renamed"


def test_another_models_scores_are_not_overwritten_in_a_runs_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = made_run(tmp_path), model_of(Playable, tmp_path)
    words = ["--out", str(run / "other"), "--episodes", "1", "--no-film"]
    assert cli.main(["play", other, *words]) == 0
    capsys.readouterr()
    assert "has the scores of another model" in refused(["play", str(run), *words], capsys)


def test_a_link_that_moves_while_games_are_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As runs/latest does when another run begins."""
    run, latest = made_run(tmp_path), tmp_path / "latest"
    other = made_run(tmp_path / "elsewhere")
    moments = ("play_episodes", play_episodes), ("models.find", models.find)
    for (name, moved_by), folder in itertools.product(moments, ("play", "kept")):
        out = None if folder == "play" else str(latest / folder)
        latest.unlink()
        latest.symlink_to(run)

        def moving(*words: Any, moved_by: Any = moved_by) -> Any:
            found = moved_by(*words)
            latest.unlink()
            latest.symlink_to(other)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(f"{module.__name__}.{name}", moving)
            play(PlayOptions(str(latest), 1, film=False, out=out))
        assert not (other / folder).exists()
        assert read(run / folder)["run"] == run.name
        shutil.rmtree(run / folder)


def test_a_folder_that_cannot_be_written_is_found_before_the_games(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(Playable, tmp_path)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "full" / "best.mp4").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for out, why in {
        "file": "cannot write into the folder file: Not a directory; --out names another",
        "file/x/y": "cannot create the folder file/x/y: Not a directory; --out names another",
        "gone": "cannot write into the folder gone: No such file or directory",
        "full": "cannot write full/best.mp4: it is a folder",
    }.items():
        assert why in refused(["play", model, "--out", out], capsys)

    def read_only(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)  # root may write anywhere else
    said = refused(["play", model, "--out", "new/folder"], capsys)
    assert "cannot create the folder new/folder: Read-only file system" in said
    assert not (tmp_path / "new").exists()


def test_a_full_disk_does_not_lose_the_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    out, model = tmp_path / "out", model_of(Playable, tmp_path)
    monkeypatch.setattr(Path, "write_text", full)
    words = ["play", model, "--out", str(out)]
    assert cli.main(words) == 2
    said = capsys.readouterr()
    assert "mean length" in said.out
    assert said.err == f"a3c: cannot write {out / 'scores.json'}: No space left on device\n"
    assert not list(out.iterdir())
    (out / "best.mp4").write_bytes(b"of earlier games")
    assert cli.main(words) == 2
    assert [path.name for path in out.iterdir()] == ["best.mp4"]


def test_games_that_cannot_be_closed_do_not_lose_the_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def close(_: object) -> None:
        raise RuntimeError("it does not close")

    model = model_of(Playable, tmp_path)
    monkeypatch.setattr("a3c.games.GameEnvs.close", close)
    with pytest.raises(RuntimeError, match="it does not close"):
        play(PlayOptions(model, episodes=2, out=str(tmp_path / "out"), film=False))
    assert len(json.loads((tmp_path / "out" / "scores.json").read_text())["returns"]) == 2


def test_no_ops_are_for_atari(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--noop-max is 5; expected none, .* is no Atari game"):
        play(PlayOptions(model_of(Playable, tmp_path), noop_max=5))


def test_ctrl_c_keeps_the_games_that_had_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["play", model_of(Interrupted, tmp_path), "--episodes", "5", "--out", str(out)]
    assert cli.main(words) == 0
    assert "interrupted: 3 of 5 games had ended" in capsys.readouterr().out
    scores = read(out)
    assert scores["interrupted"]
    assert (scores["episodes"], scores["seeds"]) == (3, [0, 2, 4])
    assert scores["lengths_agent_steps"] == [10] * 3
    assert [path.name for path in out.iterdir()] == ["scores.json"]


def test_ctrl_c_before_a_game_had_ended(tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match="no game had ended, nothing is written"):
        play(PlayOptions(model_of(InterruptedEarly, tmp_path), 5, str(out)))
    assert not out.exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_games_without_an_end_are_cut_and_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--episodes", "3", "--max-agent-steps", "50", "--out", str(out), "--no-film"]
    assert cli.main(["play", model_of(HalfNeverEnds, tmp_path), *words]) == 0
    assert "cut after 50 agent steps: 1 game, seed 1\n" in capsys.readouterr().out
    assert read(out)["cut"] == [False, True, False]
    assert read(out)["lengths_agent_steps"] == [10, 50, 10]
    assert read(out)["protocol"]["max_agent_steps"] == 50


@pytest.mark.parametrize(("seed", "what"), [(0, "an infinite"), (1, "an infinite"), (2, "a NaN")])
def test_rewards_that_are_no_numbers(
    seed: int, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, model = tmp_path / "out", model_of(NotNumbers, tmp_path)
    words = ["play", model, "--out", str(out), "--episodes", "1", "--seed", str(seed)]
    said = refused(words, capsys)
    assert f"NotNumbers-v0 cannot be played: the environment returned {what} reward" in said
    assert said.endswith(f"(the game of seed {seed})\n")
    assert not out.exists()


def test_a_sign_of_life(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", 0.0)
    options = PlayOptions(
        model_of(HalfNeverEnds, tmp_path), 4, str(tmp_path / "o"), max_agent_steps=12
    )
    play(options)
    said = capsys.readouterr().out
    assert "0 of 4 games ended, agent step 1\n" in said
    assert "2 of 4 games ended, agent step 11\n" in said
    assert "filming, 3 of 12 agent steps\n" in said
    play(options, quiet=True)
    assert capsys.readouterr() == ("", "")


class OnTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class OnlyWrites:
    """As what some programs put in the place of stdout."""

    def __init__(self) -> None:
        self.kept = ""

    def write(self, text: str) -> None:
        self.kept += text

    def flush(self) -> None:
        pass

    def getvalue(self) -> str:
        return self.kept


KINDS = [(io.StringIO, "xterm"), (OnTerminal, "dumb"), (OnlyWrites, "xterm")]


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_where_nothing_can_be_drawn_again_lines_follow_each_other(
    kind: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a file whatever FORCE_COLOR says, and in the shell of Emacs."""
    monkeypatch.setattr(progress, "PLAIN_EVERY_SECONDS", 0.0)
    monkeypatch.setenv("TERM", name)
    monkeypatch.setenv("FORCE_COLOR", "1")
    screen = kind()
    with progress.Progress(Screen(file=screen)) as shown:
        shown.status("one of two")
        shown.status("two of two")
    assert screen.getvalue() == "one of two\ntwo of two\n"


def test_on_a_terminal_one_line_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "REDRAWN_EVERY_SECONDS", 0.0)
    screen = OnTerminal()
    with progress.Progress(Screen(file=screen, force_terminal=True)) as shown:
        shown.status("one of two")
        shown.say("what stays")
        shown.status("two of two")
    assert screen.getvalue().count("\n") == 2  # what stays, and the status, which is then cleared
    assert screen.getvalue().endswith("\x1b[1A\x1b[2K")


def test_a_reader_that_leaves_its_pipe_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """rich would end the process: games and scores would be lost."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        out = tmp_path / "out"
        play(PlayOptions(model_of(Playable, tmp_path), 2, str(out), film=False))
        assert read(out)["episodes"] == 2
        os.dup2(os.open(os.devnull, os.O_WRONLY), write_end)  # for what its end writes


def test_a_model_is_played_with_the_no_ops_that_it_was_trained_with(
    tmp_path: Path, breakout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[a3c.Config] = []

    def watched(config: a3c.Config, *words: Any) -> Any:
        made.append(config)
        return make_games(config, *words)

    monkeypatch.setattr("a3c.results.play.make_games", watched)
    few = replace(checkpoint.newest(breakout).checkpoint.config, noop_max=3)
    few = replace(few, runs_dir=str(tmp_path / "runs"))
    run = str(a3c.train(few, quiet=True).folder)
    for noop_max in (None, 0):
        found = play(
            PlayOptions(run, 1, str(tmp_path / "out"), noop_max=noop_max, film=False), True
        )
        expected = 3 if noop_max is None else noop_max
        assert found["protocol"]["noop_max"] == expected
        assert made.pop() == replace(few, noop_max=expected)


@pytest.mark.parametrize("policy", ["sample", "greedy"])
def test_epsilon_is_for_discrete_actions(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = model_of(Continuous, tmp_path), tmp_path / "out"
    words = ["play", model, "--policy", policy, "--episodes", "1", "--out", str(out)]
    said = refused([*words, "--epsilon", "0.1"], capsys)
    assert "--epsilon is 0.1; expected none, the actions are continuous" in said
    assert cli.main(words) == 0
    assert read(out)["protocol"]["epsilon"] == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--episodes 10001", "--episodes is 10001; expected a whole number at least 1 and at most"),
        ("--epsilon 1.5", "--epsilon is 1.5; expected a number at least 0 and at most 1"),
        ("--epsilon nan", "--epsilon is nan; expected a number"),
        ("--noop-max -1", "--noop-max is -1; expected a whole number at least 0 and at most 1000"),
        ("--max-agent-steps 0", "--max-agent-steps is 0; expected a whole number at least 1"),
        ("--seed 2147483647", "--seed is 2147483647; expected a whole number at least 0 and at"),
    ],
)
def test_ranges(words: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in refused(["play", "breakout", *words.split()], capsys)


def test_one_game_is_one_game(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--episodes", "1", "--out", str(tmp_path / "out"), "--no-film"]
    assert cli.main(["play", model_of(Playable, tmp_path), *words]) == 0
    assert " 1 whole game," in capsys.readouterr().out


def test_of_an_even_number_of_games_the_median_is_the_lower_of_the_two_in_the_middle() -> None:
    episodes = [Episode(seed, float(seed)) for seed in (3, 0, 2, 1)]
    best, median = module.best_and_median(episodes)
    assert (best.episodic_return, median.episodic_return) == (3, 1)


def test_games_and_the_draw_of_actions_have_the_seed_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_by: list[int] = []

    def policy_of(saved: checkpoint.Checkpoint, device: str, seed: int) -> Policy:
        drawn_by.append(seed)
        return Policy(saved, device, seed)

    monkeypatch.setattr(module, "Policy", policy_of)
    model = model_of(Playable, tmp_path)
    options = PlayOptions(model, 3, str(tmp_path / "out"), film=False, seed=40)
    assert play(options, quiet=True)["seeds"] == [40, 41, 42]
    assert drawn_by == [40]


def test_train_and_play_mean_the_same_no_ops(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("train", "play"):
        with pytest.raises(SystemExit):
            cli.main([command, "--help"])
        said = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "A game starts with fewer no-ops than this, drawn at random (Atari); 0 for" in said


def test_games_that_may_last_longer_than_those_of_training(tmp_path: Path) -> None:
    """benchmarks/long_games.py"""
    returns, lengths = long_games.play("pong", games=2, frames=1200)
    assert lengths.tolist() == [300, 300]
    assert (returns > -3).all()  # the model that ships; random play has -4 by then
    with pytest.raises(InputError, match="is no Atari game"):
        long_games.play(model_of(NotNumbers, tmp_path), games=2, frames=1200)


@pytest.mark.parametrize(
    ("name", "changed", "complaint"),
    [
        ("observation_space", spaces.Box(-1, 1, (4,), np.float32), r"observation shape \(3,\); ex"),
        ("action_space", spaces.Discrete(3), "num actions 2; expected 3"),
        ("action_space", spaces.Box(-1, 1, (2,), np.float32), "discrete True; expected False"),
    ],
)
def test_an_environment_that_was_changed_since(
    name: str, changed: Any, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(tmp_path, env=registered(Playable), total_agent_steps=64)
    run = train(config, quiet=True)
    monkeypatch.setattr(Playable, name, changed)
    with pytest.raises(InputError, match=f"was trained on .*, with {complaint}"):
        play(PlayOptions(str(run.folder), episodes=1), quiet=True)
    with pytest.raises(InputError, match=f"was trained on .*, with {complaint}"):
        train(replace(config, total_agent_steps=128), resume=run.folder, quiet=True)


class OneFails(NotNumbers):
    """In the game of seed 41."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        made = super().reset(seed=seed)
        self.value = np.nan if seed == 41 else 1.0
        return made


def test_a_fault_names_its_own_game(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["play", model_of(OneFails, tmp_path), "--episodes", "3", "--seed", "40"]
    said = refused([*words, "--out", str(tmp_path / "out")], capsys)
    assert said.endswith("(the game of seed 41)\n")
