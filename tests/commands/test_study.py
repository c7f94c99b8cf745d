"""A study: the runs it plans, its CSV, its figures, going on where it stood."""

import csv
import importlib.metadata
import importlib.util
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from a3c import cli, machine, memory
from a3c.config import Config
from a3c.envs.names import default_preset
from a3c.errors import InputError, as_input_error
from a3c.options import differences
from a3c.presets import preset
from a3c.results import figures, study, study_csv
from a3c.results.study_csv import label_of
from a3c.results.study_plan import FREE, Planned, folder_name, plan, read_spec
from a3c.run import checkpoint
from a3c.run.folder import Run, locked
from a3c.train import RunFailed, train
from tests.a3c.test_checkpoint import example
from tests.commands.made_run import evaluation, make_run, record, save_checkpoint, write_evaluations

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


def planned(text: str, folder: Path) -> list[Planned]:
    """The runs that a SPEC plans."""
    path = folder / "spec.toml"
    path.write_text(text)
    return plan(read_spec(path), folder / "out")


def test_plans_every_setting_with_every_point_of_the_grid(tmp_path: Path) -> None:
    text = """
    [base]
    preset = "paper"
    env = "pong"
    [[settings]]
    num_threads = 1
    [[settings]]
    num_threads = 4
    num_envs = 2
    [grid]
    lr = [1e-3, 1e-4]
    seed = [1, 2, 3]
    """
    plans = planned(text, tmp_path)
    assert len(plans) == 2 * 2 * 3
    assert len({planned.runs_dir for planned in plans}) == len(plans)
    first, second, *_, last = plans
    assert first.config.seed == second.config.seed  # every setting before the next seed
    assert label_of(first.setting) != label_of(second.setting)
    assert label_of(last.setting) == "num_threads 4, num_envs 2, lr 0.0001"
    assert (last.config.num_envs, last.config.lr, last.config.seed) == (2, 1e-4, 3)
    assert (last.config.rmsprop_eps, last.config.env) == (0.1, "pong")  # preset and base


def test_auto_is_its_number_in_tables_and_figures(tmp_path: Path) -> None:
    plans = planned('[[settings]]\nnum_threads = "auto"\n[[settings]]\nnum_threads = 4', tmp_path)
    assert [label_of(one.setting) for one in plans] == ["num_threads 2", "num_threads 4"]
    with pytest.raises(InputError, match="two runs of the study are the same"):
        planned('[[settings]]\nnum_threads = "auto"\n[[settings]]\nnum_threads = 2', tmp_path)


def test_going_on_with_other_threads_names_what_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[base]\nenv = "CartPole-v1"\npreset = "fast"'
    (one,) = planned(text, tmp_path)
    make_run(one.runs_dir / "a", [], **{**vars(one.config), "runs_dir": str(one.runs_dir)})
    study.check_as_planned(one)
    monkeypatch.setattr(machine, "physical_cores", lambda: 12)
    (other,) = planned(text, tmp_path)
    with pytest.raises(InputError, match="was run with --num-threads 2, the study has 12; expected "
                       "num_threads = 2 in the SPEC, or another --out"):  # fmt: skip
        study.check_as_planned(other)
    monkeypatch.setattr(machine, "physical_cores", lambda: 2)
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    (other,) = planned(text, tmp_path)
    with pytest.raises(InputError, match="expected num_envs = 16 in the SPEC, or another --out"):
        study.check_as_planned(other)


def test_no_run_starts_where_one_has_not_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 2**29)
    text = SPEC.replace("num_envs = 4", "num_envs = 65_536\nrollout_length = 1000")
    plans = planned(text, tmp_path)
    with pytest.raises(InputError, match="2 x 65,536 agents of CartPole-v1 need about"):
        study.check_memory_of(plans)
    study.check_memory_of(plans[:1])


def test_a_run_whose_checkpoints_are_gone_begins_anew_and_a_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, kept = planned(SPEC, tmp_path)[:2]
    for one in (gone, kept):
        values = {**vars(one.config), "runs_dir": str(one.runs_dir)}
        run = make_run(one.runs_dir / "a", [record(2000, 2.0, [20])], **values)
    save_checkpoint(run, 2000, **values)
    with study.ready([gone, kept], tmp_path / "out", [gone, kept]):
        said = " ".join(capsys.readouterr().out.split())
    assert said.endswith("has no checkpoint of its 2,000 agent steps: the run begins anew")
    assert said.count("begins anew") == 1
    assert said.startswith(str(gone.folder))


@pytest.mark.parametrize("env", ["CartPole-v1", "breakout", "ALE/Breakout-v5"])
def test_the_preset_is_that_of_train(env: str, tmp_path: Path) -> None:
    (one,) = planned(f'[base]\nenv = "{env}"', tmp_path)
    expected = preset(default_preset(env), env=env)
    assert set(differences(one.config, expected)) <= FREE
    assert one.config.clip_rewards == (env != "CartPole-v1")


def test_each_environment_of_a_grid_has_its_preset(tmp_path: Path) -> None:
    plans = planned('[grid]\nenv = ["CartPole-v1", "pong"]', tmp_path)
    assert [one.config.gamma for one in plans] == [0.99, 0.99]
    assert [one.config.clip_rewards for one in plans] == [False, True]


