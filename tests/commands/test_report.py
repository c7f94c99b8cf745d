"""The report: what the page carries, and how it looks in a browser, where there is one."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from a3c import cli, machine
from a3c.command.train_options import train_options
from a3c.config import Config, auto_threads
from a3c.errors import InputError
from a3c.presets import preset
from a3c.results import played, report
from a3c.results.scores import REPORTED
from a3c.train import train
from tests.commands.made_run import (
    evaluation,
    make_run,
    record,
    save_checkpoint,
    write_evaluations,
    write_records,
)

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    config = preset("control", env="CartPole-v1", total_agent_steps=3000, lr=5e-4)
    return train(Config(**{**vars(config), "runs_dir": str(folder)}), quiet=True).folder


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run beside another, with what was played with its newest checkpoint."""
    folder = tmp_path_factory.mktemp("page")
    other = shutil.copytree(run, folder / "other")
    (steps, sha256), *_ = played.kept_checkpoints(run)
    play = make_play(folder / "play", agent_steps_trained=steps, checkpoint_sha256=sha256)
    out = folder / "page.html"
    words = ["report", str(run), str(other), "--out", str(out), "--play", str(play)]
    assert cli.main(words) == 0
    return out


def make_play(folder: Path, **changes: Any) -> Path:
    """A folder as `a3c play` writes it."""
    folder.mkdir()
    found = {
        "env": "CartPole-v1", "episodes": 3, "mean": 401.5, "std": 12.0, "median": 400.0,
        "min": 390.0, "max": 415.0, "agent_steps_trained": 3000,
        "protocol": {"policy": "sample", "noop_max": 30},
    }  # fmt: skip
    (folder / "scores.json").write_text(json.dumps({**found, **changes}))
    (folder / "best.mp4").write_bytes(b"not a film")
    return folder


def carried(page: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json".*?>(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    return json.loads(found[1])


def test_the_page_carries_all_it_shows(page: Path, run: Path) -> None:
    facts = carried(page)
    first = facts["runs"][0]
    assert len(facts["runs"]) == 2
    assert first["name"] == run.name
    assert first["agent_steps"] >= 3000
    assert first["command"] == (
        "a3c train CartPole-v1 --preset control --total-agent-steps 3000 --lr 0.0005"
    )
    curve = first["curve"]
    assert len({len(column) for column in curve.values()}) == 1
    assert curve["episodes"][-1] == first["episodes"]
    assert len(set(curve["agent_steps"])) == len(curve["agent_steps"])  # no vertical strokes
    assert first["remarks"] == []
    assert sum(first["seconds_by_stage"].values()) > 0
    assert ["--lr", 0.0005, True] in first["settings"]
    assert facts["film"].startswith("data:video/mp4;base64,")
    assert facts["scores"]["mean"] == 401.5
    assert facts["scores"]["published"] == []  # CartPole has none


def test_the_time_of_a_stage_is_that_of_all_records() -> None:
    records = [{"seconds_apply": 1, "seconds": 9, "x": 5}, {"seconds_apply": 2, "seconds_wait": 4}]
    assert report.seconds_by_stage(records) == {"apply": 3, "wait": 4}


def test_large_returns_have_all_the_digits_that_are_shown() -> None:
    columns = {"agent_steps": np.arange(1000.0), "mean": np.full(1000, 1_234_567.891)}
    shown = report.thinned(columns)
    assert len(shown["mean"]) == report.CURVE_POINTS
    assert {*shown["mean"]} == {1_234_567.9}
    assert shown["agent_steps"][-1] == 999
    assert report.thinned({"agent_steps": np.empty(0)}) == {"agent_steps": []}


def test_the_page_needs_nothing_else(page: Path) -> None:
    outside = re.findall(r"(?:src|href)=[\"']?(?!data:)|url\(|@import|fetch\(", page.read_text())
    assert outside == []
    assert "http" not in page.read_text().replace("http://www.w3.org/2000/svg", "")


def test_the_command_names_the_threads_where_they_differ_by_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = preset("fast", env="pong")
    said = report.command(config)
    assert said == "a3c train pong --preset fast --num-threads 2 --num-envs 16"
    assert ("--num-threads", 2, True) in report.settings(config)
    monkeypatch.setattr(machine, "physical_cores", lambda: 12)
    assert report.command(config) == said
    assert train_options(said.split()[2:]).config == config


def test_the_command_repeats_the_settings() -> None:
    config = preset("paper", env="pong", seed=3, life_loss_terminal=False)
    said = report.command(config)
    assert said == "a3c train pong --preset paper --seed 3 --no-life-loss-terminal"
    assert train_options(said.split()[2:]).config == config


def drawn(page: Path, width: int, scratch: Path) -> str:
    """The page's elements after its script has run in Chromium."""
    assert CHROMIUM is not None
    words = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--no-first-run",
             f"--user-data-dir={scratch}", f"--window-size={width},2000",
             "--run-all-compositor-stages-before-draw",  # the charts draw once laid out
             "--virtual-time-budget=10000", "--dump-dom", page.as_uri()]  # fmt: skip
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout


