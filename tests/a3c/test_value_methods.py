"""One-step Q-learning, one-step Sarsa and n-step Q-learning: targets, exploration, what is kept."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from a3c import memory
from a3c.acting import Actor
from a3c.config import VALUE_METHODS, Config
from a3c.envs import make_envs, spec_of
from a3c.envs.on_device import OnDevice
from a3c.errors import InputError
from a3c.loss import action_value_loss, one_step_returns
from a3c.metrics import Metrics
from a3c.network import Network, flatten, layout
from a3c.node import Node
from a3c.presets import preset
from a3c.rollout import Rollout, Truncation
from a3c.run import checkpoint, log
from a3c.train import train
from a3c.value_methods import EpsilonGreedy, ValueMethod, epsilon_greedy
from tests.a3c.test_network import ATARI, frames, learn
from tests.a3c.test_train import equal, final, games, small, stop_after
from tests.scripted import VECTOR, Scripted, step

CPU = torch.device("cpu")
each_method = pytest.mark.parametrize("method", VALUE_METHODS)


def test_one_step_returns_by_hand() -> None:
    rewards = torch.tensor([[1.0, 0.0], [2.0, -1.0]])
    ends = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    following = torch.tensor([[10.0, 20.0], [4.0, 6.0]])
    # 1 + 0.5 * 10, 0 at an end, 2 + 0.5 * 4, -1 + 0.5 * 6
    assert one_step_returns(rewards, ends, following, 0.5).tolist() == [[6, 0], [4, 2]]


@pytest.mark.parametrize(("reduction", "divisor"), [("sum", 1), ("mean", 4)])
def test_the_loss_by_hand(reduction: str, divisor: int) -> None:
    taken = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    targets = torch.tensor([[2.0, 2.0], [1.0, 7.0]], requires_grad=True)
    total, shown = action_value_loss(taken, targets, reduction)
    assert total.item() == pytest.approx((1 + 0 + 4 + 9) / divisor)
    assert shown["mean_q"].item() == 2.5
    total.backward()
    assert taken.grad is not None
    assert (taken.grad * divisor).tolist() == [[-2, 0], [4, -6]]  # 2 (Q - y)
    assert targets.grad is None


class Case:
    """A rollout of scripted steps with ends of all kinds, and two networks that differ."""

    def __init__(self, method: str, **changes: Any):
        random = np.random.default_rng(3)
        draw = lambda: random.normal(size=(2, 2)).astype(np.float32)  # noqa: E731
        steps = [
            step([1, -2], observations=draw()),
            step([3, 1], terminated=[True, False], observations=draw(), life_lost=[False, True]),
            step([-1, 2], truncated=[True, False], observations=draw(), final=draw()),
            step([2, 2], observations=draw()),
        ]
        self.steps = steps
        self.config = preset(
            "control", method=method, rollout_length=4, gamma=0.5, normalize=False, **changes
        )
        self.method = ValueMethod(self.config)
        self.network, self.target = (self.network_with(seed) for seed in (1, 2))
        self.network.make_room(4, 2)
        envs = OnDevice(Scripted(steps), CPU)
        generator = torch.Generator().manual_seed(0)
        behaviour = self.method.behaviour(0, 2, CPU)  # epsilon is 1
        self.actor = Actor(
            envs,
            self.network,
            lambda outputs: behaviour.act(self.network, outputs, generator),
            looks_ahead=self.method.looks_ahead,
        )
        self.actor.reset(0)
        self.rollout = self.actor.rollout(4)

    def network_with(self, seed: int) -> Network:
        network = Network(self.config, VECTOR, self.method)
        parameters, _ = flatten(network)
        parameters.copy_(torch.randn(len(parameters), generator=torch.manual_seed(seed)) / 3)
        network.prepare()
        return network

    def q(self, observation: Any, network: Network | None = None) -> list[float]:
        """Of one observation, by the target network."""
        seen = torch.as_tensor(observation).reshape(1, 2)
        (values,), _ = (network or self.target)(seen, None)
        return values[0].tolist()


def naive(case: Case, life_loss_terminal: bool) -> list[list[float]]:
    """y of each agent and step, by the paper's pseudocode, one sample at a time."""
    method, rollout, gamma = case.config.method, case.rollout, case.config.gamma
    y = [[0.0, 0.0] for _ in case.steps]
    for n in range(2):
        beyond = max(case.q(rollout.last_observations[n]))
        for t in reversed(range(4)):
            at = case.steps[t]
            reward = float(at.rewards[n])
            if method == "one-step-q":
                beyond = max(case.q(at.observations[n]))
            if method == "one-step-sarsa":
                assert rollout.next_actions is not None
                following = rollout.actions[t + 1] if t < 3 else rollout.next_actions
                beyond = case.q(at.observations[n])[int(following[n])]
            if at.truncated[n]:
                assert at.final_observations is not None
                values = case.q(at.final_observations[n])
                (cut,) = rollout.truncations
                actions = cut.actions
                beyond = max(values) if actions is None else values[int(actions[n])]
            if at.terminated[n] or (life_loss_terminal and at.life_lost[n]):
                beyond = 0.0
            y[t][n] = reward + gamma * beyond
            beyond = y[t][n]  # R <- r + gamma R, for n steps
    return y