def test_a_clusters_machines_look_for_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether they have GPUs, and memory: not the one that gives the command."""
    monkeypatch.setattr(memory, "available_memory", lambda: 2**20)
    words = '[base]\nenv = "pong"\ndevice = "cuda"\ncluster = "10.0.0.1:6379"\n'
    study.check_memory_of(planned(words, tmp_path))
    here = words.replace('cluster = "10.0.0.1:6379"\n', "")
    with pytest.raises(InputError, match="no CUDA device"):
        planned(here, tmp_path)
    with pytest.raises(InputError, match="are available"):
        study.check_memory_of(planned(here.replace("cuda", "cpu"), tmp_path))


def test_the_seed_of_base_counts_where_the_grid_has_none(tmp_path: Path) -> None:
    (one,) = planned("[base]\nseed = 5", tmp_path)
    assert one.config.seed == 5
    plans = planned("[base]\nseed = 5\n[grid]\nseed = [1, 2]", tmp_path)
    assert [one.config.seed for one in plans] == [1, 2]


def test_a_folder_name_fits_the_file_system(tmp_path: Path) -> None:
    varied = {"env": "ALE/Pong-v5", "module": "a:b", **{f"option_{i}": 1e-9 for i in range(20)}}
    name = folder_name(varied)
    (tmp_path / name).mkdir()
    assert not set(name) & set("/:")
    assert folder_name({**varied, "seed": 1}) != folder_name({**varied, "seed": 2})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[grid", "is not TOML"),
        ("", "there is nothing to run; expected [base], [[settings]] or [grid]"),
        ("goal = 3", "there is nothing to run"),
        ("[gird]\nseed = [1]", "did you mean 'grid'?"),
        ("base = 3", "[base] is 3; expected a table of options"),
        ("settings = 3", "settings is 3; expected tables, each headed [[settings]]"),
        ("[settings]\nlr = 1e-3", "expected tables, each headed [[settings]]"),
        ("settings = []", "expected tables, each headed [[settings]]"),
        ("settings = [1]", "[[settings]] is 1; expected a table of options"),
        ("[grid]", "[grid] is empty; expected options with lists"),
        ("[[grid]]\nseed = [1]", "[grid] is [{'seed': [1]}]; expected a table of options"),
        ("[grid]\nseed = 3", "[grid] seed is 3; expected a list of values"),
        ("[grid]\nseed = []", "[grid] seed is []; expected a list of values"),
        ("[grid]\nseed = [1, 2, 1]", "[grid] seed has 1 twice"),
        ("[grid]\nlr = [1e-3, 0.001]", "[grid] lr has 0.001 twice"),
        ("[grid]\nnum_thread = [1]", "[grid] sets 'num_thread', no option; did you mean"),
        ("[grid]\nnum_threads = [0]", "--num-threads is 0"),
        ("[grid]\nseed = [[1]]", "--seed is [1]"),
        ("[grid]\npreset = ['fast']", "[grid] sets 'preset'; expected it in [base]"),
        ("[base]\nnum_thread = 1", "no option; did you mean 'num_threads'?"),
        ("[base]\nnum_threads = 0", "--num-threads is 0"),
        ("[base]\nnum_threads = 'two'", "--num-threads is 'two'; expected a whole number"),
        ('[base]\npreset = "fst"', "--preset is 'fst'"),
        ("[base]\npreset = 3", "--preset is 3; expected fast, paper"),
        ("[base]\nenv = 3", "env is 3; expected the name of an environment"),
        ("[base]\nenv = 'brekout'", "no game 'brekout'; did you mean 'breakout'?"),
        ("[grid]\ndevice = ['cpu', 'tpu']", "--device is 'tpu'"),
        ("[base]\nruns_dir = 'x'", "[base] sets 'runs_dir'; a study keeps its runs under --out"),
        ("[[settings]]\nruns_dir = 'x'", "[[settings]] sets 'runs_dir'"),
        ("[[settings]]\nseed = 2", "seed stands in [[settings]]; expected it in [grid]"),
        ("[[settings]]\nlr = 1e-3\n[grid]\nlr = [1e-4]", "lr stands in [[settings]] and in [grid]"),
        ("[[settings]]\n[[settings]]", "two runs of the study are the same"),
        ("[[settings]]\n[[settings]]\nnum_envs = 16", "two runs of the study are the same"),
        ("goal = 'high'\n[base]", "goal is 'high'; expected a number"),
        ("goal = true\n[base]", "goal is True; expected a number"),
        ("goal = nan\n[base]", "goal is nan; expected a number"),
        (f"goal = 1{'0' * 309}\n[base]", "0; expected a number"),
        (f"[base]\nlr = 1{'0' * 309}", "0; expected a number above 0"),
        ("[grid]\nlr = [-1]", "a3c: spec.toml: --lr is -1; expected "),
        ("[base]\nenv = 'CartPole-v1'\nnoop_max = 1", "--noop-max is 1, and CartPole-v1 does not"),
        ("[base]\nenv = 'CartPol-v1'", "a3c: spec.toml: no environment 'CartPol-v1'"),
        ("[base]\nenv = 'Blackjack-v1'", "Blackjack-v1 gives observations Tuple("),
        ("[base]\nseed = [1, 2]", "[base] seed is [1, 2]; expected one value, or it in [grid]"),
    ],
)
def test_bad_specs(
    text: str,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(text)
    assert cli.main(["study", "spec.toml", "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert expected in said
    assert not Path("out").exists()


def test_a_spec_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read it: Is a directory"):
        read_spec(tmp_path)
    (tmp_path / "spec.toml").write_bytes(b"goal = '\xff'")
    with pytest.raises(InputError, match="is not TOML"):
        read_spec(tmp_path / "spec.toml")


def test_an_out_that_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    Path("out").write_text("in the way")
    assert cli.main(["study", "spec.toml", "--out", "out"]) == 2
    assert capsys.readouterr().err == "a3c: cannot create the folder out: File exists\n"


@pytest.mark.parametrize("version", [None, "1.14.1"])
def test_a_missing_scipy_names_the_pip_command(
    version: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    find, of = importlib.util.find_spec, importlib.metadata.version
    if version is None:
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name: None if name == "scipy" else find(name)
        )
    else:
        monkeypatch.setattr(
            "importlib.metadata.version", lambda name: version if name == "scipy" else of(name)
        )
    assert cli.main(["study", "spec.toml", "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert (
        "a table of several runs needs SciPy 1.15 or newer; in a checkout of a3c-gpu: "
        "pip install -e '.[study]'" in said
    )
    assert not Path("out").exists()


def test_runs_of_another_spec_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They would stand in the table under settings that they never had."""
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text('[base]\nenv = "CartPole-v1"\nlr = 1e-3')
    (one,) = plan(read_spec(Path("spec.toml")), Path("out"))
    done = [record(one.config.total_agent_steps, 9.0, [20.0])]
    folder = make_run(one.runs_dir / "CartPole-v1-1", done, lr=2e-3, log_every_seconds=1.0)
    assert cli.main(["study", "spec.toml", "--out", "out"]) == 2
    expected = f"a3c: {folder} was run with --lr 0.002, the study has 0.001; expected another --out"
    assert capsys.readouterr().err.strip() == expected
    assert not Path("out/study.csv").exists()


