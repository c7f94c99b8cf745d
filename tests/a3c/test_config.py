"""Each preset's values; ranges and choices."""

import importlib
import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from a3c import machine
from a3c.config import KINDS, VALUE_METHODS, Config, stages, to_dict
from a3c.errors import InputError
from a3c.games import GREEDY_EPSILON, SAMPLED_EPSILON, EvaluationProtocol
from a3c.options import ELSEWHERE, differences
from a3c.presets import PRESETS, preset, preset_values
from a3c.results.play import PlayOptions


def values(config: Config, names: str) -> list[object]:
    return [getattr(config, name) for name in names.split()]


def test_fast_is_the_default() -> None:
    assert preset("fast") == Config()
    assert Config().mode == "async"
    assert values(Config(), "num_threads num_envs rollout_length") == [2, 16, 20]
    assert values(Config(), "minibatches epochs correction") == [1, 1, "none"]
    assert values(Config(), "gae_lambda") == [0.95]
    assert values(Config(), "lr lr_schedule lr_final_fraction") == [3e-3, "exponential", 0.03]
    assert values(Config(), "loss_reduction") == ["mean"]
    assert values(Config(), "rmsprop_decay rmsprop_eps rmsprop_initial") == [
        0.97,
        1e-9,
        "debiased",
    ]
    assert Config().subtract_background


def test_the_papers_other_presets_are_paper_but_for_what_they_are_about() -> None:
    for method in VALUE_METHODS:
        assert PRESETS[method] == {**PRESETS["paper"], "method": method}
    continuous = preset("paper-continuous", env="Pendulum-v1")
    assert values(continuous, "rollout_length ent_coef recurrent std network clip_rewards") == [
        200, 1e-4, True, "softplus", "paper-vector", False,
    ]  # fmt: skip
    own = {"total_agent_steps", "rollout_length", "ent_coef", "network"}
    alike = [name for name in PRESETS["paper"] if name not in own]
    assert all(PRESETS["paper-continuous"][name] == PRESETS["paper"][name] for name in alike)


def test_rules_count_the_threads_of_all_nodes() -> None:
    assert values(Config(num_threads=2), "correction minibatches") == ["none", 1]
    assert Config(num_threads=2, nodes=4).correction == "vtrace"  # a lag as with eight threads
    names = "num_envs rollout_length minibatches lr rmsprop_decay correction"
    nodes = Config(num_threads=2, nodes=4, num_envs=64, mode="sync")
    threads = Config(num_threads=8, num_envs=64, mode="sync")
    assert values(nodes, names) == values(threads, names)
    assert values(nodes, names) != values(Config(num_threads=2, num_envs=64, mode="sync"), names)


def test_paper() -> None:
    paper = preset("paper")
    assert paper.total_agent_steps * paper.mean_frame_skip == 320_000_000
    assert values(paper, "num_threads num_envs rollout_length gamma") == [16, 1, 5, 0.99]
    assert values(paper, "lr lr_schedule lr_final_fraction") == [7e-4, "linear", 0.0]
    assert values(paper, "rmsprop_decay rmsprop_eps rmsprop_initial") == [0.99, 0.1, 0.0]
    assert values(paper, "ent_coef ent_final_fraction vf_coef max_grad_norm grad_clip") == [
        0.01,
        1.0,
        0.5,
        40.0,
        "global-norm",
    ]
    assert not paper.subtract_background
    assert values(paper, "network life_loss_terminal loss_reduction gae_lambda") == [
        "paper",
        True,
        "sum",
        1.0,
    ]


def test_seed() -> None:
    seed = preset("seed")
    assert values(seed, "num_threads num_envs rollout_length") == [4, 64, 5]
    assert values(seed, "lr lr_final_fraction lr_schedule_until") == [2.5e-4, 0.1, 0.5]
    assert seed.total_agent_steps == 1_000_000 * 64 * 5
    assert values(seed, "rmsprop_decay rmsprop_eps rmsprop_initial") == [0.99, 1e-10, 1.0]
    assert values(seed, "grad_clip max_grad_norm") == ["average-norm", 0.1]
    assert values(seed, "ent_coef ent_final_fraction advantage_floor") == [0.01, 1.0, 0.0]
    assert values(seed, "vf_coef loss_reduction") == [1.0, "mean"]
    assert not seed.subtract_background
    assert values(seed, "frame_skip frame_skip_max mean_frame_skip") == [2, 4, 3.0]
    assert values(seed, "scale_pixels sticky_actions life_loss_terminal network") == [
        False,
        0.25,
        False,
        "seed",
    ]