@each_method
@pytest.mark.parametrize("life_loss_terminal", [True, False])
def test_targets_are_those_of_a_naive_loop(method: str, life_loss_terminal: bool) -> None:
    case = Case(method, life_loss_terminal=life_loss_terminal)
    found = case.method.targets(case.network, case.target, case.rollout)
    expected = torch.tensor(naive(case, life_loss_terminal))
    torch.testing.assert_close(found, expected)
    total, shown = case.method.loss(case.network, case.target, case.rollout)
    seen = [np.zeros((2, 2)), *(at.observations for at in case.steps[:3])]
    taken = torch.tensor(
        [
            [case.q(seen[t][n].astype(np.float32), case.network)[action] for n, action in pair]
            for t, pair in enumerate(map(enumerate, case.rollout.actions.tolist()))
        ]
    )
    assert total.item() == pytest.approx((expected - taken).square().mean().item(), rel=1e-4)
    assert shown["mean_q"].item() == pytest.approx(taken.mean().item(), rel=1e-4)


def test_n_step_q_by_hand() -> None:
    """gamma 0.5; the target network's best value after the rollout is b for both agents."""
    case = Case("n-step-q", life_loss_terminal=False)
    last = [max(case.q(row)) for row in case.rollout.last_observations]
    (cut,) = case.rollout.truncations
    beyond = max(case.q(cut.observations[0]))
    y = case.method.targets(case.network, case.target, case.rollout)
    # the first agent: 3 at the end after the second step; -1 cut short; 2 before the last
    assert y[:, 0].tolist() == pytest.approx([1 + 0.5 * 3, 3, -1 + 0.5 * beyond, 2 + last[0] / 2])
    # the second: rewards -2, 1, 2, 2, and nothing ends
    last_step = 2 + 0.5 * last[1]
    assert y[:, 1].tolist() == pytest.approx(
        [-2 + 0.5 * (1 + 0.5 * (2 + 0.5 * last_step)), 1 + 0.5 * (2 + 0.5 * last_step),
         2 + 0.5 * last_step, last_step]
    )  # fmt: skip


def test_a_part_of_the_agents_has_its_own_targets() -> None:
    """As minibatches of a rollout are learned from: read anew, in another order."""
    case = Case("one-step-sarsa")
    whole = case.method.targets(case.network, case.target, case.rollout)
    seen = torch.stack([torch.zeros(2, 2), *map(torch.from_numpy, observations(case)[:3])])
    for minibatch in (torch.tensor([1]), torch.tensor([1, 0])):
        case.network.make_room(4, len(minibatch))
        case.network.read(seen, minibatch)
        part = case.method.targets(case.network, case.target, case.rollout.of(minibatch))
        torch.testing.assert_close(part, whole[:, minibatch])