def test_a_folder_with_the_runs_of_another_study_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its CSV and its figures would be replaced. A study that gets more runs is the same one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "run", lambda planned: True)
    Path("spec.toml").write_text('[base]\nenv = "CartPole-v1"\n[grid]\nlr = [0.1, 0.2]')
    Path("out/runs/.DS_Store").mkdir(parents=True)
    assert cli.main(["study", "spec.toml", "--out", "out"]) == 0  # no run is there
    make_run(Path("out/runs/seed-1_lr-0.1/CartPole-v1-1"), [], lr=0.1, log_every_seconds=1.0)
    assert cli.main(["study", "spec.toml", "--out", "out"]) == 0
    Path("spec.toml").write_text('[base]\nenv = "CartPole-v1"\n[grid]\ngamma = [0.9, 0.99]')
    for results in (False, True):  # a study that was killed has none, and would replace these
        if results:
            Path("out/study.csv").write_text("its own")
        assert cli.main(["study", "spec.toml", "--out", "out"]) == 2
        assert capsys.readouterr().err == (
            "a3c: out has the runs of another study, seed-1_lr-0.1 for one; "
            "expected another --out\n"
        )
    assert Path("out/study.csv").read_text() == "its own"


@pytest.mark.parametrize(
    ("command", "file", "complaint"),
    [
        ("study", "study.csv", "out has study.csv, but none of its runs"),
        ("study", "scores.csv", "out has scores.csv, of a benchmark"),
        ("benchmark", "study.csv", "out has study.csv, of a study"),
    ],
)
def test_results_whose_runs_are_gone_or_of_the_other_command_stand(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    file: str,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    Path("out").mkdir()
    Path("out", file).write_text("of hours")
    assert cli.main([command, "spec.toml", "--out", "out"]) == 2
    assert capsys.readouterr().err == f"a3c: {complaint}; expected another --out\n"
    assert [path.name for path in Path("out").iterdir()] == [file]
    assert Path("out", file).read_text() == "of hours"


def test_a_second_study_in_one_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    Path("out").mkdir()
    with locked(Path("out")):
        assert cli.main(["study", "spec.toml", "--out", "out"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"a3c: out is in use by process {os.getpid()} on ")
    assert said.count("\n") == 1
    assert [path.name for path in Path("out").iterdir()] == [".lock"]


def test_an_interrupted_study_writes_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    started: list[Planned] = []

    def one_and_a_half(planned: Planned) -> bool:
        if started:
            raise KeyboardInterrupt
        started.append(planned)
        steps = planned.config.total_agent_steps
        records = [record(steps // 2, 1.0, [20.0]), record(steps, 2.0, [20.0])]
        config = {**vars(planned.config), "log_every_seconds": 1.0}
        make_run(planned.runs_dir / "CartPole-v1-1", records, **config)
        return True

    monkeypatch.setattr(study, "run", one_and_a_half)
    assert cli.main(["study", "spec.toml", "--out", "out"]) == 0
    assert "interrupted; go on: a3c study spec.toml --out out\n" in capsys.readouterr().out
    assert len(Path("out/study.csv").read_text().splitlines()) == 3
    assert (
        Path("out/table.md")
        .read_text()
        .endswith("they came:\n\n- 3 runs in which no game has ended, which count nowhere\n")
    )


def test_the_table_names_the_runs_that_are_not_at_their_end(tmp_path: Path) -> None:
    plans = planned('[base]\nenv = "CartPole-v1"\n[grid]\nlr = [0.1, 0.2]\nseed = [1, 2]', tmp_path)
    for one, done in zip(plans, (1.0, 0.25, 1.0), strict=False):
        steps = int(done * one.config.total_agent_steps)
        make_run(one.runs_dir / "CartPole-v1-1", [record(steps, 1.0, [20.0])])
    left = study.unfinished(plans)
    total = plans[0].config.total_agent_steps
    quarter = f"lr 0.2, seed 1 ({total // 4:,} of {total:,} agent steps)"
    assert left == [quarter, "1 run in which no game has ended, which count nowhere"]
    assert study_csv.write_study(tmp_path / "study.csv", plans)
    figures.draw(tmp_path / "study.csv", None, left)
    assert (tmp_path / "table.md").read_text().endswith(f"they came:\n\n- {left[0]}\n- {left[1]}\n")


def test_the_table_names_the_runs_whose_last_evaluation_is_missing(tmp_path: Path) -> None:
    """What it calls their evaluated return at the end is of the last one that there is. A run
    without a game counts nowhere, and has come no distance."""
    text = '[base]\nenv = "CartPole-v1"\nevaluate_every = 100\n[grid]\nseed = [1, 2, 3, 4]'
    plans = planned(text, tmp_path)
    total = plans[0].config.total_agent_steps
    for one, evaluated in zip(plans, ([total // 4, total], [total // 4], [], None), strict=True):
        mean = None if evaluated is None else 20.0
        run = make_run(
            one.runs_dir / "CartPole-v1-1", [record(total, 1.0, [], mean_return_100=mean)]
        )
        write_evaluations(run, [evaluation(at, 1.0, 5.0) for at in evaluated or []])
    assert study.unfinished(plans) == [
        f"defaults, seed 2 (evaluated up to agent step {total // 4:,})",
        "defaults, seed 3 (evaluated up to agent step 0)",
        "1 run in which no game has ended, which count nowhere",
    ]


def test_a_run_that_fails_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rates = "seed = [1]\nlr = [1e-3, 1e30, 2e-3]"
    Path("spec.toml").write_text(SPEC.replace("seed = [1, 2]", rates).replace("3000", "1000"))
    assert cli.main(["study", "spec.toml", "--out", "out"]) == 1
    said = capsys.readouterr()
    assert "the run stopped: the gradient is not finite" in said.out
    assert "a3c: the run stopped: the gradient is not finite" in said.err
    with Path("out/study.csv").open(newline="") as file:
        last = {row["lr"]: int(row["agent_steps"]) for row in csv.DictReader(file)}
    assert min(last["0.001"], last["0.002"]) >= 1000
    assert Path("out/table.md").exists()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("too many agents"), "too many agents"),
        (ValueError("it fell over"), "ValueError: it fell over"),
        (FileNotFoundError("no such map"), "FileNotFoundError: no such map"),
    ],
)
def test_a_run_that_cannot_begin_stops_no_other(
    error: Exception,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As where memory has shrunk since the study began, or an environment raises at once."""
    started: list[int] = []

    def run(planned: Planned) -> bool:
        started.append(planned.config.seed)
        if len(started) == 2:
            raise error
        return True

    monkeypatch.setattr(study, "run", run)
    plans = planned(SPEC, tmp_path)
    went = study.run_all(plans)
    assert len(started) == 4
    assert f"{plans[1].runs_dir.name} has failed: {words}\n" in capsys.readouterr().out
    assert not went.interrupted
    with pytest.raises(RunFailed, match=words) as raised:
        went.check()
    assert raised.value.__cause__ is error
    assert raised.value.outside == isinstance(error, InputError)  # else with its traceback


def test_where_what_follows_a_run_fails_the_run_has_failed_and_the_next_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a benchmark's games for which somebody has taken the memory."""
    monkeypatch.setattr(study, "run", lambda planned: True)
    plans = planned(SPEC, tmp_path)
    ended: list[Planned] = []

    def score(one: Planned) -> None:
        ended.append(one)
        if len(ended) == 2:
            raise MemoryError("no room")

    went = study.run_all(plans, score)
    assert ended == plans
    assert f"{plans[1].runs_dir.name} has failed: MemoryError: no room\n" in capsys.readouterr().out
    with pytest.raises(RunFailed, match="no room"):
        went.check()


def test_a_run_that_somebody_else_trains_is_no_refusal_of_the_system(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(InputError, match="is in use by") as taken,
        locked(tmp_path),
    ):
        pass
    assert not study.is_refused(taken.value)


def test_a_checkpoint_that_cannot_be_read_is_that_runs_fault_alone(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Is a directory") as unreadable:
        checkpoint.load(tmp_path)
    assert not study.is_refused(unreadable.value)


def test_a_reader_who_leaves_stops_no_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ended: list[Planned] = []
    monkeypatch.setattr(study, "run", lambda planned: True)
    with os.fdopen(writing, "w", buffering=1) as nobody:
        monkeypatch.setattr("sys.stdout", nobody)
        went = study.run_all(planned(SPEC, tmp_path), ended.append)
        monkeypatch.undo()
        with suppress(BrokenPipeError):
            nobody.close()
    assert len(ended) == 4
    assert not went.interrupted


def test_a_full_disk_stops_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Planned] = []

    def full(planned: Planned) -> bool:
        started.append(planned)
        raise RunFailed("No space left on device", tmp_path, outside=True) from OSError(28)

    monkeypatch.setattr(study, "run", full)
    with pytest.raises(RunFailed, match="No space left"):
        study.run_all(planned(SPEC, tmp_path))
    assert len(started) == 1


def test_a_disk_that_is_full_as_a_run_begins_stops_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Planned] = []

    def full(planned: Planned) -> bool:
        started.append(planned)
        with as_input_error("cannot create the folder"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(study, "run", full)
    with pytest.raises(InputError, match="No space left"):
        study.run_all(planned(SPEC, tmp_path))
    assert len(started) == 1


def test_a_mean_of_few_games_reaches_no_goal() -> None:
    """The first games to end may be the best."""
    names = ("agent_steps", "episodes", "mean_return_100")
    values = [("10", "3", "30"), ("20", "99", "30"), ("30", "100", "19"), ("40", "130", "20")]
    run = [dict(zip(names, row, strict=True)) for row in values]
    assert figures.reached(run, 20, "agent_steps") == 40
    for row in run:
        del row["episodes"]  # as older files have none
    assert figures.reached(run, 20, "agent_steps") == 10


def test_a_study_that_goes_on_has_the_names_that_its_runs_have(tmp_path: Path) -> None:
    text = '[base]\nenv = "CartPole-v1"\nrun_name = "first"'
    (one,) = planned(text, tmp_path)
    make_run(one.runs_dir / "a", [], **{**vars(one.config), "runs_dir": str(one.runs_dir)})
    study.check_as_planned(one)
    (other,) = planned(text.replace("first", "second"), tmp_path)
    with pytest.raises(InputError, match="was run with --run-name first, the study has second"):
        study.check_as_planned(other)


def test_the_newest_run_is_found_without_its_link(tmp_path: Path) -> None:
    (one,) = planned('[base]\nenv = "CartPole-v1"', tmp_path)
    assert not one.folder.exists()
    copied = make_run(one.runs_dir / "latest", [])  # a link that was copied as a folder
    assert one.folder == copied
    for name in ("CartPole-v1-20260102-000000", "CartPole-v1-20260101-000000", ".hidden"):
        make_run(one.runs_dir / name, [])
    (one.runs_dir / "CartPole-v1-20260103-000000").mkdir()  # killed before it had begun
    assert one.folder.name == "CartPole-v1-20260102-000000"
    saved = checkpoint.folder(one.runs_dir / "CartPole-v1-20260101-000000")
    saved.mkdir()
    checkpoint.save(saved / "000000000010.safetensors", example())
    assert one.folder == saved.parent  # the newer one was killed before its first checkpoint


def test_a_run_goes_on_from_its_checkpoint_and_begins_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path | None] = []

    def trained(config: Config, resume: Path | None, quiet: bool) -> Run:
        asked.append(resume)
        return Run(tmp_path, 9, 9, None, finished=True, interrupted=False)

    monkeypatch.setattr(study, "train", trained)
    one = planned(SPEC, tmp_path)[0]
    folder = make_run(one.runs_dir / "run", [])
    assert study.run(one)
    save_checkpoint(folder, 100)
    assert study.run(one)
    assert asked == [None, folder]


def test_damaged_records_are_left_out_of_the_csv(tmp_path: Path) -> None:
    (one,) = planned('[base]\nenv = "CartPole-v1"\ntotal_agent_steps = 1000', tmp_path)
    records: list[Any] = [
        record(100, 1.0, [1.0]),
        5,
        {"agent_steps": 200},
        record(300, 3.0, [1.0], mean_return_100=None),
        record(400, 4.0, [1.0], mean_return_100=float("inf")),
        record(1000, 9.0, [], mean_return_100=5.0),
    ]
    make_run(one.runs_dir / "CartPole-v1-1", records)
    assert study.come_to(one) == ("1,000 of 1,000", "5.0", "111")
    assert [row["agent_steps"] for row in study_csv.rows_of(one)] == [100, 1000]


def test_runs_of_one_seed_that_were_put_together_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "study.csv"
    path.write_text("lr,seed,agent_steps\n1,1,10\n1,2,10\n1,1,20\n1,1,5\n1,1,15\n")
    (runs,) = study_csv.read_csv(path).values()
    steps = [" ".join(row["agent_steps"] for row in run) for run in runs]
    assert steps == ["10 20", "5 15", "10"]
    for row in ("1,1,many", "1,1,", "1,1"):
        path.write_text(f"lr,seed,agent_steps\n{row}\n")
        with pytest.raises(InputError, match="or none of whole numbers 'agent_steps'"):
            study_csv.read_csv(path)


def test_a_run_has_ended_when_its_checkpoint_and_its_evaluations_say_so(tmp_path: Path) -> None:
    text = '[base]\nenv = "CartPole-v1"\ntotal_agent_steps = 1000'
    (one,) = planned(text, tmp_path)
    (evaluated,) = planned(text + "\nevaluate_every = 500", tmp_path)
    run = make_run(one.runs_dir / "CartPole-v1-1", [record(1008, 9.0, [1.0])])
    checkpoints = checkpoint.folder(run)
    checkpoints.mkdir()
    checkpoint.save(checkpoints / "000000000992.safetensors", example(agent_steps=992))
    assert not study.finished(one)  # killed after its last record
    last = checkpoints / "000000001008.safetensors"
    last.write_bytes(b"damaged")
    assert not study.finished(one)  # else the policy before it would count as the last
    checkpoint.save(last, example(agent_steps=1008))
    assert study.finished(one)
    evaluated = evaluated._replace(runs_dir=one.runs_dir)
    for agent_steps in (504, 1000):
        assert not study.finished(evaluated)
        write_evaluations(run, [evaluation(agent_steps, 9.0, 5.0)])
    (run / "best.json").touch()
    assert study.finished(evaluated)


def evaluated_study(tmp_path: Path, evaluate: bool = True) -> Path:
    """study.csv of two runs whose training return passes 20 at 800 agent steps, later than that of
    their evaluations."""
    text = '[base]\nenv = "CartPole-v1"\ntotal_agent_steps = 1000\nevaluate_every = 300'
    plans = planned(text + "\n[grid]\nseed = [1, 2]", tmp_path)
    for one in plans:
        means = {100: None, 400: 10.0, 800: 20.0, 1000: 30.0}
        records = [
            record(at, at / 10, [], episodes=at, mean_return_100=mean) for at, mean in means.items()
        ]
        run = make_run(one.runs_dir / "CartPole-v1-1", records)
        found = [
            evaluation(320, 31.0, 5.0),
            evaluation(600, 61.0, 25.0),
            evaluation(1000, 99.0, None),
        ]
        write_evaluations(run, found if evaluate else [])
    path = tmp_path / "study.csv"
    assert study_csv.write_study(path, plans)
    return path


def test_each_evaluation_has_a_row_of_its_own(tmp_path: Path) -> None:
    with evaluated_study(tmp_path).open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["seed"] == "1"]
    found = [(row["agent_steps"], row["mean_return_100"], row["evaluated_return"]) for row in rows]
    assert found == [
        ("320", "", "5.0"),
        ("400", "10.0", ""),
        ("600", "10.0", "25.0"),
        ("800", "20.0", ""),
        ("1000", "30.0", ""),
        ("1000", "30.0", ""),
    ]
    assert rows[0]["seconds"] == "31.0"
    assert study_csv.setting_of(rows[2]) == {}


def test_a_study_without_evaluations_has_no_column_of_them(tmp_path: Path) -> None:
    path = evaluated_study(tmp_path, evaluate=False)
    assert "evaluated_return" not in path.read_text()
    assert [made.name for made in figures.draw(path, 20.0)] == ["return.png", "table.md"]
    assert "evaluated" not in (tmp_path / "table.md").read_text()


def test_a_run_whose_agents_ended_no_game_has_its_evaluations(tmp_path: Path) -> None:
    (one,) = planned('[base]\nenv = "CartPole-v1"\nevaluate_every = 300', tmp_path)
    records = [record(at, at / 10, [], mean_return_100=None) for at in (100, 400)]
    run = make_run(one.runs_dir / "CartPole-v1-1", records)
    write_evaluations(run, [evaluation(320, 31.0, 5.0)])
    path = tmp_path / "study.csv"
    assert study_csv.write_study(path, [one])
    assert [made.name for made in figures.draw(path, 4.0)] == ["evaluated-return.png", "table.md"]
    titles, _, row = (tmp_path / "table.md").read_text().splitlines()
    cells = dict(zip(titles.split(" | "), row.split(" | "), strict=True))
    assert cells["evaluated return at the end"] == "5.00"
    assert cells["return at the end"] == "by 0 of 1"


def test_the_table_compares_by_evaluation(tmp_path: Path) -> None:
    for name in ("threads.png", "notes.png"):
        (tmp_path / name).write_text("of an earlier table")
    made = figures.draw(evaluated_study(tmp_path), 20.0)
    assert not (tmp_path / "threads.png").exists()  # one thread number: there is nothing to compare
    assert (tmp_path / "notes.png").exists()
    assert [path.name for path in made] == ["return.png", "evaluated-return.png", "table.md"]
    (tmp_path / "threads.png").mkdir()
    with pytest.raises(InputError, match=r"cannot remove .*threads\.png, of other runs: "):
        figures.draw(tmp_path / "study.csv", None)
    titles, _, row = (tmp_path / "table.md").read_text().splitlines()
    cells = dict(zip(titles.split(" | "), row.split(" | "), strict=True))
    assert cells["evaluated return at the end"] == "25.0"  # the last one that is a number
    assert cells["agent steps to an evaluated return of 20 |"] == "600 |"
    assert cells["agent steps to a return of 20"] == "800"
    assert cells["return at the end"] == "30.0"


def test_a_study_of_evaluated_and_other_runs(tmp_path: Path) -> None:
    rows = {"agent_steps": "5", "seconds": "1", "mean_return_100": "2", "seed": "1"}
    mixed = {**rows, "agent_steps_per_second": "5", "policy_lag": ""}
    runs = {"one": [[{**mixed, "evaluated_return": "3"}]], "other": [[dict(mixed)]]}
    assert list(figures.with_values(runs, "evaluated_return")) == ["one"]
    figures.write_table(runs, 2.5, tmp_path / "table.md")
    *_, one, other = (tmp_path / "table.md").read_text().splitlines()
    assert one.endswith("| 3.00 | 5.00 |")
    assert other.endswith("| by 0 of 1 | by 0 of 1 |")


def test_bad_intervals_are_named_before_the_first_run(tmp_path: Path) -> None:
    for value, expected in (("0", "--evaluate-every is 0"), ('"x"', "is 'x'; expected a whole")):
        with pytest.raises(InputError, match=expected):
            planned(f"[base]\nevaluate_every = {value}", tmp_path)
    plans = planned('[grid]\nevaluate_every = ["never", 1000]', tmp_path)
    assert [one.config.evaluate_every for one in plans] == ["never", 1000]


def test_an_interrupt_once_a_run_is_trained_ends_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = planned('[base]\nenv = "CartPole-v1"', tmp_path)
    for interrupted in (False, True):
        ended = Run(tmp_path, 1, 1, 1.0, True, None, interrupted)
        monkeypatch.setattr(study, "train", lambda *_, ended=ended, **__: ended)
        assert study.run(one) != interrupted


def test_a_study_in_which_no_game_has_ended_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text('[base]\nenv = "MountainCar-v0"\ntotal_agent_steps = 100')
    assert cli.main(["study", "spec.toml", "--out", "out"]) == 0
    assert capsys.readouterr().out.endswith("no run has ended a game: there is nothing to write\n")
    assert not Path("out/study.csv").exists()


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


def test_a_curve_begins_where_all_seeds_have_been_measured() -> None:
    one = [{"agent_steps": str(k), "evaluated_return": str(k)} for k in (100, 200, 1000)]
    two = [{"agent_steps": str(k), "evaluated_return": str(k)} for k in (150, 800)]
    place, mean, _, _ = figures.averaged([one, two], "agent_steps", "evaluated_return")
    assert (place[0], place[-1]) == (150, 800)
    assert mean == pytest.approx(place)


def test_a_curve_is_the_mean_of_its_seeds_between_its_bounds() -> None:
    seeds = [
        [{"agent_steps": str(k), "mean_return_100": value} for k in (1, 2)] for value in ("1", "3")
    ]
    _, mean, low, high = figures.averaged(seeds, "agent_steps", "mean_return_100")
    assert (set(mean), set(low), set(high)) == ({2}, {1}, {3})


def test_a_setting_with_a_seed_that_measured_nothing_has_no_curve() -> None:
    """There would be nothing to begin its mean with."""
    row = {"agent_steps": "9", "mean_return_100": "1", "evaluated_return": "7"}
    runs = {"half": [[row], [{**row, "evaluated_return": ""}]], "whole": [[row], [row]]}
    assert figures.with_values(runs, "evaluated_return").keys() == {"whole"}


def test_cells_show_three_digits() -> None:
    assert figures.table_cell(np.array([1234.5])) == "1,234"
    assert figures.table_cell(np.array([12.345, 12.345])) == "12.3"
    assert figures.table_cell(np.array([0.5, np.inf, 2.0])) == "by 2 of 3"
    assert figures.table_cell(np.array([1.0, 3.0])) == "2.00 (1.00 to 3.00)"
    assert figures.table_cell(np.array([0.5])) == "0.50"
    assert figures.table_cell(np.array([0.0123, 0.0149])) == "0.014 (0.012 to 0.015)"
    assert figures.table_cell(np.array([0.0])) == "0.00"


def test_a_run_of_one_record_is_a_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "write_figure", lambda figure, path: drawn.append(figure))
    row = {"agent_steps": "5", "seconds": "1", "mean_return_100": "9"}
    runs = {"one": [[row]], "two": [[row, {**row, "agent_steps": "9", "seconds": "2"}]]}
    figures.draw_returns(runs, tmp_path / "return.png", "mean_return_100")
    markers = [[line.get_marker() for line in axis.get_lines()] for axis in drawn[0].axes]
    assert markers == [[".", "None"]] * 2


def test_curves_are_by_million_agent_steps_and_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "write_figure", lambda figure, path: drawn.append(figure))
    rows = [
        {"agent_steps": str(k * 10**6), "seconds": str(k * 3600), "mean_return_100": str(k)}
        for k in (1, 2)
    ]
    figures.draw_returns({"one": [rows]}, tmp_path / "return.png", "mean_return_100")
    ends = [np.asarray(axis.get_lines()[0].get_xdata())[-1] for axis in drawn[0].axes]
    labels = [axis.get_xlabel() for axis in drawn[0].axes]
    assert (ends, labels) == ([2, 120], ["million agent steps", "minutes"])


def test_learning_rates_are_drawn_by_evaluation_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "write_figure", lambda figure, path: drawn.append(figure))
    for evaluated, expected in (("7", [7, 7]), ("", [1, 1])):
        runs = {
            f"lr {lr}": [[{"agent_steps": "9", "seconds": "1", "lr": lr, "episodes": "100",
                           "mean_return_100": "1", "evaluated_return": evaluated}]]
            for lr in ("0.1", "0.01")
        }  # fmt: skip
        figures.draw_learning_rates(runs, tmp_path / "learning-rate.png")
        (axis,) = drawn[-1].axes
        (line,) = (each for each in axis.get_lines() if len(np.asarray(each.get_xdata())) == 2)
        assert np.asarray(line.get_ydata()).tolist() == expected


