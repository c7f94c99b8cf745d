"""The report: what the page carries, and how it looks in a browser, where there is one."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from a3c import cli
from a3c.config import Config, preset
from a3c.results import report
from a3c.train import train
from a3c.train_options import train_options

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    config = preset("control", env="CartPole-v1", total_agent_steps=3000, lr=5e-4)
    return train(Config(**{**vars(config), "runs_dir": str(folder)}), quiet=True).folder


@pytest.fixture(scope="module")
def page(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    play = tmp_path_factory.mktemp("play")
    played = {
        "env": "breakout", "episodes": 3, "mean": 401.5, "std": 12.0, "median": 400.0,
        "min": 390.0, "max": 415.0, "agent_steps_trained": 10_000_000,
        "protocol": {"policy": "sample", "noop_max": 30},
    }  # fmt: skip
    (play / "scores.json").write_text(json.dumps(played))
    (play / "best.mp4").write_bytes(b"not a film")
    out = play / "page.html"
    words = ["report", str(run), str(run), "--out", str(out), "--play", str(play)]
    assert cli.main(words) == 0
    return out


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
    assert sum(first["seconds_by_stage"].values()) > 0
    assert ["--lr", 0.0005, True] in first["settings"]
    assert facts["film"].startswith("data:video/mp4;base64,")
    published = {row[0]: row[2] for row in facts["scores"]["published"]}
    assert published["PFRL, A3C"] == 581.0
    assert published["human tester"] == 30.5


def test_the_page_needs_nothing_else(page: Path) -> None:
    outside = re.findall(r"(?:src|href)=[\"']?(?!data:)|url\(|@import|fetch\(", page.read_text())
    assert outside == []
    assert "http" not in page.read_text().replace("http://www.w3.org/2000/svg", "")


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
    assert "PFRL, A3C" in dom
    assert "CartPole-v1" in dom


@in_a_browser
def test_a_mean_above_the_middle_half_is_drawn_whole(run: Path, tmp_path: Path) -> None:
    skewed = shutil.copytree(run, tmp_path / "run")
    record = json.loads((skewed / "metrics.jsonl").read_text().splitlines()[-1])
    record["returns"] = [0.0, 0.0, 0.0, 0.0, 1000.0] * 20  # mean 200, three quarters at 0
    (skewed / "metrics.jsonl").write_text(json.dumps(record) + "\n")
    page = tmp_path / "page.html"
    assert cli.main(["report", str(skewed), "--out", str(page)]) == 0
    (line, *_) = re.findall(r'<polyline points="([^"]*)"', drawn(page, 1200, tmp_path / "browser"))
    heights = [float(point.split(",")[1]) for point in line.split()]
    assert min(heights) >= 8  # the chart's upper margin