def observations(case: Case) -> list[Any]:
    return [at.observations for at in case.steps]


def test_a_target_of_less_than_an_agent_step_is_of_one() -> None:
    """0 would be none."""
    config = preset("n-step-q", target_emulator_frames=1)
    assert ValueMethod(config).target_every_agent_steps == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_target_network_sees_what_another_remembers(dtype: torch.dtype) -> None:
    config = preset("fast", method="one-step-q")
    network, target = (
        Network(preset("fast", method="one-step-q", seed=seed), ATARI, ValueMethod(config), dtype)
        for seed in (1, 2)
    )
    seen = frames(80).view(2, 40, 84, 84, 4)  # more than a chunk
    for each in (network, target):
        assert each.background is not None
        each.background.fill_(50)
    learn(network, seen)
    target.prepare()
    (found,) = target.review(network)
    assert not found.requires_grad
    for t in range(2):
        (expected,), _ = target(seen[t], None)
        torch.testing.assert_close(found[t], expected, rtol=1e-2, atol=1e-3)


def test_sarsa_begins_a_rollout_with_the_action_that_it_learned_from() -> None:
    case = Case("one-step-sarsa")
    chosen = case.rollout.next_actions
    assert chosen is not None
    before = chosen.clone()
    flatten(case.network)[0].neg_()  # another policy by now
    case.actor.envs = OnDevice(Scripted(case.steps), CPU)
    case.actor.envs.reset(0)
    rollout = case.actor.rollout(4)
    assert torch.equal(rollout.actions[0], before)


@each_method
def test_only_sarsa_looks_ahead(method: str) -> None:
    rollout: Rollout = Case(method).rollout
    assert (rollout.next_actions is not None) == (method == "one-step-sarsa")


def test_epsilons_are_annealed_in_emulator_frames() -> None:
    config = preset("n-step-q", epsilon_emulator_frames=4000, frame_skip=4)  # 1,000 agent steps
    epsilons = EpsilonGreedy(config, 0, 3, CPU)
    epsilons.load({"epsilons": torch.tensor([0.1, 0.01, 0.5])})
    where = epsilons.epsilons.data_ptr()
    expected: dict[int, list[float]] = {
        0: [1, 1, 1],
        500: [0.55, 0.505, 0.75],
        1000: [0.1, 0.01, 0.5],
        5000: [0.1, 0.01, 0.5],
    }
    for agent_steps, now in expected.items():
        assert epsilons.prepare(agent_steps)["epsilon"] == pytest.approx(sum(now) / 3)
        assert epsilons.epsilons.tolist() == pytest.approx(now)
    assert epsilons.epsilons.data_ptr() == where  # a graph reads them there


def test_without_an_emulator_an_agent_step_is_one_frame() -> None:
    control = preset("control", env="CartPole-v1", method="n-step-q", epsilon_emulator_frames=1000,
                     target_emulator_frames=300)  # fmt: skip
    assert EpsilonGreedy(control, 0, 2, CPU).prepare(500)["epsilon"] > 0.5
    assert ValueMethod(control).target_every_agent_steps == 300
    atari = preset("n-step-q", target_emulator_frames=40_000)
    assert ValueMethod(atari).target_every_agent_steps == 10_000
    drawn = preset("n-step-q", frame_skip=2, frame_skip_max=4)
    assert ValueMethod(drawn).target_every_agent_steps == 13_333


