"""Nodes as real processes of a real Ray: what they learn, and what happens when they die."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch

pytest.importorskip("ray")

from ray.cluster_utils import Cluster as RayMachines
from ray.exceptions import AuthenticationError

from a3c.cluster.machines import LOOPBACK as LISTENS_HERE
from a3c.cluster.machines import QUIET, check_answer, joined, start_ray
from a3c.cluster.member import RefusedError, check_same
from a3c.config import Config
from a3c.errors import InputError
from a3c.presets import preset
from a3c.run import checkpoint, provenance
from a3c.run.log import read
from a3c.run.provenance import what_must_be_the_same
from a3c.train import train
from benchmarks.processes import below, name_of, named, stats

pytestmark = pytest.mark.xdist_group("ray")
SOON = 300.0  # seconds; all of it is waited for only where something is wrong


UNHURRIED = "tests.environments:Unhurried-v0"  # what dies comes back sooner beside idle cores


def config_in(folder: Path, **changes: Any) -> Config:
    """CartPole, for ever unless it is told to end."""
    given = {"total_agent_steps": 10**9, "num_threads": 1, "nodes": 2, "runs_dir": str(folder)}
    written = {"log_every_seconds": 0.2, "checkpoint_every_seconds": 0.3}
    return preset("control", **{"env": "CartPole-v1", **given, **written, **changes})


def until(true: Callable[[], Any]) -> Any:
    """What it gives as soon as that is true."""
    end = time.monotonic() + SOON
    while not (found := true()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)
    return found


@contextmanager
def running(command: list[str], **keywords: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that is killed where the test fails: it would train for ever."""
    with subprocess.Popen(command, **keywords) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def meanwhile(do: Callable[[], None]) -> Iterator[None]:
    """In a thread beside the run; then the run is interrupted as by Ctrl-C. Where that has failed
    the run may hang: it is interrupted again and again, and the failure is raised."""
    usual, over = signal.getsignal(signal.SIGINT), threading.Event()
    failures: list[BaseException] = []

    def all_of_it() -> None:
        try:
            do()
        except BaseException as error:
            failures.append(error)
        interrupted = False
        while not over.wait(1.0 if interrupted else 0.02) and (failures or not interrupted):
            if signal.getsignal(signal.SIGINT) is not usual:  # else it would end the tests
                os.kill(os.getpid(), signal.SIGINT)
                interrupted = True

    thread = threading.Thread(target=all_of_it)
    thread.start()
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


def steps_of(folder: Path) -> int:
    """Of the newest checkpoint of the only run there; 0 without one."""
    found = folder.glob("*-*/checkpoints/[0-9]*.safetensors")  # and not through `latest`
    return max((int(path.stem) for path in found), default=0)