def test_control() -> None:
    control = preset("control")
    assert values(control, "total_agent_steps num_threads num_envs rollout_length") == [
        500_000,
        1,
        8,
        16,
    ]
    assert values(control, "gae_lambda gamma correction minibatches") == [0.95, 0.99, "none", 1]
    assert values(control, "lr lr_schedule lr_final_fraction") == [3e-3, "linear", 0.0]
    assert values(control, "rmsprop_decay rmsprop_eps rmsprop_initial") == [0.99, 1e-5, 0.0]
    assert values(control, "ent_coef vf_coef max_grad_norm") == [0.0, 0.5, 1000.0]
    assert values(control, "clip_rewards normalize lr_by_fan_in") == [False, True, False]
    assert values(control, "epsilon_emulator_frames target_emulator_frames") == [50_000, 500]


def test_threads_of_several_nodes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "physical_cores", lambda: 12)
    assert Config(nodes=4).num_threads == 3
    monkeypatch.setattr(machine, "physical_cores", lambda: 2)
    assert Config(nodes=4).num_threads == 1


def test_a_gpu_has_more_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    own = {device: Config(device=device).num_envs for device in ("cpu", "cuda", "cuda:1", "auto")}
    assert own == {"cpu": 16, "cuda": 64, "cuda:1": 64, "auto": 16}
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    assert Config(device="auto").num_envs == 64


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (12, 12), (64, 16)])
def test_threads_are_the_physical_cores_at_most_16(
    cores: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "physical_cores", lambda: cores)
    assert Config().num_threads == threads
    assert Config(num_threads="auto").num_threads == threads  # type: ignore[arg-type]  # may be so
    assert preset("paper", num_threads="auto").num_threads == threads
    assert to_dict(Config())["num_threads"] == threads
    assert replace(Config(num_threads=3), lr=1.0).num_threads == 3
    paper = [*VALUE_METHODS, "paper-continuous"]
    own = {name: preset(name).num_threads for name in PRESETS if name != "fast"}
    assert own == {"paper": 16, "seed": 4, "control": 1, **dict.fromkeys(paper, 16)}
    assert preset_values("fast")["num_threads"] == "auto"


@pytest.mark.parametrize(
    ("agents", "rollout", "minibatches"),
    [
        (1, 20, 1),
        (16, 20, 1),
        (31, 20, 1),
        (32, 20, 2),
        (37, 20, 1),  # a prime number cannot be dealt
        (36, 20, 2),
        (1024, 20, 64),
        (4096, 5, 64),
        (4, 400, 4),
    ],
)
def test_an_update_has_320_agent_steps_however_many_agents_there_are(
    agents: int, rollout: int, minibatches: int
) -> None:
    config = Config(num_envs=agents, rollout_length=rollout)
    assert config.minibatches == minibatches
    together = Config(num_envs=agents, rollout_length=rollout, mode="sync", num_threads=1)
    assert together.minibatches == minibatches


@pytest.mark.parametrize(
    ("threads", "agents", "rollout", "minibatches"),
    [(1, 512, 20, 32), (1, 544, 10, 17), (16, 32, 20, 2), (16, 64, 10, 2), (1, 1024, 10, 32)],
)
def test_many_agents_have_shorter_rollouts(
    threads: int, agents: int, rollout: int, minibatches: int
) -> None:
    config = Config(num_threads=threads, num_envs=agents)
    assert values(config, "rollout_length minibatches") == [rollout, minibatches]


@pytest.mark.parametrize(
    ("minibatches", "numbers"), [(1, [1]), (8, [1, 2, 4, 8]), (24, [1, 3, 6, 12, 24]), (7, [1, 7])]
)
def test_a_run_grows_from_one_minibatch_to_all(minibatches: int, numbers: list[int]) -> None:
    config = Config(num_envs=4 * minibatches, minibatches=minibatches, rollout_length=10)
    grown = stages(config)
    assert [each.minibatches for _, each in grown] == numbers
    assert [each.num_envs for _, each in grown] == [4 * k for k in numbers]
    # A rollout has 40 agent steps for each minibatch, and 256 times as many came before
    assert [begun for begun, _ in grown] == [0, *(256 * 40 * k for k in numbers[1:])]
    assert grown[-1][1] == config
    assert {each.lr for _, each in grown} == {config.lr}


def test_up_to_a_thousand_agents_a_run_of_four_thousand_is_the_same() -> None:
    thousand, four = (stages(Config(num_threads=1, num_envs=n)) for n in (1024, 4096))
    assert four[:6] == thousand
    assert [begun for begun, _ in four[5:]] == [2_621_440, 5_242_880, 10_485_760]


