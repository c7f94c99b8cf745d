"""A study: the runs it plans, its CSV, its figures, going on where it stood."""

import csv
from pathlib import Path

import numpy as np
import pytest
from matplotlib import pyplot

from a3c import cli
from a3c.config import InputError
from a3c.results import figures, study
from a3c.train import train

SPEC = """
goal = 20

[base]
preset = "control"
env = "CartPole-v1"
total_agent_steps = 3000
log_every_seconds = 0.2

[[settings]]
num_threads = 1
num_envs = 8

[[settings]]
num_threads = 2
num_envs = 4

[grid]
seed = [1, 2]
"""


def test_plans_every_setting_with_every_point_of_the_grid(tmp_path: Path) -> None:
    spec = {
        "base": {"preset": "paper", "env": "pong"},
        "settings": [{"num_threads": 1}, {"num_threads": 4, "num_envs": 2}],
        "grid": {"lr": [1e-3, 1e-4], "seed": [1, 2, 3]},
    }
    plans = study.plan(spec, tmp_path)
    assert len(plans) == 2 * 2 * 3
    assert len({planned.runs_dir for planned in plans}) == len(plans)
    first, second, *_, last = plans
    assert first.config.seed == second.config.seed  # every setting before the next seed
    assert first.label != second.label
    assert last.label == "num_threads 4, num_envs 2, lr 0.0001"
    assert (last.config.num_envs, last.config.lr, last.config.seed) == (2, 1e-4, 3)
    assert (last.config.rmsprop_eps, last.config.env) == (0.1, "pong")  # preset and base


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[grid", "is not TOML"),
        ("[gird]\nseed = [1]", "did you mean 'grid'?"),
        ("[base]\nnum_thread = 1", "no option; did you mean 'num_threads'?"),
        ("[base]\nnum_threads = 0", "--num-threads is 0"),
        ('[base]\npreset = "fst"', "--preset is 'fst'"),
    ],
)
def test_bad_specs(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        study.plan(study.read_spec(path), tmp_path / "out")
    assert expected in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_study_from_its_spec_to_its_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    started: list[object] = []

    def counted(*words: object, **options: object) -> object:
        started.append(words)
        return train(*words, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(study, "train", counted)
    assert cli.main(["study", "spec.toml", "--out", "results"]) == 0
    assert len(started) == 4
    names = ["study.csv", "return.png", "threads.png", "speed-up.png", "table.md"]
    assert [line for line in capsys.readouterr().out.split() if line.startswith("results")] == [
        f"results/{name}" for name in names
    ]
    with Path("results/study.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {(row["num_threads"], row["num_envs"], row["seed"]) for row in found} == {
        ("1", "8", "1"), ("1", "8", "2"), ("2", "4", "1"), ("2", "4", "2")
    }  # fmt: skip
    assert int(found[-1]["agent_steps"]) >= 3000
    titles, _, *settings = Path("results/table.md").read_text().splitlines()
    assert "| seconds to a return of 20 |" in titles
    assert [row.split(" | ")[:2] for row in settings] == [
        ["| num_threads 1, num_envs 8", "2"], ["| num_threads 2, num_envs 4", "2"]
    ]  # fmt: skip
    assert cli.main(["study", "spec.toml", "--out", "results"]) == 0
    assert len(started) == 4  # all were there


def test_intervals_cover_the_seeds() -> None:
    mean, low, high = figures.interval(np.array([1.0, 2.0, 3.0, 6.0]))
    assert mean == 3.0
    assert 1.0 <= low < mean < high <= 6.0
    assert figures.interval(np.array([2.0])) == (2.0, 2.0, 2.0)


def test_cells_show_three_digits() -> None:
    assert figures.cell(np.array([1234.5])) == "1,234"
    assert figures.cell(np.array([12.345, 12.345])) == "12.3"
    assert figures.cell(np.array([0.5, np.inf, 2.0])) == "by 2 of 3"
    assert figures.cell(np.array([1.0, 3.0])) == "2.00 (1.00 to 3.00)"


def test_a_line_joins_settings_that_differ_in_one_option() -> None:
    figure, axis = pyplot.subplots()
    runs = {
        f"{threads} {lr}": [[{"num_threads": threads, "lr": lr, "seconds": "1"}]]
        for threads in ("1", "8")
        for lr in ("0.002", "0.001")
    }
    figures.points(axis, runs, "lr", lambda run: float(run[0]["num_threads"]))
    labels = axis.get_legend_handles_labels()[1]
    assert labels == ["num_threads 1", "num_threads 8"]
    lines = [np.asarray(line.get_xdata()).tolist() for line in axis.get_lines()]
    assert lines == [[0.001, 0.002]] * 2
    pyplot.close(figure)


def test_the_time_to_a_goal() -> None:
    run = [
        {"seconds": "1.0", "mean_return_100": "5"},
        {"seconds": "2.0", "mean_return_100": "12"},
        {"seconds": "3.0", "mean_return_100": "9"},
    ]
    assert figures.to(run, 10, "seconds") == 2.0
    assert figures.to(run, 13, "seconds") == np.inf


def test_one_thread_is_compared_by_its_fastest_setting() -> None:
    def run(threads: str, envs: str, seconds: str) -> list[dict[str, str]]:
        return [
            {"num_threads": threads, "num_envs": envs, "seconds": seconds, "mean_return_100": "9"}
        ]

    slow, fast = [run("1", "8", "30")], [run("1", "4", "10"), run("1", "4", "14")]
    runs = {"slow": slow, "fast": fast, "two": [run("2", "4", "5")], "none": [run("", "4", "1")]}
    assert figures.seconds_alone(runs, 5) == 12
    assert np.isnan(figures.seconds_alone(runs, 10))