def test_final_epsilons_are_the_papers_mixture_and_each_agents_own() -> None:
    config = preset("n-step-q")
    threads = [EpsilonGreedy(config, thread, 1000, CPU).final for thread in range(4)]
    counts = Counter(torch.cat(threads).tolist())
    assert sorted(counts) == pytest.approx([0.01, 0.1, 0.5])
    # three standard deviations of a count of 4,000 are at most 93
    expected = [1200, 1600, 1200]
    assert [counts[key] for key in sorted(counts)] == pytest.approx(expected, abs=93)
    assert not torch.equal(threads[0], threads[1])
    again = EpsilonGreedy(config, 0, 1000, CPU).final
    assert torch.equal(threads[0], again)


def test_epsilon_greedy_actions() -> None:
    values = torch.tensor([0.0, 2.0, 1.0]).expand(30_000, 3)
    epsilons = torch.tensor([0.0, 0.3, 1.0]).repeat_interleave(10_000)
    actions = epsilon_greedy(values, epsilons, torch.Generator().manual_seed(0)).view(3, 10_000)
    found = torch.stack([row.bincount(minlength=3) / 10_000 for row in actions])
    expected = torch.tensor([[0, 1, 0], [0.1, 0.8, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(found, expected, atol=0.015, rtol=0)  # three standard deviations


def test_the_background_is_measured_by_fewer_agents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def noted(config: Config, agents: int, device: torch.device) -> Any:
        made.append(agents)
        return make_envs(config, agents, device)

    monkeypatch.setattr("a3c.node.make_envs", noted)
    monkeypatch.setattr("a3c.node.MEASURING_AGENTS", 2)
    config = preset("fast", method="n-step-q", num_threads=1, num_envs=4, rollout_length=5,
                    total_agent_steps=20, runs_dir=str(tmp_path))  # fmt: skip
    assert train(config, quiet=True).agent_steps == 20
    assert made == [4, 2]  # the run's own, then those


def test_the_estimate_of_memory_knows_of_the_target_network() -> None:
    config = small(Path("runs"), method="n-step-q", num_envs=8)
    with_target = memory.learning_bytes(config, spec_of(config)).thread
    parameters = sum(
        piece.size for piece in layout(Network(config, spec_of(config), ValueMethod(config)))
    )
    assert with_target > 7.5 * 4 * parameters  # 8: 2 are the target vector and its copy


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "minibatches": {"minibatches": 2, "epochs": 2},
    "older policy": {"sync_every": 5},
    "in step": {"mode": "sync"},
}


def value_run(tmp_path: Path, method: str, **changes: Any) -> Config:
    frames = {"epsilon_emulator_frames": 600, "target_emulator_frames": 150}
    return small(tmp_path, method=method, total_agent_steps=1200, **frames, **changes)


@each_method
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_runs_are_reproducible_and_resume_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, options: dict[str, Any]
) -> None:
    config = value_run(tmp_path, method, **options)
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, updates=17 * config.minibatches * config.epochs)
        part = train(config, quiet=True)
    assert not part.finished
    kept = final(part)
    assert {"target", "thread0.epsilons"} <= set(kept)
    assert ("thread0.next_actions" in kept) == (method == "one-step-sarsa")
    resumed = train(config, resume=part.folder, quiet=True)
    assert equal(final(whole), final(resumed))
    assert games(whole.folder) == games(resumed.folder)


@each_method
def test_runs_that_grow_resume_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr("a3c.config.GROWTH", 8)
    config = value_run(tmp_path, method, num_envs=8, minibatches=4)
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, updates=16)  # 256 agent steps: more agents come as it goes on
        part = train(config, quiet=True)
    few, many = (final(run)["thread0.epsilons"] for run in (part, whole))
    assert few.tolist() == many[:2].tolist()
    at_once = train(replace(config, grow=False, total_agent_steps=100), quiet=True)
    assert many.tolist() == final(at_once)["thread0.epsilons"].tolist()  # each its own draw
    assert equal(final(whole), final(train(config, resume=part.folder, quiet=True)))


