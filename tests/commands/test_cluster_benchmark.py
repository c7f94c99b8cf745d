"""benchmarks/cluster.py: every step with next to nothing to measure, and its simulation."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from benchmarks import cluster
from benchmarks.rows import Results, Row
from benchmarks.simulation import Costs, Kind, Setting, costs_of, kind_of, simulate, simulated

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.xdist_group("ray")


def test_the_whole_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "cluster.md"
    script = str(ROOT / "benchmarks" / "cluster.py")
    words = ["--tiny", "--out", str(out)]
    subprocess.run([sys.executable, script, *words, "--here"], cwd=tmp_path, stdout=subprocess.PIPE)
    kept = out.with_suffix(".json").read_text()
    parts = json.loads(kept)["parts"]
    assert list(parts) == ["rate", "learning", "costs", "simulation", "kills"]
    assert not [
        row["failed"] for rows in parts.values() for row in rows.values() if "failed" in row
    ]
    (rate,) = parts["rate"].values()
    assert rate["ratio"] > 0
    assert rate["cores"]["two nodes"]["nodes"] > 0
    assert rate["cores"]["one thread"]["nodes"] == 0
    (costs,) = parts["costs"].values()
    assert costs["bytes"] == 4 * costs["parameters"]
    assert min(costs[name] for name in ("take", "merge", "server alone", "round trip")) > 0
    (kills,) = parts["kills"].values()
    assert kills["ok"], kills
    assert (kills["nodes killed"], kills["server killed"]) == (1, 1)
    assert len(kills["rolled back"]) == 1
    report = out.read_text()
    for title in ("Goals", "Rate", "Learning", "What an exchange costs", "More nodes", "Kills"):
        assert f"\n## {title}" in report
    # Begun again, what did not fail is not measured again
    for part in parts:
        cluster.main([*words, "--parts", part])
    assert capsys.readouterr().out.count("nothing is left to measure") == len(parts)
    assert out.with_suffix(".json").read_text() == kept


def test_one_node_by_hand() -> None:
    """An update a second; an exchange takes 1/8 + 1/8 + 1/4 + 1/8 + 1/8 seconds."""
    found = simulate(Kind("cpu", 1, 1.0), Costs(0.125, 0.125, 0.25, 0.125), nodes=1, exchanges=10)
    assert found.efficiency == 1
    assert found.lag_exchanges == found.lag_updates == 0
    # From the end of the server's part in the second exchange to that in the tenth: 8 seconds
    assert found.server_busy == pytest.approx(8 * 0.25 / 8)
    assert found.link_busy == pytest.approx(8 * 0.125 / 8)
    assert found.under_way == pytest.approx(8 * 0.75 / 8)


def test_two_nodes_take_turns() -> None:
    """Half a period apart: between an answer and the next exchange there is one of the other."""
    found = simulate(Kind("cpu", 4, 8.0), Costs(0.0, 0.0, 0.125, 0.0), nodes=2, exchanges=20)
    assert found.efficiency == 1
    assert found.lag_exchanges == 1
    assert found.lag_updates == 4  # those of the other: one of each of its threads
    assert found.server_busy == pytest.approx(2 * 0.125 / 0.5)
    assert found.under_way == pytest.approx(0.125 / 0.5, rel=0.02)  # but for both ends


def test_a_server_that_is_full_serves_one_after_another() -> None:
    """Four nodes want one exchange a second each, and it makes two: so half of what they want."""
    found = simulate(Kind("cpu", 2, 2.0), Costs(0.0, 0.0, 0.5, 0.0), nodes=4, exchanges=50)
    assert found.efficiency == pytest.approx(0.5, rel=0.02)
    assert found.server_busy == pytest.approx(1)
    assert found.under_way == pytest.approx(1)
    assert found.lag_exchanges == 3
    assert found.lag_updates == pytest.approx(3 * 4)  # a node makes 4 updates in 2 seconds


def test_a_network_that_is_full() -> None:
    """In and out are two directions: each serves four nodes in turn, half a second each."""
    found = simulate(Kind("cpu", 2, 2.0), Costs(0.0, 0.5, 0.0, 0.0), nodes=4, exchanges=50)
    assert found.efficiency == pytest.approx(0.5, rel=0.02)
    assert found.link_busy == pytest.approx(1)
    assert found.server_busy == 0


def test_irregular_nodes_are_the_same_each_time_and_want_as_much() -> None:
    kind, costs = Kind("gpu", 16, 160.0), Costs(0.002, 0.001, 0.004, 0.001)
    one, other = (simulate(kind, costs, 8, 50, irregular=0.3) for _ in range(2))
    assert one == other
    assert one.efficiency == pytest.approx(1)
    assert one.server_busy == pytest.approx(8 * 0.004 / kind.period, rel=0.05)


def with_rows(tmp_path: Path) -> Results:
    small = {"parameters": 100, "bytes": 800, "take": 0.0, "merge": 0.0, "round trip": 0.004,
             "server cpu": 0.001, "node cpu": 0.002}  # fmt: skip
    large = {**small, "parameters": 10**6, "bytes": 8_000_000, "take": 0.003, "merge": 0.004,
             "round trip": 0.020, "server cpu": 0.009, "node cpu": 0.006}  # fmt: skip
    results = Results(tmp_path / "cluster.json", {}, same=())
    results.parts = {
        "costs": {"large": large, "small": small},
        "rate": {"": {"rates": {"one thread": [3200.0]}}},
    }
    return results


def test_costs_of_shards_and_of_bfloat16(tmp_path: Path) -> None:
    results = with_rows(tmp_path)
    one = costs_of(Setting("cpu", 10, 1, 4), results)
    assert one == pytest.approx(Costs(node=0.013, link=0.0064, server=0.009, delay=0.005))
    four = costs_of(Setting("cpu", 10, 4, 4), results)
    assert four.server == pytest.approx(0.001 + 0.008 / 4)  # what does not shrink, and the rest
    assert four.link == pytest.approx(0.0016)
    assert four.node == pytest.approx(0.007 + 4 * (0.002 + 0.004 / 4))  # a message to each
    half = costs_of(Setting("cpu", 1, 1, 2), results)
    assert half == pytest.approx(one._replace(link=0.032))


def test_where_server_and_network_are_full(tmp_path: Path) -> None:
    results = with_rows(tmp_path)
    row = simulated(Setting("cpu", 10, 1, 4), (4, 16), 10, results)
    assert row["wanted"] == pytest.approx(10)  # 16 threads of 10 updates a second
    assert row["server full"] == pytest.approx(0.1 / 0.009)
    assert row["network full"] == pytest.approx(0.1 / 0.0064)
    assert row["nodes"]["16"]["efficiency"] == pytest.approx(0.1 / 0.009 / 16, rel=0.05)
    assert not row["ok"]
    assert row["own"]["4"] == pytest.approx(0.013 / 0.1 / 16)
    assert kind_of("gpu", results).updates_per_second == pytest.approx(156.25)


def test_a_simulation_without_its_costs_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "cluster.md"
    assert cluster.main(["--tiny", "--here", "--out", str(out), "--parts", "simulation"]) == 1
    capsys.readouterr()
    assert "LookupError: it needs the part costs, which has not been measured" in out.read_text()


class Status:
    """What the watch reads of one."""

    def __init__(self, life: int, agent_steps: int, *sent: int):
        self.life, self.agent_steps = life, agent_steps
        contributions: list[Any] = [Mock(agent_steps=x, exchanges=1) for x in sent]
        self.nodes = dict(enumerate(contributions))


def test_counters_that_are_not_exact_are_noticed() -> None:
    watch = cluster.Watch(cluster.TINY)
    watch.take(Status(1, 300, 100, 200))
    watch.saved.add(250)
    watch.take(Status(2, 350, 100))  # the server died, and goes on from a checkpoint
    assert watch.wrong == []
    assert watch.rolled_back == [50]
    watch.take(Status(2, 360, 100))
    assert watch.wrong == ["+10 agent steps that no node has sent"]
    watch.take(Status(3, 500, 100))
    assert watch.wrong[1:] == ["the server began with 400, which is no checkpoint"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--parts", "rate,cost"], "no part 'cost'; expected rate, learning, costs, simulation"),
        (["--seeds", "3"], "--seeds is '3'; expected two numbers, such as 3,1"),
    ],
)
def test_bad_words(
    words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cluster.main([*words, "--out", str(tmp_path / "x.md")])
    assert caught.value.code == 2
    assert expected in capsys.readouterr().err


def test_learning_is_tabled_by_setting() -> None:
    def row(value: float) -> Row:
        return {"returns": [1.0, value, value], "evaluated": value, "policy lag": 1.0,
                "cluster lag": None, "rate": 100.0}  # fmt: skip

    rows = {f"CartPole-v1, 2 threads, seed {seed}": row(10.0 * seed) for seed in (1, 2)}
    assert list(cluster.learning_table(rows))[-1] == (
        "| CartPole-v1, 2 threads | 1.0 (1.0, 1.0) | 15.0 (10.0, 20.0) | 15.0 (10.0, 20.0) "
        "| 15.0 (10.0, 20.0) | 1.00 | - | 100 |"
    )