def test_intervals_are_of_95_percent() -> None:
    """Of a mean of many values they are 1.96 standard errors wide either way, about."""
    values = np.arange(400.0)
    mean, low, high = figures.interval(values)
    error = values.std() / 20
    assert (high - mean, mean - low) == pytest.approx((1.96 * error,) * 2, rel=0.1)


def two_records(threads: str, agent_steps: str) -> list[dict[str, str]]:
    first = {"num_threads": threads, "agent_steps": "10", "seconds": "2", "policy_lag": "0.5"}
    first |= {"episodes": "100", "mean_return_100": "3", "evaluated_return": ""}
    last = {"agent_steps": agent_steps, "seconds": "4", "policy_lag": "1.5", "mean_return_100": "9"}
    return [first, {**first, **last}]


def test_threads_are_drawn_by_their_speed_and_their_lag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "write_figure", lambda figure, path: drawn.append(figure))
    runs = {"one": [two_records("1", "100")], "two": [two_records("2", "180")]}
    figures.draw_threads(runs, tmp_path / "threads.png")
    for axis, expected in zip(drawn[0].axes, ([25, 45], [1, 1]), strict=True):
        (line,) = (line for line in axis.get_lines() if len(np.asarray(line.get_xdata())) == 2)
        assert np.asarray(line.get_xdata()).tolist() == [1, 2]
        assert np.asarray(line.get_ydata()).tolist() == expected
    labels = [axis.get_ylabel() for axis in drawn[0].axes]
    assert labels == ["agent steps per second", "policy lag, updates"]