def test_what_sarsa_carries_and_the_epsilons_come_from_the_checkpoint(tmp_path: Path) -> None:
    run = train(value_run(tmp_path, "one-step-sarsa"), quiet=True)
    saved = final(run)
    saved["thread0.epsilons"] = torch.tensor([0.5, 0.25, 0.125, 0.0])
    actions = 1 - saved["thread0.next_actions"]
    saved["thread0.next_actions"] = actions.clone()
    node = Node(value_run(tmp_path, "one-step-sarsa"), [CPU], Metrics(1))
    node.load(saved, 1200, 100)
    (learner,) = node.learners
    learner.cycle()
    assert learner.prepared == {"epsilon": pytest.approx(0.21875)}
    assert learner.actor.last is not None
    assert torch.equal(learner.actor.last.actions[0], actions)


@each_method
def test_it_learns_is_logged_and_copies_its_target(tmp_path: Path, method: str) -> None:
    frames = {"epsilon_emulator_frames": 3000, "target_emulator_frames": 210}
    config = preset(
        "control",
        env="tests.a3c.test_methods:Echo-v0",
        method=method,
        total_agent_steps=6000,
        gamma=0.5,
        lr=1e-2,
        evaluate_every=6000,
        runs_dir=str(tmp_path),
        **frames,
    )
    run = train(config, quiet=True)
    (evaluated,) = log.read_evaluations(run.folder)
    assert evaluated["greedy_return"] > 9.5  # 10 but for one action in a hundred; at random: 5
    record = log.read(run.folder / "metrics.jsonl")[-1]
    assert {"value_loss", "mean_q"} <= set(record)
    assert record["epsilon"] < 0.6
    saved = checkpoint.newest(run.folder).checkpoint.tensors
    assert not torch.equal(saved["target"], saved["parameters"])


@pytest.mark.parametrize("sync_every", [1, 2])
def test_each_rollout_learns_with_the_newest_target(sync_every: int) -> None:
    """Also one that acts with older parameters."""
    config = preset(
        "control",
        env="tests.a3c.test_methods:Echo-v0",
        method="n-step-q",
        sync_every=sync_every,
        target_emulator_frames=8 * 16,  # of one update
    )
    node = Node(config, [CPU], Metrics(1))
    node.begin()
    (learner,) = node.learners
    targets = []
    for _ in range(3):
        assert node.store.target is not None
        targets.append(node.store.target.clone())
        learner.cycle()
        assert learner.target_parameters is not None
        assert torch.equal(learner.target_parameters, targets[-1])
    assert not torch.equal(targets[1], targets[0])
    assert not torch.equal(targets[2], targets[1])


def test_several_threads_in_sync_are_reproducible(tmp_path: Path) -> None:
    config = value_run(tmp_path, "one-step-sarsa", mode="sync", num_threads=2)
    assert equal(*(final(train(config, quiet=True)) for _ in range(2)))


def test_sarsa_on_atari_resumes_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = preset(
        "fast", method="one-step-sarsa", num_threads=1, num_envs=4, rollout_length=5,
        total_agent_steps=400, epsilon_emulator_frames=800, target_emulator_frames=400,
        runs_dir=str(tmp_path),
    )  # fmt: skip
    whole = train(config, quiet=True)
    with monkeypatch.context() as patch:
        stop_after(patch, updates=11)
        part = train(config, quiet=True)
    assert equal(final(whole), final(train(config, resume=part.folder, quiet=True)))


@each_method
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"correction": "vtrace"},
            "--correction is 'vtrace' with --method {}, which has no ",
        ),
        ({"recurrent": True}, "--recurrent with --method {}, which has no LSTM; expected --method"),
        ({"ent_coef": 0.5}, "--ent-coef is 0.5, and --method {} does not read it; expected --me"),
        ({"gae_lambda": 0.5}, "--gae-lambda is 0.5, and --method {} does not read it"),
    ],
)
def test_what_a_value_method_does_not_have(
    method: str, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint.format(method)):
        preset("fast", method=method, **changes)


