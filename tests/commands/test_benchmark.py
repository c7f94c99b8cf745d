"""`a3c benchmark`: runs are scored, set beside published scores, and gone on with."""

import csv
import json
import math
import re
import shutil
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from matplotlib.figure import Figure

from a3c import cli, memory
from a3c.config import Config
from a3c.errors import InputError
from a3c.presets import preset
from a3c.results import benchmark as module
from a3c.results import study
from a3c.results.benchmark import (
    MOST_BEYOND,
    BenchmarkOptions,
    Found,
    benchmark,
    is_alike,
    is_all_there_is,
    number,
    references,
    table,
)
from a3c.results.benchmark_csv import Point, Score, read_rows
from a3c.results.output import write_csv
from a3c.results.play import PlayOptions, play
from a3c.results.play_folder import write_scores
from a3c.results.scores import PUBLISHED, human_normalised
from a3c.results.study_plan import Planned, plan, read_spec
from a3c.run import checkpoint, log, strict_json
from a3c.run.folder import Run
from a3c.train import RunFailed, train
from benchmarks import time_to_score
from benchmarks.asteroids import foreseen, to_come
from benchmarks.time_to_score import passed
from benchmarks.update_profile import PARTS, belongs
from tests.commands.made_run import make_run, record

SPEC = """
[base]
total_agent_steps = 20
num_threads = 1
num_envs = 2
rollout_length = 5
max_episode_frames = 400
[grid]
env = ["breakout", "ms_pacman"]
"""


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path


