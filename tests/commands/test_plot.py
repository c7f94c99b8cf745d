"""Curves: where games lie, their running mean; pictures that are written whole or not at all."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from a3c import cli
from a3c.errors import InputError
from a3c.results import charts, curves, plot
from a3c.results.output import whole_file
from benchmarks import ancestor
from tests.commands.made_run import (
    evaluation,
    make_run,
    record,
    write_evaluations,
    write_records,
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    first = record(400, 4.0, [1.0, 2.0, 3.0, 4.0])
    records = [first, record(500, 8.0, []), record(600, 10.0, [5.0, 6.0])]
    return make_run(tmp_path / "run", records)


def drawn(run: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Figure:
    """The figure that `a3c plot` would write."""
    figures: list[Figure] = []
    monkeypatch.setattr(plot, "write_figure", lambda figure, path: figures.append(figure))
    plot.plot(plot.PlotOptions((str(run),), **options))
    return figures[0]


def complaint(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says; it must be one line and end with exit code 2."""
    assert cli.main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("a3c: ")
    assert said.count("\n") == 1
    return said


def test_games_of_a_record_lie_evenly_since_the_record_before(run: Path) -> None:
    curve = curves.read_curve(run, "run")
    assert curve.agent_steps.tolist() == [100, 200, 300, 400, 550, 600]
    assert curve.seconds.tolist() == [1, 2, 3, 4, 9, 10]
    assert curve.returns.tolist() == [1, 2, 3, 4, 5, 6]


def test_the_running_mean_and_its_band() -> None:
    returns = np.arange(300.0)
    mean, low, high = curves.running(returns)
    assert mean[0] == 0
    assert mean[9] == 4.5
    assert mean[299] == np.arange(200, 300).mean()
    assert (low[299], high[299]) == (224.75, 274.25)
    assert np.isnan(low[: curves.BAND_FROM - 1]).all()
    assert np.isfinite(low[curves.BAND_FROM - 1 :]).all()
    assert np.isfinite(high[curves.BAND_FROM - 1 :]).all()


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_a_return_that_is_no_number_leaves_a_gap(odd: float) -> None:
    returns = np.ones(300)
    returns[120] = odd
    for column in curves.running(returns):
        assert np.isnan(column[120:220]).all()
        assert (column[np.r_[60:120, 220:300]] == 1).all()


@pytest.mark.parametrize(
    "damaged",
    [
        5,
        None,
        ["agent_steps"],
        {},
        {"agent_steps": 500},
        {"agent_steps": "500", "seconds": 5.0, "returns": [9.0]},
        {"agent_steps": None, "seconds": 5.0, "returns": [9.0]},
        {"agent_steps": 500, "seconds": float("inf"), "returns": [9.0]},
        {"agent_steps": 500, "seconds": 5.0},
        {"agent_steps": 500, "seconds": 5.0, "returns": 9.0},
    ],
)
def test_damaged_records_are_left_out(run: Path, damaged: Any) -> None:
    records = [record(400, 4.0, [1.0, 2.0]), damaged, record(600, 10.0, [5.0])]
    write_records(run, records)
    assert curves.read_curve(run, "run").returns.tolist() == [1, 2, 5]


def test_damaged_records_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "metrics.jsonl"
    path.write_bytes(b"garbage\n" + path.read_bytes() + b"\xff\n5\n")
    assert cli.main(["plot", str(run), "--out", str(tmp_path / "curves.png")]) == 0
    said = capsys.readouterr().err
    assert said == f"{path} is damaged in line 1, 5, 6: left out\n"


def test_a_return_that_is_null_is_no_number(run: Path) -> None:
    write_records(run, [record(400, 4.0, [1.0, None, "x", 2.0])])
    returns = curves.read_curve(run, "run").returns
    assert np.isnan(returns).tolist() == [False, True, True, False]