def test_an_interval_lies_where_its_bounds_do() -> None:
    axis = Figure().subplots()
    runs = {"one": [two_records("1", "100")]}
    figures.with_points(axis, runs, "num_threads", lambda _: (2.0, 1.0, 5.0))
    (bar,) = (each for each in axis.collections if isinstance(each, LineCollection))
    np.testing.assert_array_equal(bar.get_segments()[0], [[1, 1], [1, 5]])


def test_threads_are_compared_by_evaluation_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(figures, "write_figure", lambda figure, path: drawn.append(figure))

    def run(threads: str, trained: str, evaluated: str) -> list[dict[str, str]]:
        common = {"method": "a3c", "num_threads": threads}
        training = {"mean_return_100": "9", "evaluated_return": ""}
        evaluation = {"mean_return_100": "9", "evaluated_return": "9"}
        return [
            {**common, **training, "agent_steps": trained, "seconds": trained},
            {**common, **evaluation, "agent_steps": evaluated, "seconds": evaluated},
        ]

    runs = {"one": [run("1", "10", "60")], "two": [run("2", "5", "20")]}
    figures.draw_speed_up(runs, 5, tmp_path / "speed-up.png")
    for axis in drawn[0].axes:
        places = {float(np.asarray(line.get_ydata())[-1]) for line in axis.get_lines()}
        assert 3 in places  # 60 by 20, and not 10 by 5
        assert 2 not in places