def listening(pids: set[int]) -> set[str]:
    """The addresses, as the kernel writes them, at which these processes listen."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                sockets.add(os.readlink(link))
            except OSError:
                continue
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                found.add(words[1].rpartition(":")[0])
    return found


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


@pytest.mark.usefixtures("in_earnest")
def test_in_sync_mode_two_nodes_are_two_threads_bit_for_bit(tmp_path: Path) -> None:
    config = config_in(tmp_path / "nodes", mode="sync", total_agent_steps=2_000)
    run = train(config, quiet=True)
    threads = replace(config, nodes=1, num_threads=2, runs_dir=str(tmp_path / "threads"))
    other = train(threads, quiet=True)
    one, two = (checkpoint.newest(each.folder).checkpoint for each in (run, other))
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)
    assert one.progress["updates"] == two.progress["updates"]
    assert (run.agent_steps, run.episodes) == (other.agent_steps, other.episodes)
    assert [part["node"] for part in provenance.read(run.folder)] == [0, 1]
    assert read(run.folder / "metrics.jsonl")[-1]["nodes"] == 2


def test_what_dies_comes_back_and_the_run_goes_on_with_other_nodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    addresses: set[str] = set()  # at which anybody listens

    def hears(pattern: str) -> bool:
        said.append(capsys.readouterr().out)
        return re.search(pattern, "".join(said)) is not None

    def kill(name: str, words: str) -> None:
        os.kill(named(below(os.getpid()), name)[0], signal.SIGKILL)
        until(lambda: hears(words))
        there = steps_of(tmp_path)
        until(lambda: steps_of(tmp_path) > there + 1_000)

    def kill_in_turn() -> None:
        until(lambda: steps_of(tmp_path))
        started = below(os.getpid())
        programs = {Path(name_of(pid)).name for pid in started}
        assert {"gcs_server", "raylet"} <= programs
        addresses.update(listening(started))
        kill("ray::Member", r"node \d has joined")
        kill("ray::Server", "go on from")

    with meanwhile(kill_in_turn):
        run = train(config_in(tmp_path, env=UNHURRIED, normalize=False))
    assert addresses
    assert addresses <= LOOPBACK
    assert not run.finished
    words = "".join([*said, capsys.readouterr().out])
    (killed,) = re.findall(r"node (\d) died: what it had learned and not yet sent is lost", words)
    assert f"node {killed} has joined" in words
    assert "the server died: all go on from agent step" in words
    records = read(run.folder / "metrics.jsonl")
    steps = [record["agent_steps"] for record in records]
    assert steps == sorted(steps)
    assert all(record["agent_steps_per_second"] >= 0 for record in records)
    episodes = [record["episodes"] for record in records]
    assert episodes == sorted(episodes)
    assert records[-1]["agent_steps"] == run.agent_steps
    nodes = [part["node"] for part in provenance.read(run.folder)]
    assert sorted([*nodes, 1 - int(killed)]) == [0, 0, 1, 1]
    saved = checkpoint.newest(run.folder).checkpoint
    assert saved.progress["agent_steps"] == run.agent_steps
    assert {name.partition(".")[0] for name in saved.tensors} >= {"thread0", "thread1"}

    alone = replace(saved.config, nodes=1, total_agent_steps=run.agent_steps + 500)
    less = train(alone, resume=run.folder, quiet=True)
    assert less.finished
    more = replace(alone, nodes=3, total_agent_steps=less.agent_steps + 3_000)
    assert train(more, resume=run.folder, quiet=True).finished
    tensors = checkpoint.newest(run.folder).checkpoint.tensors
    assert "thread2.generator" in tensors


def test_in_sync_mode_a_node_that_comes_back_stands_still_with_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where a rollout has several updates, each of which waits for all nodes; and after the
    server's death."""
    said: list[str] = []

    def hears(pattern: str) -> bool:
        said.append(capsys.readouterr().out)
        return re.search(pattern, "".join(said)) is not None

    def until_saved_again() -> None:
        there = steps_of(tmp_path)
        until(lambda: steps_of(tmp_path) > there)

    def kill_one(name: str, words: str) -> None:
        os.kill(named(below(os.getpid()), name)[0], signal.SIGKILL)
        until(lambda: hears(words))
        for _ in range(3):
            until_saved_again()

    def kill() -> None:
        until_saved_again()
        kill_one("ray::Member", r"node \d has joined")
        kill_one("ray::Server", "go on from")

    with meanwhile(kill):
        slow = {"env": UNHURRIED, "normalize": False}
        run = train(config_in(tmp_path, mode="sync", minibatches=8, **slow))
    assert run.interrupted
    assert steps_of(tmp_path) == run.agent_steps


def test_where_the_command_is_killed_its_nodes_end(tmp_path: Path) -> None:
    words = [UNHURRIED, "--no-normalize", "--nodes", "2", "--total-agent-steps", "1000000000"]
    often = ["--checkpoint-every-seconds", "0.3", "--runs-dir", str(tmp_path)]
    command = [sys.executable, "-m", "a3c.cli", "train", *words, *often]
    ours = {*LISTENS_HERE, *QUIET}  # which the tests set, and no user does
    env = {name: value for name, value in os.environ.items() if name not in ours}
    out = subprocess.DEVNULL
    with running(command, stdout=out, stderr=out, env=env) as process:
        until(lambda: steps_of(tmp_path))
        actors = {*named(below(process.pid), "ray::Member")}
        actors |= {*named(below(process.pid), "ray::Server")}
        assert len(actors) == 3
        listens = listening(below(process.pid))
        assert listens
        assert listens <= LOOPBACK
        process.kill()
    # A zombie has ended; in some containers nobody sees it off
    until(lambda: not actors & {pid for pid, fields in stats().items() if fields[0] != "Z"})
    (folder,) = tmp_path.glob("*-v0-*")
    saved = checkpoint.newest(folder).checkpoint  # go on, on this machine alone
    config = replace(saved.config, nodes=1, total_agent_steps=saved.progress["agent_steps"] + 1_000)
    assert train(config, resume=folder, quiet=True).finished