def test_a_machine_has_so_many_threads_in_all() -> None:
    assert Config(nodes=16, num_threads=16).nodes == 16
    with pytest.raises(InputError, match="--nodes 20 of --num-threads 16 are 320 threads; expected "
                       "at most 256 on a machine"):  # fmt: skip
        Config(nodes=20, num_threads=16)
    assert Config(nodes=20, num_threads=16, cluster="auto").num_threads == 16


def test_nodes_get_their_gpus_from_ray() -> None:
    """Which counts them anew for each: a node's second one may be its cuda:0."""
    with pytest.raises(InputError, match=r"--device is 'cuda:1' with --nodes 2, .*; expected auto"):
        Config(device="cuda:1", nodes=2)
    with pytest.raises(InputError, match=r"'cuda:0,cuda:1' with --cluster, .*; expected auto"):
        Config(device="cuda:0,cuda:1", nodes=1, cluster="auto")
    assert Config(device="cuda:1", nodes=1).device == "cuda:1"
    assert Config(device="cuda", nodes=2).device == "cuda"


@pytest.mark.parametrize(
    "options", [{"grow": False}, {"nodes": 2}, {"cluster": "auto", "nodes": 1}]
)
def test_runs_that_have_all_agents_at_once(options: dict[str, Any]) -> None:
    config = Config(num_envs=64, minibatches=8, **options)
    assert stages(config) == [(0, config)]


def test_what_neither_reads_is_no_difference() -> None:
    one, other = (Config(optimizer="momentum", rmsprop_eps=eps) for eps in (1e-9, 0.1))
    assert differences(one, other) == []
    assert differences(one, replace(other, optimizer="shared-rmsprop")) == [
        "optimizer",
        "rmsprop_eps",
    ]


def test_runs_of_one_minibatch_do_not_differ_in_how_they_grow() -> None:
    few, many = Config(num_envs=16), Config(num_envs=64)
    assert differences(few, replace(few, grow=False)) == []
    assert differences(many, replace(many, grow=False)) == ["grow"]


def test_threads_that_average_make_larger_updates() -> None:
    config = Config(num_envs=16, num_threads=8, mode="sync")
    assert values(config, "minibatches rmsprop_decay") == [8, pytest.approx(0.97)]
    assert Config(num_envs=16, num_threads=8).minibatches == 1


@pytest.mark.parametrize(
    ("options", "correction"),
    [
        ({}, "none"),  # two threads: a lag of 1
        ({"num_threads": 4}, "none"),
        ({"num_threads": 5}, "vtrace"),
        ({"num_threads": 1, "num_envs": 112}, "none"),  # 7 updates of a rollout: 3 in the mean
        ({"num_threads": 1, "num_envs": 128}, "vtrace"),
        ({"num_threads": 1, "num_envs": 64, "minibatches": 1, "epochs": 2}, "vtrace"),
        ({"num_threads": 1, "epochs": 2, "correction": "none"}, "none"),
        ({"num_threads": 8, "mode": "sync", "minibatches": 1}, "none"),
        ({"num_threads": 8, "correction": "none"}, "none"),
    ],
)
def test_old_policies_are_corrected(options: dict[str, Any], correction: str) -> None:
    assert Config(**options).correction == correction


@pytest.mark.parametrize(
    ("minibatches", "decay"), [(4, 0.97), (2, 0.97**2), (1, 0.97**4), (8, 0.97**0.5)]
)
def test_the_average_of_squares_spans_as_much_data_however_large_updates_are(
    minibatches: int, decay: float
) -> None:
    assert Config(num_envs=64, minibatches=minibatches).rmsprop_decay == pytest.approx(decay)
    assert Config(num_envs=64, minibatches=minibatches, rmsprop_decay=0.5).rmsprop_decay == 0.5


@pytest.mark.parametrize(("minibatches", "lr"), [(4, 3e-3), (1, 6e-3), (16, 1.5e-3)])
def test_the_learning_rate_follows_the_root_of_an_updates_size(minibatches: int, lr: float) -> None:
    assert Config(num_envs=64, minibatches=minibatches).lr == pytest.approx(lr)
    assert Config(num_envs=64, minibatches=minibatches, lr=0.1).lr == 0.1


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "fast"])
def test_other_presets_make_one_update_of_a_rollout(name: str) -> None:
    assert values(preset(name), "minibatches epochs rmsprop_decay") == [1, 1, 0.99]