def test_the_table_has_each_measure_in_its_column(tmp_path: Path) -> None:
    runs = {"one": [two_records("1", "100")], "two": [two_records("2", "180")]}
    lines = figures.write_table(runs, 5.0, tmp_path / "table.md", []).read_text().splitlines()
    names = [name.strip() for name in lines[0].strip("|").split("|")]
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert dict(zip(names, cells, strict=True)) == {
        "setting": "one",
        "seeds": "1",
        "return at the end": "9.00",
        "agent steps per second": "25.0",
        "policy lag, updates": "1.00",
        "agent steps to a return of 5": "100",
        "seconds to a return of 5": "4.00",
    }


def test_a_line_joins_settings_that_differ_in_one_option() -> None:
    axis = Figure().subplots()
    runs = {
        f"{threads} {lr}": [[{"num_threads": threads, "lr": lr, "seconds": "1"}]]
        for threads in ("1", "8")
        for lr in ("0.002", "0.001")
    }
    figures.with_intervals(axis, runs, "lr", lambda run: float(run[0]["num_threads"]))
    labels = axis.get_legend_handles_labels()[1]
    assert labels == ["num_threads 1", "num_threads 8"]
    lines = [np.asarray(line.get_xdata()).tolist() for line in axis.get_lines()]
    assert lines == [[0.001, 0.002]] * 2