def test_a_terminal_that_is_closed_saves(tmp_path: Path) -> None:
    """The hangup reaches all processes, also Ray's, which the last checkpoint needs: images'
    parameters, 5 MB, do not travel in words between processes."""
    words = ["breakout", "--recurrent", "--nodes", "2", "--total-agent-steps", "1000000000"]
    few = ["--num-threads", "1", "--num-envs", "2"]
    often = ["--checkpoint-every-seconds", "1000", "--runs-dir", str(tmp_path), *few]
    command = [sys.executable, "-m", "a3c.cli", "train", *words, *often]
    said = tmp_path / "said"
    with (
        said.open("w") as out,
        running(command, stdout=out, stderr=out, start_new_session=True) as process,
    ):
        until(lambda: steps_of(tmp_path))  # the first one comes early
        first = steps_of(tmp_path)
        os.killpg(process.pid, signal.SIGHUP)
        assert process.wait(SOON) == 0, said.read_text()
    assert steps_of(tmp_path) > first
    assert "go on: a3c train --resume" in said.read_text()


@pytest.fixture
def machines() -> Iterator[RayMachines]:
    """A Ray cluster of machines, which are all this one; no program is in it yet."""
    # A machine that is gone is missed three times; by Ray's default that is five, every 3 seconds
    often = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
    head = {"num_cpus": 1, "_system_config": often}
    cluster = RayMachines(initialize_head=True, head_node_args=head)
    yield cluster
    cluster.shutdown()