in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")


@in_a_browser
@pytest.mark.parametrize("width", [1200, 390])
def test_the_page_draws_itself_in_a_browser(page: Path, width: int, tmp_path: Path) -> None:
    dom = drawn(page, width, tmp_path)
    assert dom.count("<polyline") == 3 * 2  # three curves of two runs
    assert "401.5 ± 12.0" in dom
    assert "The best of 3 games: 415" in dom
    assert "CartPole-v1" in dom
    assert '<p id="failure" hidden="">' in dom


@in_a_browser
def test_runs_on_one_page_have_a_colour_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = 12
    records = [record(10 * i, i / 10, [20.0 + i]) for i in range(1, 10)]
    names = [str(make_run(Path(f"run{i}"), records, seed=i)) for i in range(runs)]
    assert cli.main(["report", *names]) == 0
    dom = drawn(tmp_path / "report.html", 1200, tmp_path / "browser")
    assert '<p id="failure" hidden="">' in dom
    legend = re.findall(r'<i style="background: ([^"]*)"', dom)[:runs]
    assert len(set(legend)) == runs
    assert dom.count("<polyline") == 3 * runs


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="the system has no /dev/stdout")
@pytest.mark.usefixtures("capfd")
def test_a_page_may_go_where_stdout_goes(tmp_path: Path) -> None:
    """Also to a file, which capfd's is, as that of `> page.html`."""
    assert Path("/dev/stdout").is_file()
    report.check_page(Path("/dev/stdout"))
    os.mkfifo(tmp_path / "pipe")
    report.check_page(tmp_path / "pipe")
    with pytest.raises(InputError, match=r"ends with \.html or \.htm"):
        report.check_page(tmp_path / "report")


def test_another_run_without_games_yet_is_left_out(made: Path) -> None:
    assert cli.main(["report", str(made), "other"]) == 0
    assert [run["name"] for run in carried(Path("report.html"))["runs"]] == ["run"]


def test_a_run_whose_agents_have_ended_no_game_has_its_evaluations(made: Path) -> None:
    write_records(Path("other"), [record(20, 2.0, [])])
    write_evaluations(Path("other"), [evaluation(10, 1.0, 3.0), evaluation(20, 2.0, 4.0)])
    assert cli.main(["report", "other"]) == 0
    (run,) = carried(Path("report.html"))["runs"]
    assert run["curve"]["mean"] == []
    assert run["evaluations"]["sampled"] == [3.0, 4.0]


@in_a_browser
def test_a_page_without_games_of_training_draws_evaluations(made: Path, tmp_path: Path) -> None:
    write_records(Path("other"), [record(20, 2.0, [])])
    write_evaluations(Path("other"), [evaluation(10, 1.0, 3.0), evaluation(20, 2.0, 4.0)])
    assert cli.main(["report", "other"]) == 0
    dom = drawn(Path("report.html").resolve(), 1200, tmp_path / "browser")
    assert '<p id="failure" hidden="">' in dom
    assert dom.count("<polyline") == 2
    assert "No game of training has ended." in dom