def test_the_time_to_a_goal() -> None:
    run = [
        {"seconds": "1.0", "mean_return_100": "5"},
        {"seconds": "2.0", "mean_return_100": "12"},
        {"seconds": "3.0", "mean_return_100": "9"},
    ]
    assert figures.reached(run, 10, "seconds") == 2.0
    assert figures.reached(run, 13, "seconds") == np.inf


def test_threads_are_compared_with_the_best_setting_of_one_thread_of_their_method() -> None:
    def run(threads: str, envs: str, seconds: str, method: str = "a3c") -> list[dict[str, str]]:
        words = {"method": method, "num_threads": threads, "num_envs": envs}
        return [{**words, "seconds": seconds, "mean_return_100": "9", "evaluated_return": ""}]

    runs = {
        "slow": [run("1", "8", "30")],
        "fast": [run("1", "4", "10"), run("1", "4", "14")],
        "two": [run("2", "4", "6")],
        "none": [run("", "4", "1")],
        "other": [run("1", "4", "40", "n-step-q")],
    }
    measured = figures.measured_by(runs)
    assert measured == "mean_return_100"  # there are no evaluations
    alone = figures.alone_by_kind(runs, 5, "seconds", measured)
    assert alone == {("a3c", ""): 12, ("n-step-q", ""): 40}
    sooner = {
        name: figures.times_fewer(runs[name], alone, 5, "seconds", measured)
        for name in ("two", "fast")
    }
    assert sooner["two"] == (2, 2, 2)
    assert sooner["fast"][0] == 1  # the mean of 12 / 10 and 12 / 14 is more
    assert sooner["fast"][1:] == pytest.approx((12 / 14, 12 / 10))
    assert figures.times_fewer(runs["fast"], alone, 10, "seconds", measured) == (0, 0, 0)
    assert np.isnan(figures.alone_by_kind(runs, 10, "seconds", measured)["a3c", ""])