@pytest.mark.parametrize("name", PRESETS)
def test_presets_can_be_changed(name: str) -> None:
    assert preset(name, lr=0.5, env="pong").lr == 0.5


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("gamma", 1.5, "at least 0 and at most 1"),
        ("lr", 0.0, "above 0"),
        ("lr", float("nan"), "a number"),
        ("num_envs", 0, "at least 1"),
        ("num_envs", 2.5, "whole number"),
        ("num_threads", True, "whole number, or auto"),
        ("num_threads", 0, "at least 1 and at most 256, or auto"),
        ("num_threads", -1, "at least 1 and at most 256, or auto"),
        ("num_threads", 2.5, "whole number, or auto"),
        ("num_threads", "many", "a whole number, or auto"),
        ("num_threads", "Auto", "a whole number, or auto"),
        ("num_threads", None, "whole number, or auto"),
        ("minibatches", "auot", "a whole number, or auto; did you mean 'auto'"),
        ("minibatches", 0, "at least 1 and at most 65536, or auto"),
        ("rmsprop_decay", "atuo", "a number, or auto; did you mean 'auto'"),
        ("rmsprop_decay", 1.5, "a number at least 0 and at most 1, or auto"),
        ("sticky_actions", -0.1, "at least 0"),
        ("mode", "asinc", "did you mean 'async'"),
        ("recurrent", "yes", "True or False"),
        ("frame_skip_max", 3, "0 or at least --frame-skip 4"),
        ("total_agent_steps", 10**13, "at most 1e"),
        ("env", None, "expected text"),
        ("env", "", "expected a name"),
        ("env", 7, "expected text"),
        ("env", "a\nb", "expected a name"),
        ("runs_dir", None, "expected text"),
        ("runs_dir", 5, "expected text"),
        ("runs_dir", "a\0b", "expected a name"),
        ("device", None, "expected text"),
        ("run_name", None, "expected text"),
        ("run_name", "a b", "letters, digits, dots"),
        ("run_name", "-a", "a letter or digit first"),
        ("run_name", "../a", "letters, digits, dots"),
        ("mode", None, "expected async, sync"),
        ("mode", ["async"], "expected async, sync"),
        ("network", 3, "expected auto, paper"),
        ("recurrent", None, "True or False"),
        ("lr", None, "expected a number"),
        ("lr", 0, r"a number above 0 and at most 1e\+30, or auto"),
        ("rho_bar", math.inf, r"is inf; expected a number above 0 and at most 1e\+30"),
        ("ent_coef", 1e39, r"at least 0 and at most 1e\+30"),
        ("lr", "1e-3", "expected a number"),
        ("seed", [1], "whole number"),
    ],
)
def test_values_out_of_range(field: str, value: object, expected: str) -> None:
    with pytest.raises(InputError, match=expected) as caught:
        Config(**{field: value})  # type: ignore[arg-type]  # wrong on purpose
    assert (field.replace("_", "-") if field != "env" else "environment") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_our_emulator_draws_frame_skips() -> None:
    with pytest.raises(InputError, match="ale-py draws no frame skips"):
        preset("seed", emulator="ale")
    assert preset("seed", emulator="ale", frame_skip=4, frame_skip_max=0).frame_skip == 4


def test_an_optimiser_of_each_threads_own_needs_threads_that_apply_their_own() -> None:
    expected = "--optimizer is 'rmsprop' with --mode sync.*expected shared-rmsprop or momentum"
    with pytest.raises(InputError, match=expected):
        Config(optimizer="rmsprop", mode="sync")
    assert Config(optimizer="momentum", mode="sync").momentum == 0.9


@pytest.mark.parametrize("optimizer", ["rmsprop", "momentum"])
def test_nodes_exchange_shared_statistics_alone(optimizer: Any) -> None:
    with pytest.raises(InputError, match=r"with --nodes 2, which .*; expected shared-rmsprop"):
        Config(optimizer=optimizer, nodes=2)
    with pytest.raises(InputError, match=r"with --cluster, which .*; expected shared-rmsprop"):
        Config(optimizer=optimizer, nodes=1, cluster="auto")


def test_the_rule_of_momentums_learning_rate() -> None:
    rates = [
        Config(optimizer="momentum", num_threads=1, num_envs=n, minibatches=1).lr for n in (16, 64)
    ]
    assert rates == [1.0, 2.0]
    assert Config(optimizer="rmsprop", num_threads=1, num_envs=16).lr == 3e-3