def test_what_a3c_does_not_read() -> None:
    expected = "--target-emulator-frames is 7, and --method a3c does not read it; expected "
    with pytest.raises(InputError, match=f"{expected}--method one-step-q or one-step-sarsa or n-"):
        preset("fast", target_emulator_frames=7)
    assert [preset("fast", method=name).correction for name in VALUE_METHODS] == ["none"] * 3


def test_continuous_actions_are_refused_before_anything_is_created(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    config = preset("control", env="Pendulum-v1", method="one-step-q", runs_dir=str(runs))
    with pytest.raises(InputError, match="Pendulum-v1 are continuous; expected --method a3c"):
        train(config, quiet=True)
    assert not runs.exists()


def test_a_run_begins_with_another_value_methods_parameters_and_not_with_a_policys(
    tmp_path: Path,
) -> None:
    first = train(value_run(tmp_path, "one-step-q"), quiet=True)
    second = train(value_run(tmp_path, "n-step-q"), quiet=True, start_from=first.folder)
    assert second.finished
    config = small(tmp_path, total_agent_steps=100)
    with pytest.raises(InputError, match="trained with --method one-step-q, whose network gives"):
        train(config, quiet=True, start_from=first.folder)
    a3c = train(config, quiet=True)
    with pytest.raises(InputError, match=r"trained with --method a3c.*expected --method a3c$"):
        train(value_run(tmp_path, "n-step-q"), quiet=True, start_from=a3c.folder)


def test_sarsa_follows_a_truncated_episode_from_its_own_last_observation() -> None:
    case = Case("one-step-sarsa")
    envs = OnDevice(Scripted(case.steps), CPU)
    actor = Actor(envs, case.network, lambda outputs: outputs[0].argmax(-1), looks_ahead=True)
    actor.reset(0)
    rollout = actor.rollout(4)

    def best(seen: Any) -> list[int]:
        return [int(np.argmax(case.q(row, case.network))) for row in seen]

    (cut,) = rollout.truncations
    assert cut.actions is not None
    assert rollout.next_actions is not None
    assert cut.actions.tolist() == best(cut.observations)
    assert rollout.next_actions.tolist() == best(rollout.last_observations)
    assert best(cut.observations) != best(case.steps[2].observations)  # of the next episode


def test_of_truncated_agents_each_keeps_its_own_action() -> None:
    cut = Truncation(1, torch.arange(6.0).view(3, 2), torch.tensor([5, 6, 7]))
    chosen = cut.of(torch.tensor([2, 0])).actions
    assert chosen is not None
    assert chosen.tolist() == [7, 5]


@pytest.mark.parametrize("method", VALUE_METHODS)
def test_the_loss_is_the_mean_or_the_sum_as_asked(method: str) -> None:
    """The paper sums; so do its presets."""
    total = {}
    for reduction in ("mean", "sum"):
        case = Case(method, loss_reduction=reduction)
        total[reduction] = case.method.loss(case.network, case.target, case.rollout).total
    assert preset(method).loss_reduction == "sum"
    torch.testing.assert_close(total["sum"], 8 * total["mean"])  # 4 steps of 2 agents


def test_final_epsilons_are_the_runs_seeds() -> None:
    config = preset("n-step-q", env="breakout")
    of_seeds = [EpsilonGreedy(replace(config, seed=seed), 0, 99, CPU).final for seed in (1, 1, 2)]
    assert torch.equal(of_seeds[0], of_seeds[1])
    assert not torch.equal(of_seeds[0], of_seeds[2])


@pytest.mark.parametrize("method", VALUE_METHODS)
def test_action_values_begin_small(method: str) -> None:
    config = preset("control", method=method)
    network = Network(config, VECTOR, ValueMethod(config))
    weight = network.get_parameter("heads.policy.linear.weight")  # [A, width], orthogonal
    torch.testing.assert_close(weight @ weight.T, 1e-4 * torch.eye(3), rtol=0, atol=1e-9)