def test_a_cluster_of_machines_that_join_and_go(tmp_path: Path, machines: RayMachines) -> None:
    words = [UNHURRIED, "--cluster", machines.address, "--total-agent-steps", "1000000000"]
    often = ["--checkpoint-every-seconds", "0.3", "--no-normalize", "--runs-dir", str(tmp_path)]
    command = [sys.executable, "-u", "-m", "a3c.cli", "train", *words, *often]
    said = tmp_path / "said"
    with said.open("w") as out, running(command, stdout=out) as process:
        until(lambda: steps_of(tmp_path))
        second = machines.add_node(num_cpus=1)
        until(lambda: "node 1 has joined" in said.read_text())
        machines.remove_node(second, allow_graceful=False)
        until(lambda: "node 1 died" in said.read_text())
        there = steps_of(tmp_path)
        until(lambda: steps_of(tmp_path) > there + 1_000)  # the first one goes on
        machines.add_node(num_cpus=1)  # another takes its place
        until(lambda: said.read_text().count("has joined") == 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(SOON) == 0
    assert "go on: a3c train --resume" in said.read_text()


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1", None), ("10.0.0.7", "Ray would listen on 10.0.0.7: it")],
)
def test_ray_that_would_listen_to_others_is_refused(
    address: str, words: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it would where it was imported before it was told where to listen."""
    monkeypatch.setattr("ray.init", Mock())
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: address)
    stopped = Mock()
    monkeypatch.setattr("a3c.cluster.machines.stop_ray", stopped)
    with nullcontext() if words is None else pytest.raises(InputError, match=words):
        start_ray(config_in(Path("runs")))
    assert stopped.called == (words is not None)


@pytest.mark.parametrize(("cluster", "alone"), [("", True), ("auto", False)])
def test_only_a_run_on_one_machine_listens_there_alone(
    cluster: str, alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = LISTENS_HERE
    monkeypatch.setenv(name, "as it was")
    monkeypatch.setattr("ray.init", Mock())
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    start_ray(config_in(Path("runs"), cluster=cluster))
    assert os.environ[name] == (LISTENS_HERE[name] if alone else "as it was")


def test_what_ray_says_of_a_cluster_that_does_not_answer_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That a token is missing, say."""
    refused = subprocess.CalledProcessError(
        1, "ray", stderr="Traceback\nAuthenticationError: no token\n"
    )
    monkeypatch.setattr("subprocess.run", Mock(side_effect=refused))
    monkeypatch.setattr("socket.create_connection", Mock())
    with pytest.raises(InputError, match=r"no Ray answers there \(AuthenticationError: no token\)"):
        check_answer("127.0.0.1:6379")


@pytest.mark.parametrize(
    "address", ["here", "localhost:0", "localhost:x", "127.0.0.1:1", "10.0.0..1:6379", "here:²"]
)
def test_an_address_where_no_ray_is(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"--cluster is '{address}'.*expected"):
        train(config_in(tmp_path, cluster=address), quiet=True)
    assert not list(tmp_path.iterdir())


def test_an_address_where_something_else_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("a3c.cluster.machines.ANSWER_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(InputError, match=f"{address}'.* no Ray answers there"):
            train(config_in(tmp_path, cluster=address), quiet=True)


def test_a_ray_that_says_it_is_not_well_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[str], **options: Any) -> None:
        if options["check"]:
            raise subprocess.CalledProcessError(1, words, stderr="not healthy")

    monkeypatch.setattr("subprocess.run", run)
    monkeypatch.setattr("socket.create_connection", Mock())
    with pytest.raises(InputError, match=r"no Ray answers there \(not healthy\)"):
        check_answer("127.0.0.1:6379")


def test_auto_where_there_is_no_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of others' clusters on this machine, which other tests may start, Ray is not to know."""
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", Mock(return_value=set()))
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", Mock(return_value=None))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(InputError, match=r"--cluster is 'auto': Could not.*expected auto"):
        train(config_in(tmp_path, cluster="auto"), quiet=True)


@pytest.mark.parametrize(
    ("cluster", "error", "words"),
    [
        (
            "auto",
            AuthenticationError("No token was found"),
            "--cluster is 'auto': No token was fou",
        ),
        ("", OSError("AF_UNIX path length cannot exceed 107 bytes"), "--nodes is 2, and Ray "),
    ],
)
def test_why_ray_does_not_start_is_one_line(
    cluster: str, error: Exception, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.init", Mock(side_effect=error))
    with (
        pytest.raises(InputError, match=f"^{words}"),
        joined(config_in(Path("runs"), cluster=cluster)),
    ):
        pass


def test_sync_mode_on_a_cluster_needs_a_number_of_nodes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--mode sync needs the number of --nodes"):
        preset("control", mode="sync", cluster="auto")


def test_a_node_of_another_version_is_refused() -> None:
    own = what_must_be_the_same()
    check_same(own, own)
    for name in own:
        with pytest.raises(RefusedError, match=f"its {name} is 0"):
            check_same({**own, name: "0"}, own)


def test_the_code_of_a_node_is_that_of_both_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / name for name in ("a3c/run/provenance.py", "atari2600/cpu.py")]
    for path in files:
        path.parent.mkdir(parents=True)
        path.write_text("before")
    monkeypatch.setattr(provenance, "__file__", str(files[0]))
    found = {provenance.code()}
    for path in files:
        path.write_text("after")
        found.add(provenance.code())
    assert len(found) == 3


def test_without_ray_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(InputError, match=r"--nodes 2 needs ray; .*\.\[cluster\]"),
        joined(config_in(Path("runs"))),
    ):
        pass


def test_training_on_one_machine_does_not_import_ray(tmp_path: Path) -> None:
    program = (
        "import sys; from a3c.cli import main; "
        "code = main(sys.argv[1:]); assert 'ray' not in sys.modules; sys.exit(code)"
    )
    words = ["train", "CartPole-v1", "--total-agent-steps", "64", "--runs-dir", str(tmp_path)]
    subprocess.run([sys.executable, "-c", program, *words], check=True, capture_output=True)