def test_an_exponential_schedule_never_reaches_nothing() -> None:
    with pytest.raises(InputError, match=r"--lr-final-fraction is 0 with .*; expected more, such"):
        preset("fast", lr_final_fraction=0.0)
    assert preset("fast", lr_schedule="linear", lr_final_fraction=0.0).lr_final_fraction == 0


def test_bounds_that_no_correction_reads() -> None:
    """Nor where `auto` has come to none."""
    with pytest.raises(InputError, match=r"--rho-bar is 2\.0, and --correction none does not"):
        preset("fast", num_threads=1, num_envs=16, rho_bar=2.0)


def test_what_an_optimiser_does_not_read() -> None:
    with pytest.raises(
        InputError, match=r"--rmsprop-eps is 0\.5, and --optimizer momentum does not"
    ):
        preset("fast", optimizer="momentum", rmsprop_eps=0.5)
    with pytest.raises(
        InputError, match=r"--momentum is 0\.5, and --optimizer shared-rmsprop does"
    ):
        preset("fast", momentum=0.5)


def test_policy_lag_cannot_be_raised_in_sync_mode() -> None:
    with pytest.raises(InputError, match="--sync-every is 2; expected 1 with --mode sync"):
        Config(sync_every=2, mode="sync")


@pytest.mark.parametrize(("minibatches", "fits"), [(3, 2), (32, 16), (5, 4)])
def test_minibatches_must_divide_the_agents(minibatches: int, fits: int) -> None:
    expected = f"--minibatches is {minibatches}; expected a number that divides --num-envs 16, "
    with pytest.raises(InputError, match=f"{expected}such as {fits}$"):
        Config(num_envs=16, minibatches=minibatches)


def test_a_correction_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"--correction is 'v-trace'.*did you mean 'vtrace'"):
        Config(correction="v-trace")  # type: ignore[arg-type]  # wrong on purpose


def test_numbers_and_paths_of_python_become_plain() -> None:
    given = Config(
        seed=np.int64(3),  # type: ignore[arg-type]  # what a loop over an array gives
        total_agent_steps=1e6,  # type: ignore[arg-type]  # as on the command line
        lr=np.float32(0.5),  # type: ignore[arg-type]
        clip_rewards=np.False_,  # type: ignore[arg-type]
        runs_dir=Path("there"),  # type: ignore[arg-type]
    )
    assert given == Config(
        seed=3, total_agent_steps=10**6, lr=0.5, clip_rewards=False, runs_dir="there"
    )
    kinds = [type(getattr(given, field.name)) for field in fields(given)]
    assert set(kinds) == {str, int, float, bool}
    with pytest.raises(InputError, match=r"--seed is 2.5; expected a whole number"):
        Config(seed=np.float64(2.5))  # type: ignore[arg-type]  # wrong on purpose


def test_unknown_names_have_their_nearest() -> None:
    with pytest.raises(InputError, match="no option 'n_steps'; did you mean 'rollout_length'"):
        preset("fast", n_steps=5)
    with pytest.raises(InputError, match="no option 'num_env'; did you mean 'num_envs'"):
        preset("fast", num_env=3)
    with pytest.raises(InputError, match="expected fast, paper, seed, control"):
        preset(["fast"])  # type: ignore[arg-type]  # wrong on purpose


def test_other_libraries_names_stand_for_options_that_there_are() -> None:
    options = set(KINDS) | set(get_type_hints(PlayOptions))
    assert set(ELSEWHERE.values()) <= options
    assert set(ELSEWHERE).isdisjoint(options)


def test_the_fields_that_differ() -> None:
    assert differences(Config(), Config()) == []
    assert differences(Config(), Config(seed=2, lr=1.0)) == ["seed", "lr"]


def test_every_number_has_a_range() -> None:
    from a3c.config import RANGES, alternatives

    kinds = get_type_hints(Config)
    numbers = {name for name, kind in kinds.items() if kind is float or alternatives(kind)[0]}
    assert numbers == set(RANGES)


def test_how_often_a_run_is_saved_and_noted() -> None:
    """docs/running.md has it: after five seconds, every minute, a record every five seconds."""
    usual = Config()
    assert usual.checkpoint_every_seconds == 60
    assert usual.log_every_seconds == 5
    assert importlib.import_module("a3c.train").FIRST_CHECKPOINT_SECONDS == 5
    assert (
        EvaluationProtocol(episodes=1, seed=0, greedy=False, epsilon=0.0).max_agent_steps == 108_000
    )
    assert (GREEDY_EPSILON, SAMPLED_EPSILON) == (0.01, 0.05)