def test_evaluations_are_dots_beside_the_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By agent steps and by time; no evaluation is at a game of training."""
    (alone,) = drawn(run, monkeypatch).axes[0].get_lines()
    write_evaluations(run, [evaluation(200, 2.0, 7.5), evaluation(500, 8.0, None)])
    for axis, place in zip(drawn(run, monkeypatch).axes, (200, None, 2.0), strict=True):
        training, *others = axis.get_lines()
        if place is None:
            assert others == []
            continue
        (dots,) = others
        assert dots.get_color() == training.get_color() == alone.get_color()
        assert dots.get_label() == "run, by evaluation"
        assert np.asarray(dots.get_xdata())[0] == place
        np.testing.assert_array_equal(np.asarray(dots.get_ydata()), [7.5, np.nan])


def test_a_run_is_drawn_as_the_mean_of_its_games(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for axis in drawn(run, monkeypatch).axes:
        (line,) = axis.get_lines()
        assert np.asarray(line.get_ydata()).tolist() == [1, 1.5, 2, 2.5, 3, 3.5]


def test_evaluations_have_the_units_of_the_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_records(run, [record(2 * 10**6, 36_000.0, [1.0] * 6)])
    write_evaluations(run, [evaluation(10**6, 18_000.0, 7.5)])
    axes = drawn(run, monkeypatch).axes
    places = [float(np.asarray(axes[i].get_lines()[1].get_xdata())[0]) for i in (0, 2)]
    assert places == [1, 5]  # million agent steps, hours


def test_many_games_are_counted_in_thousands() -> None:
    assert charts.unit(9_999, charts.GAMES) == (1, "games")
    assert charts.unit(20_000, charts.GAMES) == (1000, "thousand games")


def test_damaged_evaluations_are_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run / "evaluations.jsonl"
    path.write_text('x\n{"agent_steps": 5, "seconds": 1}\n')
    assert cli.main(["plot", str(run), "--out", str(tmp_path / "curves.png")]) == 0
    assert capsys.readouterr().err == f"{path} is damaged in line 1: left out\n"


@pytest.mark.parametrize(
    ("seconds", "agent_steps", "labels", "ends"),
    [
        (90.0, 5_000, ["agent steps", "games", "seconds"], [5000, 6, 90]),
        (1200.0, 90_000, ["thousand agent steps", "games", "minutes"], [90, 6, 20]),
        (36000.0, 2e6, ["million agent steps", "games", "hours"], [2, 6, 10]),
    ],
)
def test_units_suit_the_length_of_a_run(
    seconds: float,
    agent_steps: int,
    labels: list[str],
    ends: list[float],
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_records(run, [record(int(agent_steps), seconds, [1.0] * 6)])
    axes = drawn(run, monkeypatch).axes
    assert [axis.get_xlabel() for axis in axes] == labels
    for axis, end in zip(axes, ends, strict=True):
        places = np.asarray(axis.get_lines()[0].get_xdata())
        assert places[-1] == pytest.approx(end)
        assert len(set(places)) == 6  # no vertical stroke


def test_the_legend_stands_below_the_axes(run: Path, tmp_path: Path) -> None:
    figure, (axis,) = charts.new_figure(8, 4)
    axis.plot([0, 1], [0, 1], label="a run")
    charts.write_figure(figure, tmp_path / "curve.png")
    assert axis.get_legend() is None
    (legend,) = figure.legends
    assert legend.get_window_extent().y1 < axis.get_window_extent().y0


@pytest.mark.parametrize(
    ("name", "label"),
    [("_old", "./_old"), (r"cost $\frac$", r"cost $\frac$"), ("b\udcffd", "b?d"), ("a_b", "a_b")],
)
def test_a_run_has_its_name_in_the_picture(name: str, label: str, tmp_path: Path) -> None:
    """Whatever matplotlib makes of underscores, dollars, and letters that are none."""
    made = make_run(tmp_path / name, [record(10, 1.0, [1.0]), record(20, 2.0, [1.0])])
    figure, axes = charts.new_figure(4, 3)
    axes[0].plot([0, 1], [0, 1], label=charts.as_label(made.name))
    charts.write_figure(figure, tmp_path / "curve.png")
    (legend,) = figure.legends
    assert [text.get_text().replace(r"\$", "$") for text in legend.get_texts()] == [label]
    assert plot.plot(plot.PlotOptions((str(made),), str(tmp_path / "plot.png"))).exists()


def test_a_run_under_two_names_is_drawn_once(run: Path) -> None:
    (run.parent / "latest").symlink_to(run.name)
    named = (str(run), str(run.parent / "latest"), f"{run}/")
    assert curves.distinct(named) == [run]


def test_runs_of_one_name_keep_their_paths(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other" / "run", [record(10, 1.0, [1.0])])
    assert [curve.name for curve in curves.read_curves([run, other]).values()] == [
        str(run),
        str(other),
    ]
    third = make_run(tmp_path / "third", [record(10, 1.0, [1.0])])
    assert [curve.name for curve in curves.read_curves([run, third]).values()] == ["run", "third"]


def test_a_run_without_games_yet_is_left_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = make_run(tmp_path / "new", [record(10, 1.0, [])])
    newer = make_run(tmp_path / "newer", [record(10, 1.0, [])])
    assert list(curves.read_curves([new, run, newer])) == [run]
    said = f"{new} has no finished games yet; there is nothing to draw; left out\n"
    assert capsys.readouterr().err == said + said.replace("new ", "newer ")
    for runs, needed in (([new, newer], None), ([new, run], new)):
        with pytest.raises(InputError, match="/new has no finished games yet; there is nothing"):
            curves.read_curves(runs, needed)
    assert capsys.readouterr().err == ""  # one line


def test_a_run_whose_agents_have_ended_no_game_has_its_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = make_run(tmp_path / "new", [record(20_000, 10.0, [])])
    write_evaluations(new, [evaluation(10_000, 5.0, 3.0), evaluation(20_000, 9.0, 4.0)])
    axes = drawn(new, monkeypatch).axes
    dotted = [line for line in axes[0].get_lines() if line.get_linestyle() == ":"]
    assert [np.asarray(line.get_ydata()).tolist() for line in dotted] == [[3.0, 4.0]]
    assert [np.asarray(line.get_xdata()).tolist() for line in dotted] == [[10.0, 20.0]]  # thousands
    assert not [line for line in axes[1].get_lines() if np.size(line.get_xdata())]


@pytest.mark.parametrize("ending", charts.PICTURE_KINDS)
def test_the_ending_chooses_the_kind(ending: str, run: Path) -> None:
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    out = run.parent / f"curve.{ending}"
    assert cli.main(["plot", str(run), "--out", str(out)]) == 0
    assert out.read_bytes().startswith(starts[ending])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("plot run --out curve.pgn", "curve.pgn does not end like a picture; expected .png, .pdf"),
        ("plot run --out curve.pgn", "did you mean '.png'?"),
        ("plot run --out curve", "curve does not end like a picture"),
        ("plot run --out nowhere/curve.png", "there is no folder nowhere"),
        ("plot run --out file/curve.png", "there is no folder file"),
        ("plot run --out folder.png", "cannot write folder.png: it is a folder"),
        ("plot file", "file has no finished games: it is a file; expected a run folder"),
        ("plot nowhere", "no run folder 'nowhere'"),
        ("plot folder.png", "it has no metrics.jsonl; expected a run folder"),
        ("plot odd", "cannot read odd/metrics.jsonl: Is a directory"),
        ("plot loop", "no run folder 'loop', but leads to loop, which is gone"),
        ("plot new", "new has no finished games yet"),
    ],
)
def test_what_cannot_be_plotted(
    words: str,
    expected: str,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(run.parent)
    Path("file").write_text("in the way")
    Path("folder.png").mkdir()
    Path("odd/metrics.jsonl").mkdir(parents=True)
    Path("loop").symlink_to("loop")
    make_run(Path("new"), [record(10, 1.0, [])])
    before = sorted(Path().rglob("*"))
    assert expected in complaint(words, capsys)
    assert sorted(Path().rglob("*")) == before


def test_a_failed_write_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("older")

    def fail() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half of it")
            raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write .*page.html: No space left on device"):
        fail()
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path: Path) -> None:
    page, link = tmp_path / "page.html", tmp_path / "link"
    page.write_text("older")
    link.symlink_to(page)
    with whole_file(link) as temporary:
        temporary.write_text("newer")
    assert link.is_symlink()
    assert page.read_text() == "newer"


def test_a_device_is_written_to_not_replaced(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("there is no /dev/full")
    said = complaint(f"report {run} --out /dev/full", capsys)
    assert "cannot write /dev/full: No space left on device" in said
    assert full.is_char_device()


def test_the_ancestors_curve_stands_beside_a_runs(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """benchmarks/ancestor.py"""
    figures: list[Figure] = []
    monkeypatch.setattr(ancestor, "write_figure", lambda figure, path: figures.append(figure))
    ancestor.draw(run, Path("seed.png"))
    theirs, ours = (np.array(line.get_data()) for line in figures[0].axes[0].get_lines())
    assert theirs[:, -1].tolist() == [195.2, 384]  # its end: some 385
    assert np.allclose(ours[:, 3], [400 / 1e6, 2.5])


def test_the_thin_curve_beside_the_ancestors(tmp_path: Path) -> None:
    records = [record(320 * i, float(i), []) for i in range(250)]
    records[0] |= {"mean_return_100": None}  # before a game has ended
    path = ancestor.write_curve(make_run(tmp_path / "run", records), tmp_path / "seed.csv")
    head, *lines = path.read_text().splitlines()
    assert head == "agent_steps,seconds,mean_return_100"
    assert len(lines) == 100
    assert (lines[0], lines[-1]) == ("320,1.0,20.0", f"{320 * 249},249.0,20.0")