def test_the_run_that_the_page_is_about_must_have_games(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = complaint(f"report other {made}", capsys)
    assert "other has no finished games yet; there is nothing to draw\n" in said


def test_scores_of_a_checkpoint_that_is_gone_by_now(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_play(Path("play"), agent_steps_trained=1500, checkpoint_sha256="0" * 64, run="run")
    said = complaint(f"report {made} --play play", capsys)
    assert "its model, of 1500 agent steps, is no longer one of the run's checkpoints (20" in said


ROWS = [
    ("it played breakout, the run trained CartPole-v1", {"env": "breakout"}),
    ("it played the model of breakout that ships", {"model": "breakout"}),
    ("it played the model of ALE/Pong-v5 that ships", {"model": "ALE/Pong-v5"}),
    ("it played other/model.safetensors", {"model": "other/model.safetensors"}),
    ("it played the run other", {"model": "run", "run": "other"}),
    ("it played the run zaxxon", {"model": "zaxxon", "run": "zaxxon"}),  # none ships
    ("it played x.safetensors, which is no run's", {"model": "x.safetensors", "run": None}),
    ("trained for 5000 agent steps, the run for 3000", {"agent_steps_trained": 5000}),
    ("of 1500 agent steps, is none of the run's checkpoints (2000, 3000)",
     {"agent_steps_trained": 1500}),
    ("as a checkpoint of the run, but other parameters", {"checkpoint_sha256": "0" * 64}),
    ("trained for None agent steps", {"agent_steps_trained": None}),
]  # fmt: skip


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with two checkpoints, the current folder beside it."""
    monkeypatch.chdir(tmp_path)
    folder = make_run(Path("run"), [record(3000, 9.0, [20.0] * 60)])
    save_checkpoint(folder, 2000, 2.0)
    save_checkpoint(folder, 3000, 3.0)
    other = make_run(Path("other"), [])
    save_checkpoint(other, 3000, 4.0).rename(other / "model.safetensors")
    return folder


def complaint(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command says; it must be one line, end with exit code 2 and write no page."""
    assert cli.main(words.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("a3c: ")
    assert said.count("\n") == 1
    assert not Path("report.html").exists()
    return said


@pytest.mark.parametrize(("expected", "changes"), ROWS, ids=[row[0] for row in ROWS])
def test_scores_of_another_model_are_refused(
    expected: str, changes: dict[str, Any], made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_play(Path("play"), **changes)
    said = complaint("report run --play play", capsys)
    assert said.startswith("a3c: play does not fit run: ")
    assert expected in said
    assert said.endswith("; expected the folder of a3c play run\n")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"agent_steps_trained": 2000},
        {"model": "run"},
        {"model": "run/checkpoints/000000003000.safetensors"},
        {"model": "gone/latest"},
        {"model": "gone/latest", "run": "run"},
    ],
)
def test_scores_without_a_checksum_count_where_they_fit(
    changes: dict[str, Any], made: Path
) -> None:
    make_play(Path("play"), **changes)
    assert cli.main(["report", "run", "--play", "play"]) == 0
    assert carried(Path("report.html"))["scores"]["mean"] == 401.5


def test_the_checksum_decides(made: Path) -> None:
    """Of a checkpoint that was copied elsewhere, or played through a link that has moved on."""
    (older, newer) = played.kept_checkpoints(made)
    assert older.sha256 != newer.sha256
    sha256 = older.sha256
    make_play(Path("play"), agent_steps_trained=2000, checkpoint_sha256=sha256, model="other")
    assert cli.main(["report", "run", "--play", "play"]) == 0


def test_the_model_is_the_last_one_of_a_run_without_checkpoints(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("run/checkpoints")
    make_play(Path("play"))
    assert cli.main(["report", "run", "--play", "play"]) == 0
    Path("report.html").unlink()
    shutil.rmtree("play")
    make_play(Path("play"), agent_steps_trained=2000)
    assert "is none of the run's checkpoints (3000)" in complaint("report run --play play", capsys)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "play has no readable scores.json; a3c play writes one"),
        ("5", "play has no readable scores.json"),
        ("{}", "does not say 'env'; expected what a3c play writes"),
    ],
)
def test_scores_that_cannot_be_read(
    text: str, expected: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (make_play(Path("play")) / "scores.json").write_text(text)
    assert expected in complaint("report run --play play", capsys)
    assert "has no readable scores.json" in complaint("report run --play nowhere", capsys)


def test_settings_are_the_checkpoints(made: Path) -> None:
    written = json.loads((made / "config.json").read_text())
    changed = {**written, "gamma": 0.5, "log_every_seconds": 1.0}  # the second is free on resume
    (made / "config.json").write_text(json.dumps(changed))
    assert cli.main(["report", "run"]) == 0
    first = carried(Path("report.html"))["runs"][0]
    assert first["command"] == "a3c train CartPole-v1 --preset control"
    assert ["--gamma", 0.99, False] in first["settings"]
    expected = "config.json was changed, the checkpoint's options count: --gamma 0.99, not 0.5"
    assert first["remarks"] == [expected]


def test_a_damaged_config_is_said_on_the_page(made: Path) -> None:
    (made / "config.json").write_text("{")
    assert cli.main(["report", "run"]) == 0
    first = carried(Path("report.html"))["runs"][0]
    assert first["remarks"] == ["config.json cannot be read: the checkpoint's options count"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "run has no readable config.json; expected a run folder"),
        ("[]", "run has no readable config.json"),
        (
            '{"gama": 1}',
            "run/config.json has the option 'gama', which this version does not",
        ),
        ('{"gamma": 7}', "this version does not take: --gamma is 7; expected a number at least 0"),
        ('{"gamma": null}', "this version does not take: --gamma is None; expected a number"),
    ],
)
def test_a_config_without_a_checkpoint(
    text: str, expected: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("run/checkpoints")
    (made / "config.json").write_text(text)
    assert expected in complaint("report run", capsys)


def test_options_that_an_older_version_had_not_are_as_they_were_then(made: Path) -> None:
    shutil.rmtree("run/checkpoints")
    text = '{"env": "CartPole-v1", "num_envs": 64, "clip_rewards": false}'
    (made / "config.json").write_text(text)
    assert cli.main(["report", "run"]) == 0
    first = carried(Path("report.html"))["runs"][0]
    threads = f"--num-threads {auto_threads()}"  # what the file does not say is this machine's
    expected = (
        f"a3c train CartPole-v1 --preset fast {threads} --num-envs 64 --minibatches 1 "
        "--ent-final-fraction 1.0 --advantage-floor 0.0 --no-lr-by-fan-in --no-clip-rewards"
    )
    assert first["command"].startswith(expected)
    assert first["remarks"] == [
        "the run's newest checkpoint is missing or cannot be read: "
        "the settings are those of config.json"
    ]


def test_the_command_says_where_the_parameters_came_from(made: Path) -> None:
    origins = [{"start_from": "a model.safetensors"}, {"start_from": None}]  # then resumed
    (made / "provenance.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in origins))
    assert cli.main(["report", "run"]) == 0
    command = carried(Path("report.html"))["runs"][0]["command"]
    assert command == "a3c train CartPole-v1 --preset control --from 'a model.safetensors'"
    (made / "provenance.jsonl").write_text('{"start_from": 5}\n')  # nobody's name
    assert cli.main(["report", "run"]) == 0
    command = carried(Path("report.html"))["runs"][0]["command"]
    assert command == "a3c train CartPole-v1 --preset control"


def test_where_it_was_made_may_be_damaged(made: Path) -> None:
    (made / "provenance.jsonl").write_text("garbage\n")
    assert cli.main(["report", "run"]) == 0
    assert carried(Path("report.html"))["runs"][0]["provenance"] == []


def test_published_figures_name_their_source(made: Path) -> None:
    rows = {who: (terms, score) for who, terms, score in report.published("breakout")}
    assert rows["random play"] == ("Wang et al., 2016", 1.7)
    assert rows["human tester"] == ("Wang et al., 2016", 30.5)
    assert rows["PFRL, A3C"][1] == 581.0
    assert report.published("CartPole-v1") == []


@pytest.mark.parametrize("game", sorted(REPORTED))
def test_what_others_reported_stands_in_the_cards(game: str) -> None:
    """Which were written when it was looked up."""
    card = (Path(__file__).parents[2] / "models" / game / "README.md").read_text()
    for reported in REPORTED[game]:
        assert f"| {reported.who}: {reported.terms} | {reported.score:,.1f} |" in card


def strictly(text: str) -> Any:
    """JSON without Python's additions to it."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


ODD = [float("inf"), float("-inf"), float("nan"), None]


@pytest.fixture
def odd(made: Path) -> Path:
    """A page about returns, means and scores that are no finite numbers."""
    returns = [20.0] * 200 + ODD + [20.0] * 200
    write_records(made, [record(3000, 9.0, returns, mean_return_100=float("inf"), seconds_apply=1)])
    make_play(Path("play"), mean=float("inf"), std=float("nan"), max=float("inf"))
    assert cli.main(["report", "run", "--play", "play"]) == 0
    return Path("report.html").resolve()


def test_the_page_has_null_for_what_is_no_number(odd: Path) -> None:
    found = re.search(r'<script type="application/json".*?>(.*?)</script>', odd.read_text(), re.S)
    assert found is not None
    facts = strictly(found[1])
    assert facts["scores"]["mean"] is None
    assert facts["runs"][0]["mean_return_100"] is None
    mean = facts["runs"][0]["curve"]["mean"]
    assert mean.count(None) > 50
    assert set(mean) == {None, 20.0}


@in_a_browser
def test_a_page_with_null_is_drawn(odd: Path, tmp_path: Path) -> None:
    dom = drawn(odd, 1200, tmp_path / "browser")
    assert dom.count("<polyline") == 3 * 2  # before the gap and after it
    assert "\u2013 ± \u2013" in dom
    assert "Where a curve has a gap" in dom
    assert "NaN" not in re.sub(r"<script.*?</script>", "", dom, flags=re.S)
    assert '<p id="failure" hidden="">' in dom


@in_a_browser
def test_a_page_that_fails_says_so(odd: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(
        odd.read_text().replace("const played = ", "nothing.there(); const played = ")
    )
    dom = drawn(broken, 1200, tmp_path / "browser")
    assert "A part of this page could not be drawn: Uncaught ReferenceError: nothing" in dom


@in_a_browser
def test_one_game_of_a_second_is_drawn(made: Path, tmp_path: Path) -> None:
    write_records(made, [record(30, 0.4, [20.0])])
    play = make_play(Path("play"), episodes=1, agent_steps_trained=30, cut=[True])
    shutil.rmtree("run/checkpoints")
    assert cli.main(["report", "run", "--play", str(play)]) == 0
    dom = drawn(Path("report.html").resolve(), 390, tmp_path / "browser")
    assert dom.count("<circle") == 3
    assert "by seconds" in dom
    assert "The one game: 415" in dom
    assert "mean of 1 evaluation game<" in dom
    assert "over 1 game, 1 of them cut at the longest length." in dom
    assert '<p id="failure" hidden="">' in dom


@in_a_browser
def test_a_mean_above_the_middle_half_is_drawn_whole(run: Path, tmp_path: Path) -> None:
    skewed = shutil.copytree(run, tmp_path / "run")
    last = json.loads((skewed / "metrics.jsonl").read_text().splitlines()[-1])
    last["returns"] = [0.0, 0.0, 0.0, 0.0, 1000.0] * 20  # mean 200, three quarters at 0
    write_records(skewed, [last])
    page = tmp_path / "page.html"
    assert cli.main(["report", str(skewed), "--out", str(page)]) == 0
    (line, *_) = re.findall(r'<polyline points="([^"]*)"', drawn(page, 1200, tmp_path / "browser"))
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert min(heights) >= 8  # the chart's upper margin


def test_what_was_played_is_found_in_the_runs_folder(made: Path) -> None:
    (_, newer) = played.kept_checkpoints(made)
    make_play(made / "play", agent_steps_trained=3000, checkpoint_sha256=newer.sha256)
    assert cli.main(["report", "run"]) == 0
    assert carried(Path("report.html"))["scores"]["checkpoint_sha256"] == newer.sha256
    assert carried(Path("report.html"))["film"] is not None


def test_what_does_not_fit_is_left_out_with_a_note(made: Path) -> None:
    make_play(made / "play", run="other", model="other")
    assert cli.main(["report", "run"]) == 0
    facts = carried(Path("report.html"))
    assert facts["scores"] is None
    (note,) = facts["runs"][0]["remarks"]
    assert "it played the run other" in note
    assert note.endswith("; left out")


@pytest.fixture
def evaluated(tmp_path: Path) -> Path:
    """The page of a run that was evaluated as it went, and of one that was not."""
    records = [record(400, 4.0, [1.0, 2.0, 3.0]), record(600, 10.0, [5.0])]
    run = make_run(tmp_path / "run", records)
    other = make_run(tmp_path / "other", records)
    write_evaluations(run, [evaluation(200, 2.0, 7.5), evaluation(600, 9.0, None)])
    best = {"agent_steps": 200, "episodes": 30, "mean": 6.25, "evaluated_return": 7.5, "seconds": 9}
    (run / "best.json").write_text(json.dumps(best))
    out = tmp_path / "page.html"
    assert cli.main(["report", str(run), str(other), "--out", str(out)]) == 0
    return out


def test_the_page_carries_evaluations_and_the_best(evaluated: Path) -> None:
    run, other = carried(evaluated)["runs"]
    assert run["evaluations"] == {
        "agent_steps": [200, 600], "seconds": [2, 9], "sampled": [7.5, None], "greedy": [8.5, None]
    }  # fmt: skip
    assert run["best"] == {
        "agent_steps": 200,
        "episodes": 30,
        "mean": 6.25,
        "evaluated_return": 7.5,
    }
    assert other["evaluations"]["sampled"] == []
    assert other["best"] is None
    assert run["curve"]["seconds"][-1] == 10


def test_a_best_json_that_cannot_be_read_is_none(evaluated: Path) -> None:
    for text in ("x", "{}", "[]", '{"agent_steps": 1, "episodes": 30, "mean": NaN}'):
        (evaluated.parent / "run" / "best.json").write_text(text)
        assert report.best_on_page(evaluated.parent / "run") is None


@in_a_browser
def test_evaluations_are_drawn_in_a_browser(evaluated: Path, tmp_path: Path) -> None:
    dom = drawn(evaluated, 1200, tmp_path)
    assert dom.count('stroke-dasharray="') == 2  # by agent steps and by time
    assert "Dotted: evaluations" in dom
    assert "mean of 30 fresh games of the best policy, of agent step 200" in dom
    assert '<p id="failure" hidden="">' in dom


@in_a_browser
def test_evaluations_after_the_last_game_are_within_the_chart(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [record(400, 4.0, [1.0, 2.0]), record(900, 9.0, [])])
    write_evaluations(run, [evaluation(200, 2.0, 7.5), evaluation(800, 8.0, 8.5)])
    out = tmp_path / "page.html"
    assert cli.main(["report", str(run), "--out", str(out)]) == 0
    dom = drawn(out, 1200, tmp_path / "browser")
    charts = re.findall(r'<svg viewBox="0 0 ([\d.]+) .*?</svg>', dom, re.DOTALL)
    assert len(charts) == 3
    ends = [float(each.split()[-1].split(",")[0]) for each in re.findall(r'points="([^"]+)"', dom)]
    assert max(ends) == pytest.approx(float(charts[0]) - 18)  # the margin


def test_a_film_of_the_best_policy(tmp_path: Path) -> None:
    """As docs/running.md has it: `a3c play` films it, the report takes its folder."""
    config = preset("control", env="CartPole-v1", total_agent_steps=1000, evaluate_every=500)
    config = Config(**{**vars(config), "evaluate_episodes": 2, "runs_dir": str(tmp_path)})
    run = train(config, quiet=True).folder
    model = str(run / "checkpoints" / "best.safetensors")
    assert cli.main(["play", model, "--episodes", "2", "--no-film"]) == 0
    (run / "play-best" / "best.mp4").write_bytes(b"not a film")
    out = tmp_path / "page.html"
    words = ["report", str(run), "--play", str(run / "play-best"), "--out", str(out)]
    assert cli.main(words) == 0
    assert carried(out)["film"].startswith("data:video/mp4;base64,")
    assert carried(out)["runs"][0]["remarks"] == []