def test_runs_are_scored_and_set_beside_published_scores(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    paths = benchmark(BenchmarkOptions(str(spec), str(out), episodes=2))
    assert [path.name for path in paths] == ["scores.csv", "curves.csv", "table.md", "scores.png"]
    with paths[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["game"] for row in rows] == ["breakout", "ms_pacman"]
    for row, policy in zip(rows, ("sample", "greedy"), strict=True):
        (folder,) = out.glob(f"runs/*{row['game']}*/{row['game']}-*/benchmark-{policy}")
        played = strict_json.read(folder / "scores.json")
        assert played is not None
        assert played["protocol"]["policy"] == policy
        column = "sampled" if policy == "sample" else "greedy"
        assert float(row[column]) == played["mean"]
        assert float(row[f"{column}_std"]) == played["std"]
        assert row["agent_steps"] == str(played["agent_steps_trained"]) == "20"
        assert row["episodes"] == str(played["episodes"]) == "2"
        trained = checkpoint.newest(folder.parent).checkpoint.progress["metrics"]["seconds"]
        assert float(row["minutes"]) == round(trained / 60, 1)
    assert "| ms_pacman | 1 | " in paths[2].read_text()
    assert paths[3].stat().st_size > 1000

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("it has been played")

    with monkeypatch.context() as patch:  # given again it has nothing to do
        patch.setattr(module, "play", refused)
        before, curves = (path.read_bytes() for path in paths[:2])
        assert benchmark(BenchmarkOptions(str(spec), str(out), episodes=2)) == paths
        assert paths[0].read_bytes() == before
        for records in out.glob("runs/*/[!l]*/metrics.jsonl"):  # which somebody did not copy
            records.unlink()
        benchmark(BenchmarkOptions(str(spec), str(out), episodes=2))
        assert [path.read_bytes() for path in paths[:2]] == [before, curves]
        with pytest.raises(RunFailed, match="it has been played"):  # another protocol
            benchmark(BenchmarkOptions(str(spec), str(out), episodes=3))
        newest = checkpoint.newest(next(out.glob("runs/*breakout*/breakout-*")))
        newest.checkpoint.tensors["parameters"] += 1
        checkpoint.save(newest.path, newest.checkpoint)
        with pytest.raises(RunFailed, match="it has been played"):  # another model
            benchmark(BenchmarkOptions(str(spec), str(out), episodes=2))
    benchmark(BenchmarkOptions(str(spec), str(out), episodes=1))
    assert [each.episodes for each in read_rows(paths[0], Score)] == [1, 1]
    assert paths[1].read_bytes() == curves  # though the logs are gone


def test_an_interrupted_benchmark_keeps_what_it_has_and_goes_on(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = BenchmarkOptions(str(spec), str(tmp_path / "out"), episodes=1)

    def cut_short(options: PlayOptions, quiet: bool, stop: threading.Event) -> dict[str, object]:
        found = play(options, quiet)
        if interrupted := "ms_pacman" in options.model:
            stop.set()
        return {**found, "interrupted": interrupted}

    with monkeypatch.context() as patch:
        patch.setattr(module, "play", cut_short)
        paths = benchmark(options)
    assert "interrupted; go on: a3c benchmark " in capsys.readouterr().out
    assert [score.game for score in read_rows(paths[0], Score)] == ["breakout"]
    assert not list(tmp_path.glob("out/runs/*pacman*/ms_pacman-*/benchmark-*/scores.json"))
    benchmark(options)
    assert len(paths[0].read_text().splitlines()) == 3


def test_ctrl_c_after_the_last_game_that_is_scored_is_not_lost(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = BenchmarkOptions(str(spec), str(tmp_path / "out"), episodes=1)

    def late(*words: Any) -> Path:
        signal.raise_signal(signal.SIGINT)
        return write_scores(*words)

    with monkeypatch.context() as patch:
        patch.setattr("a3c.results.play.write_scores", late)
        benchmark(options)
    assert "interrupted; go on: a3c benchmark " in capsys.readouterr().out
    (played,) = tmp_path.glob("out/runs/*/breakout-*/benchmark-*")
    assert [path.name for path in played.iterdir()] == ["scores.json"]  # it is complete
    assert not list(tmp_path.glob("out/runs/*pacman*"))


def test_what_fails_as_games_are_given_up_fails_no_run(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = BenchmarkOptions(str(spec), str(tmp_path / "out"), episodes=1)

    def unclosed(options: PlayOptions, quiet: bool, stop: threading.Event) -> dict[str, object]:
        play(options, quiet)
        stop.set()
        raise RuntimeError("it cannot be closed")

    with monkeypatch.context() as patch:
        patch.setattr(module, "play", unclosed)
        benchmark(options)
    assert "interrupted; go on: a3c benchmark " in capsys.readouterr().out
    assert not list(tmp_path.glob("out/runs/*/*/benchmark-*/scores.json"))
    assert not list(tmp_path.glob("out/runs/*pacman*"))


def test_complete_scores_outlive_an_interrupt_and_damaged_ones_are_made_again(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = BenchmarkOptions(str(spec), str(tmp_path / "out"), episodes=1)
    benchmark(options)
    first, *_ = sorted(tmp_path.glob("out/runs/*/breakout-*/benchmark-sample/scores.json"))
    before = first.read_text()

    def cut_short(options: PlayOptions, quiet: bool, stop: threading.Event) -> dict[str, object]:
        stop.set()
        return {**play(replace(options, episodes=1, seed=7), quiet), "interrupted": True}

    with monkeypatch.context() as patch:
        patch.setattr(module, "play", cut_short)
        benchmark(replace(options, episodes=2))
    assert json.loads(first.read_text()) == json.loads(before)
    first.write_text("")
    benchmark(options)
    assert json.loads(first.read_text()) == json.loads(before)


def test_a_score_names_the_code_that_ended_the_run(spec: Path, tmp_path: Path) -> None:
    """A run that was resumed has a line for each part."""
    out = tmp_path / "out"
    options = BenchmarkOptions(str(spec), str(out), episodes=1)
    benchmark(options)
    for made in out.glob("runs/*/[!l]*/provenance.jsonl"):
        (line,) = made.read_text().splitlines()
        later = {**json.loads(line), "commit": "later"}
        made.write_text(f"{line}\n{json.dumps(later)}\n")
    paths = benchmark(options)
    assert [score.commit for score in read_rows(paths[0], Score)] == ["later", "later"]


def test_each_score_is_drawn_in_its_games_row(monkeypatch: pytest.MonkeyPatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(module, "write_figure", lambda figure, _: figures.append(figure))
    ours = {"alien": 7000.0, "boxing": 3.0, "pong": 0.0}  # human: 7,128, 12.1, 14.6
    module.draw(ours, Path("scores.png"))
    (axis,) = figures[0].axes
    dots = next(line for line in axis.get_lines() if line.get_label() == "this benchmark")
    names = [label.get_text() for label in axis.get_yticklabels()]
    places = np.asarray(dots.get_xydata())
    row_of = {names[int(y)]: float(x) for x, y in places}
    assert names == ["boxing", "pong", "alien"]
    assert row_of == {game: human_normalised(game, score) for game, score in ours.items()}


def test_runs_without_a_folder_count_as_the_files_say(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = BenchmarkOptions(str(spec), str(out), episodes=1)
    paths = benchmark(options)
    before = [path.read_bytes() for path in paths[:3]]
    (first,) = read_rows(paths[0], Score)[:1]
    assert (first.game, first.seed, first.agent_steps) == ("breakout", 1, 20)
    assert first.processor
    assert first.cores >= 1
    shutil.rmtree(out / "runs")

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("it has been run")

    with monkeypatch.context() as patch:
        patch.setattr(study, "train", refused)
        capsys.readouterr()
        assert benchmark(options) == paths
        words = f"2 of 2 runs as {paths[0]} has it, whatever the settings: no checkpoint is here\n"
        assert words in capsys.readouterr().out
        assert [path.read_bytes() for path in paths[:3]] == before
        with pytest.raises(RunFailed, match="it has been run"):  # another protocol
            benchmark(BenchmarkOptions(str(spec), str(out), episodes=2))
        spec.write_text(SPEC.replace("steps = 20", "steps = 30"))
        with pytest.raises(RunFailed, match="it has been run"):  # a longer run
            benchmark(options)


def test_another_setting_finds_the_runs_of_this_one_and_is_refused(
    spec: Path, tmp_path: Path
) -> None:
    """Its scores would stand as those of the other, wherever in the SPEC that is written."""
    options = BenchmarkOptions(str(spec), str(tmp_path / "out"), episodes=1)
    benchmark(options)
    for text in ("seed = [1]\nlr = [1e-3]", "seed = [1]\n[[settings]]\nlr = 1e-3"):
        spec.write_text(f"{SPEC}{text}")
        with pytest.raises(InputError, match=r"was run with --lr .* the study has 0\.001"):
            benchmark(options)
    spec.write_text(SPEC.replace("breakout", "ALE/Breakout-v5"))  # the same, by another name
    benchmark(options)


def test_a_run_stays_where_the_spec_names_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As all did, before a game and its seed alone named one."""
    spec, out = tmp_path / "spec.toml", tmp_path / "out"
    spec.write_text(SPEC.partition("[grid]")[0] + 'env = "ALE/Breakout-v5"')
    (planned,) = plan(read_spec(spec), out)
    assert planned.runs_dir == out / "runs" / "seed-1"
    train(planned.config, quiet=True)
    monkeypatch.setattr(study, "train", None)
    assert benchmark(BenchmarkOptions(str(spec), str(out), episodes=1))
    assert [path.name for path in (out / "runs").iterdir()] == ["seed-1"]


def test_an_interrupted_benchmark_says_how_to_go_on_with_as_many_games(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "train", stopped)
    for episodes, more in ((100, ""), (30, " --episodes 30")):
        benchmark(BenchmarkOptions(str(spec), str(tmp_path / "out"), episodes))
        line = f"interrupted; go on: a3c benchmark {spec} --out {tmp_path / 'out'}{more}\n"
        assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "most"),
    [("", 16 * 64 * 20), ("num_threads = 4\nnum_envs = 1024\nminibatches = 8", 4 * 1024 * 10)],
)
def test_a_row_counts_as_far_beyond_the_end_as_such_a_run_may_go(
    tmp_path: Path, options: str, most: int
) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(f'[base]\nenv = "breakout"\ntotal_agent_steps = 20\n{options}')
    (one,) = plan(read_spec(path), tmp_path)
    for beyond in (-1, 0, most, most + 1):
        row = short("breakout")._replace(agent_steps=20 + beyond)
        found = {("breakout", 1): Found(row, [])}
        assert is_all_there_is(one, found, row.episodes) == (0 <= beyond <= most)
    # somebody keeps the logs without the weights; but a run that is there is read
    (folder := checkpoint.folder(make_run(one.runs_dir / "breakout-1", []))).mkdir(exist_ok=True)
    found = {("breakout", 1): Found(short("breakout"), [])}
    assert is_all_there_is(one, found, 1)
    (folder / "000000000020.safetensors").touch()
    assert not is_all_there_is(one, found, 1)


@pytest.mark.parametrize(
    ("protocol", "what"),
    [
        ((19, 1), "19 agent steps, 1 game;"),
        ((20, 2), "20 agent steps, 2 games;"),
        ((20, 1), None),
    ],
    ids=["length", "games", "alike"],
)
def test_rows_of_other_seeds_are_of_the_same_protocol(
    spec: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    protocol: tuple[int, int],
    what: str | None,
) -> None:
    """The mean of a game would be of both. Rows of games that the SPEC has not may be of any."""
    out = tmp_path / "out"
    out.mkdir()
    agent_steps, episodes = protocol
    another_seed = short("breakout")._replace(seed=2, agent_steps=agent_steps, episodes=episodes)
    own = [short("breakout"), short("ms_pacman")]
    write_csv(out / "scores.csv", Score._fields, [*own, another_seed, score_of("pong", 1, 3.0)])
    before = (out / "scores.csv").read_bytes()
    words = ["benchmark", str(spec), "--out", str(out), "--episodes", "1"]
    assert cli.main(words) == (0 if what is None else 2)
    said = capsys.readouterr().err
    if what is not None:
        assert said.startswith(f"a3c: {out / 'scores.csv'} has breakout with seed 2 after {what} ")
        assert said.endswith("expected 20 and 1, as of this one, or another --out\n")
        assert (out / "scores.csv").read_bytes() == before
    assert not (out / "runs").exists()


def test_a_thin_curve_of_a_run_without_a_folder_is_kept(spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    curve = [Point("breakout", 1, 10, 0.5, 1.25), Point("breakout", 1, 20, 1.0, 2.0)]
    write_csv(out / "scores.csv", Score._fields, [short("breakout")])
    write_csv(out / "curves.csv", Point._fields, curve)
    benchmark(BenchmarkOptions(str(spec), str(out), episodes=1))
    assert [each.game for each in read_rows(out / "scores.csv", Score)] == ["breakout", "ms_pacman"]
    assert read_rows(out / "curves.csv", Point)[:2] == curve


def test_rows_stand_until_the_spec_has_scored_such_a_run(
    spec: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of other games, of other lengths and protocols: a row may be all that there is of a run. A
    line says that the training of hours begins again."""
    out = tmp_path / "out"
    out.mkdir()
    longer = score_of("ms_pacman", 1, 3.0)._replace(episodes=1)
    had = [short("pong"), short("breakout")._replace(episodes=2), longer]
    write_csv(out / "scores.csv", Score._fields, had)
    trained = []

    def cut_short(config: Config, *others: object, **options: object) -> Run:
        trained.append(config.env)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(config, quiet=True)

    options = BenchmarkOptions(str(spec), str(out), episodes=1)
    with monkeypatch.context() as patch:
        patch.setattr(study, "train", cut_short)
        benchmark(options)
    assert trained == ["breakout", "ms_pacman"]
    said = " ".join(capsys.readouterr().out.split())
    assert "2 of 2 runs trained anew: " in said
    assert "of another length or number of games, and no checkpoint is here" in said
    rows = {row.game: row for row in read_rows(out / "scores.csv", Score)}
    assert (rows["pong"], rows["ms_pacman"]) == (short("pong"), longer)
    assert rows["breakout"].episodes == 1
    assert "| pong |" in (out / "table.md").read_text()
    benchmark(options)
    assert "1 of 2 runs trained anew: " in capsys.readouterr().out
    made = read_rows(out / "scores.csv", Score)
    assert [(row.game, row.agent_steps) for row in made[:2]] == [
        ("breakout", 20),
        ("ms_pacman", 20),
    ]
    assert made[2:] == [short("pong")]


def test_a_table_has_no_mean_of_runs_of_two_lengths(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file keeps the row of the other length until it has been made again."""
    spec.write_text(SPEC.replace(', "ms_pacman"]', "]\nseed = [1, 2]"))
    out = tmp_path / "out"
    out.mkdir()
    longer = [score_of("breakout", seed, 99.0)._replace(episodes=1) for seed in (1, 2)]
    write_csv(out / "scores.csv", Score._fields, longer)

    def first_alone(config: Config, *others: object, **options: object) -> Run:
        if config.seed == 2:
            raise RuntimeError("no more")
        return train(config, quiet=True)

    monkeypatch.setattr(study, "train", first_alone)
    with pytest.raises(RunFailed, match="no more"):
        benchmark(BenchmarkOptions(str(spec), str(out), episodes=1))
    first, second = read_rows(out / "scores.csv", Score)
    assert (first.agent_steps, second) == (20, longer[1])
    assert f"| breakout | 1 | {first.sampled:.1f} |" in (out / "table.md").read_text()


def test_runs_without_checkpoints_may_be_made_longer(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whether their folders are gone as well, or these alone."""
    monkeypatch.setattr(study, "train", lambda config, *_, **__: train(config, quiet=True))
    spec.write_text(SPEC.replace(', "ms_pacman"]', "]"))
    options = BenchmarkOptions(str(spec), str(tmp_path / "out"), episodes=1)
    benchmark(options)
    (weights,) = (tmp_path / "out" / "runs").glob("*/breakout-*/checkpoints")
    shutil.rmtree(weights)
    longer = MOST_BEYOND + 40
    text = re.sub(r"total_agent_steps = \d+", f"total_agent_steps = {longer}", spec.read_text())
    spec.write_text(text)
    monkeypatch.setattr(study, "train", Mock(side_effect=RuntimeError("it begins")))
    with pytest.raises(RunFailed, match="it begins"):
        benchmark(options)
    assert "1 of 1 run trained anew" in capsys.readouterr().out


def test_a_row_of_a_cluster_of_unknown_size_is_of_its_length() -> None:
    config = preset("fast", env="breakout", cluster="auto", total_agent_steps=10_000_000)
    planned = Planned({}, config, Path("runs"))
    row = score_of("breakout", 1, 99.0)
    assert is_alike(planned, row._replace(agent_steps=10_090_000), row.episodes)
    assert not is_alike(planned, row._replace(agent_steps=10_110_000), row.episodes)
    alone = planned._replace(config=replace(config, cluster="", nodes=1))
    assert not is_alike(alone, row._replace(agent_steps=10_090_000), row.episodes)


def test_a_little_below_zero_is_zero() -> None:
    assert number(-0.04) == "0.0"
    assert number(-0.06) == "-0.1"


def test_too_many_games_are_refused_before_training(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**30)
    with pytest.raises(InputError, match=r"--episodes is 9,999, .* expected at most "):
        benchmark(BenchmarkOptions(str(spec), str(tmp_path / "out"), episodes=9999))
    assert not (tmp_path / "out").exists()


def test_a_score_that_was_not_written_down_is_at_the_next_start(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the games and the files; then nothing has to be played."""
    options = BenchmarkOptions(str(spec), str(tmp_path / "out"), episodes=1)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "write", killed)
        with pytest.raises(Killed):
            benchmark(options)
        patch.undo()
        patch.setattr(study, "train", killed)
        with pytest.raises(Killed):  # of the second run
            benchmark(options)
    assert [row.game for row in read_rows(tmp_path / "out/scores.csv", Score)] == ["breakout"]


def test_curves_are_points_of_the_log(tmp_path: Path) -> None:
    spec = tmp_path / "long.toml"
    spec.write_text(SPEC.replace("= 20", "= 2000").replace(', "ms_pacman"', ""))
    out = tmp_path / "out"
    benchmark(BenchmarkOptions(str(spec), str(out), episodes=1))
    (metrics,) = out.glob("runs/*/breakout-*/metrics.jsonl")
    records = [r for r in log.read(metrics) if r["mean_return_100"] is not None]
    curve = read_rows(out / "curves.csv", Point)
    assert 0 < len(curve) <= 101
    last = records[-1]
    assert curve[-1] == Point(
        "breakout", 1, last["agent_steps"], last["seconds"], last["mean_return_100"]
    )


CUT_SHORT = ",".join(Score._fields) + "\nbreakout,"


@pytest.mark.parametrize("text", ["game,seed\nbreakout,1\n", "{}", CUT_SHORT])
def test_another_file_in_the_place_of_the_scores(
    text: str, spec: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "scores.csv").write_text(text + "more\n")
    assert cli.main(["benchmark", str(spec), "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert "scores.csv is no scores.csv of this version; expected game, seed," in said
    assert said.count("\n") == 1
    assert not (out / "runs").exists()


def score_of(game: str, seed: int, sampled: float) -> Score:
    return Score(
        game, seed, 10_000_000, 20.0, sampled, 1.0, sampled + 1, 1.0, 100, "abc", "EPYC", 2
    )


def short(game: str) -> Score:
    """Of a run of the SPEC."""
    return score_of(game, 1, 3.0)._replace(agent_steps=20, episodes=1)


def test_the_table_counts_wins_and_normalises() -> None:
    random, human = PUBLISHED["pong"]
    scores = [
        score_of("pong", 1, random),
        score_of("pong", 2, human),  # the mean of both seeds: half a human
        score_of("breakout", 1, references()["PPO"]["breakout"]),
        score_of("air_raid", 1, 1e9),  # nobody has published a human's score
    ]
    lines = table(scores)
    against = {line.split(" | ")[0]: line for line in lines if line.startswith("| ")}
    assert against["| PPO"] == "| PPO | 3 | 1 | 1 | 1 |"
    assert against["| A2C (GAE)"] == "| A2C (GAE) | 3 | 2 | 0 | 1 |"
    assert against["| pong"] == (
        "| pong | 2 | -3.0 ± 17.6 | -2.0 | 50% | -20.7 | 14.6 "
        "| **19.3** | **19.6** | **20.6** | 10.0 | 20 |"
    )
    assert (
        "| air_raid | 1 | 1,000,000,000 ± 0.1 | 1,000,000,001 |  |  |  | 4,202 |"
        in against["| air_raid"]
    )
    assert against["| breakout"].endswith(" | 377.0 | 398.0 | ≈ 443.0 | 10.0 | 20 |")
    whole = next(line for line in lines if line.startswith("| this benchmark"))
    assert whole.split(" | ")[1] == "2"


@pytest.mark.parametrize(
    ("reference", "marked"),
    [(None, ""), (9.0, "9.0"), (9.2, "≈ 9.2"), (10.0, "≈ 10.0"), (10.5, "**≈ 10.5**"),
     (11.0, "**11.0**")],
)  # fmt: skip
def test_what_is_above_ours_is_marked(reference: float | None, marked: str) -> None:
    assert module.beside(10.0, 0.9, reference) == marked


def test_the_standard_error_is_the_seeds_or_of_one_its_games() -> None:
    single = score_of("pong", 1, 5.0)._replace(sampled_std=6.0, episodes=9)
    assert module.standard_error([single]) == 2.0
    assert module.standard_error([single._replace(episodes=1)]) == math.inf
    seeds = [score_of("pong", seed, sampled) for seed, sampled in ((1, 1.0), (2, 5.0))]
    assert module.standard_error(seeds) == pytest.approx(2.0)  # deviation 2.83, root of 2


@pytest.mark.parametrize(
    ("page", "folder"),
    [
        ("atari57", "atari57"),
        ("atari57_earlier", "atari57_paper"),
        ("atari57_earlier", "atari57_constant_bonus"),
    ],
)
def test_the_page_has_the_table_of_the_committed_scores(page: str, folder: str) -> None:
    docs = Path(__file__).parents[2] / "docs"
    written = (docs / folder / "table.md").read_text(encoding="utf-8")
    assert written.splitlines() == table(read_rows(docs / folder / "scores.csv", Score))
    assert written in (docs / f"{page}.md").read_text(encoding="utf-8")


def test_the_interquartile_mean_by_hand() -> None:
    assert module.middle(np.array([100.0, 1, 2, 3, 4, 5, 6, -100])) == pytest.approx(3.5)
    assert module.with_interval(np.array([0.25]), np.median) == "25%"


def test_every_reference_is_of_a_game_that_is_played() -> None:
    from a3c.envs.names import atari_game

    for scores in references().values():
        assert len(scores) == 62
        assert all(atari_game(game) == game for game in scores)


@pytest.mark.parametrize(
    ("text", "words", "complaint"),
    [
        ('[base]\nenv = "CartPole-v1"', [], "CartPole-v1 is no Atari game; expected Atari games"),
        ('[base]\nenv = "pong"\n[grid]\nlr = [1e-3, 2e-3]', [], "pong has more than one setting"),
        ('[base]\nenv = "pong"', ["--episodes", "0"], "--episodes is 0; expected"),
        ('goal = 18.0\n[base]\nenv = "pong"', [], "has goal, which a benchmark does not read"),
    ],
)
def test_bad_input_is_one_line_and_creates_nothing(
    text: str, words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "spec.toml", tmp_path / "out"
    path.write_text(text)
    assert cli.main(["benchmark", str(path), "--out", str(out), *words]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_a_spec_that_is_not_there() -> None:
    with pytest.raises(InputError, match="cannot read it"):
        benchmark(BenchmarkOptions("nothing.toml"))


def test_of_a_single_score_no_winner_is_certain() -> None:
    score = score_of("pong", 1, 5.0)._replace(episodes=1, sampled_std=0.0)
    _, _, row, *_ = module.games_table([score], {"pong": 5.0})
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[3] == "5.0"
    assert [cell for cell in cells if "≈" in cell] == ["**≈ 19.3**", "**≈ 19.6**", "**≈ 20.6**"]


def test_a_run_that_is_named_twice_counts_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in (1, 2):
        made = [record(10 * i, 100.0 * i, [1.0], episodes=100, mean_return_100=5.0)]
        make_run(tmp_path / str(i), made)
    (tmp_path / "latest").symlink_to("2")
    runs = [str(tmp_path / name) for name in ("1", "2", "latest")]
    monkeypatch.setattr("sys.argv", ["time_to_score.py", "5", *runs])
    time_to_score.main()
    assert capsys.readouterr().out.splitlines()[-1].split()[0] == "150"


def test_when_a_run_first_had_a_score() -> None:
    """Of a hundred games: a few lucky ones are no score."""
    found = [(1, 30.0), (99, None), (100, -0.5), (101, 0.0)]
    records = [
        record(10 * i, float(i), [1.0], episodes=episodes, mean_return_100=mean)
        for i, (episodes, mean) in enumerate(found)
    ]
    assert passed(records, 0.0) == (30, 3.0)
    assert passed(records, -1.0) == (20, 2.0)
    assert passed(records, 31.0) == (math.inf, math.inf)


def test_what_a_life_brings_ends_with_it() -> None:
    """benchmarks/asteroids.py"""
    rewards, lost = np.zeros((40, 1)), np.zeros((40, 1), bool)
    rewards[[33, 35, 36], 0] = 200.0, 50.0, 7.0
    lost[35] = True
    came = to_come(rewards, lost)
    assert came[[33, 34, 35, 36, 37], 0] == pytest.approx([1 + 0.99**2, 0.99, 1, 1, 0])
    said = list(foreseen(np.zeros((40, 1)), rewards, lost))
    ends = " before a life ends 0.00, came "
    assert said[-2:] == [f" 2{ends}0.99", f" 1{ends}1.00"]


@pytest.mark.parametrize(
    ("function", "parts"),
    [
        ("~:<method 'copy_' of 'torch._C.TensorBase' objects>", ["copies"]),
        ("~:<method 'mul_' of 'torch._C.TensorBase' objects>", ["optimiser"]),
        ("~:<built-in method torch._C._nn.linear>", ["linear layers, forward"]),
        ("torch/nn/modules/linear.py:forward", []),
        ("a3c/convolutions.py:backward", ["linear layers and ReLUs, backward"]),
    ],
)
def test_what_a_profiler_names_is_of_one_part(function: str, parts: list[str]) -> None:
    """benchmarks/update_profile.py"""
    assert [part for part in PARTS if belongs(function, part)] == parts