def test_threads_of_another_environment_are_another_kind() -> None:
    def run(env: str, threads: str, seconds: str) -> list[dict[str, str]]:
        words = {"env": env, "num_threads": threads, "seconds": seconds}
        return [{**words, "mean_return_100": "9", "evaluated_return": ""}]

    runs = {"easy": [run("a", "1", "2")], "hard": [run("b", "1", "8")]}
    alone = figures.alone_by_kind(runs, 5, "seconds", "mean_return_100")
    assert alone == {("", "a"): 2, ("", "b"): 8}
    two = [run("b", "2", "4")]
    assert figures.times_fewer(two, alone, 5, "seconds", "mean_return_100") == (2, 2, 2)


def test_evaluations_say_what_is_reached_where_every_run_has_them() -> None:
    run = [
        {"agent_steps": "10", "mean_return_100": "9", "evaluated_return": ""},
        {"agent_steps": "20", "mean_return_100": "9", "evaluated_return": "12"},
    ]
    assert figures.measured_by({"a": [run]}) == "evaluated_return"
    assert figures.measured_by({"a": [run], "b": [run[:1]]}) == "mean_return_100"
    assert figures.reached(run, 9, "agent_steps", "evaluated_return") == 20


def test_whole_numbers_of_a_spec_may_be_written_as_1e6(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(
        "[base]\ntotal_agent_steps = 1e6\n[[settings]]\nnum_envs = 3.2e1\n[grid]\nseed = [1e0, 2]"
    )
    plans = plan(read_spec(spec), tmp_path)
    assert [each.config.seed for each in plans] == [1, 2]
    assert {each.config.total_agent_steps for each in plans} == {1_000_000}
    assert {each.config.num_envs for each in plans} == {32}


SPECS = sorted((Path(__file__).parents[2] / "benchmarks/studies").glob("*.toml"))


@pytest.mark.parametrize("spec", SPECS, ids=lambda path: path.stem)
def test_every_study_that_is_kept_can_be_planned(spec: Path, tmp_path: Path) -> None:
    assert len(plan(read_spec(spec), tmp_path)) > 1
