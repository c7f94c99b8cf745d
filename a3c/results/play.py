"""Evaluate and film a trained policy: whole games, unclipped returns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import gymnasium
import imageio_ffmpeg
import numpy as np
import torch
import tyro
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from a3c.checkpoint import Checkpoint
from a3c.config import Config, InputError
from a3c.devices import pick_device, pick_precision
from a3c.envs import make_envs
from a3c.envs.atari import AtariEnvs
from a3c.envs.gymnasium import GymnasiumEnvs
from a3c.envs.names import atari_game
from a3c.network import ActorCritic, State, flatten
from a3c.results import models
from a3c.results.scores import human_normalised
from a3c.rollout import Upload

Array = NDArray[Any]


@dataclass(frozen=True)
class PlayOptions:
    """Play whole games with a trained model; write scores.json and two films."""

    model: tyro.conf.Positional[str]
    """A game whose model ships, a model file, or a run folder (its newest checkpoint)."""
    episodes: int = 10
    """Games to play, all at the same time, each from its own seed."""
    out: str = "play"
    """Folder for scores.json and the films."""
    policy: Literal["sample", "greedy"] = "sample"
    """sample: draw each action from the policy, as in training. greedy: its most likely action."""
    epsilon: float | None = None
    """Probability of a random action in place of the policy's. Default: 0 for sample; 0.01 for
    greedy, which could otherwise repeat itself for ever."""
    noop_max: int = 30
    """A game starts with up to this many no-ops (Atari)."""
    render: bool = False
    """Also show the best game in a window."""
    seed: int = 0
    """Seed of the first game; the following ones take the following seeds."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:i."""

    def __post_init__(self) -> None:
        if not 1 <= self.episodes <= 10_000:
            raise InputError(f"--episodes is {self.episodes}; expected 1 to 10000")
        if self.policy not in ("sample", "greedy"):
            raise InputError(f"--policy is {self.policy!r}; expected sample or greedy")
        if self.epsilon is not None and not 0 <= self.epsilon <= 1:
            raise InputError(f"--epsilon is {self.epsilon}; expected 0 to 1")
        if not 0 <= self.noop_max <= 1_000:
            raise InputError(f"--noop-max is {self.noop_max}; expected 0 to 1000")
        if not 0 <= self.seed < 2**31 - 10_000:
            raise InputError(f"--seed is {self.seed}; expected 0 to {2**31 - 10_001}")

    @property
    def random_actions(self) -> float:
        """The epsilon in force."""
        if self.epsilon is not None:
            return self.epsilon
        return 0.01 if self.policy == "greedy" else 0.0


class Policy:
    """A trained policy. It remembers the LSTM's state between calls of `act`, if it has one."""

    def __init__(self, saved: Checkpoint, device: str = "auto", seed: int = 0):
        self.config, self.spec = saved.config, saved.spec
        self.device = pick_device(device)
        dtype = pick_precision(saved.config, self.device)
        self.network = ActorCritic(saved.config, saved.spec, dtype).to(self.device)
        parameters, _ = flatten(self.network)
        parameters.copy_(saved.tensors["parameters"])
        self.network.requires_grad_(False)
        self.network.prepare()
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.state: State | None = None

    def reset(self) -> None:
        """Forget the LSTM's state: the next `act` is the first of new episodes."""
        self.state = None

    def act(self, observations: Array, greedy: bool = False) -> Array:
        """Actions for N agents: int64 [N], or float32 [N, A] for continuous actions.

        observations: [N, 84, 84, 4] or [N, 4, 84, 84] uint8 for Atari, the newest frame last;
        [N, D] floats for vectors. Raises InputError for another shape.
        """
        shape = self.spec.observation_shape
        array = np.asarray(observations)
        if self.spec.stacked and array.shape[1:] == (shape[2], *shape[:2]):
            array = np.moveaxis(array, 1, -1)
        if array.shape[1:] != shape:
            expected = ", ".join(str(size) for size in shape)
            raise InputError(f"observations are {list(array.shape)}; expected [N, {expected}]")
        array = np.ascontiguousarray(array, np.uint8 if self.spec.pixels else np.float32)
        tensor = torch.from_numpy(array).to(self.device)
        if self.state is None:
            self.state = self.network.initial_state(len(array), self.device)
        parameters, _, self.state = self.network(tensor, self.state)
        return self.choose(parameters, greedy)

    def choose(self, parameters: torch.Tensor, greedy: bool) -> Array:
        """Actions [N] or [N, A] from the distributions' parameters [N, A or 2A]."""
        head = self.network.policy
        actions = head.mode(parameters) if greedy else head.sample(parameters, self.generator)
        return actions.cpu().numpy()


def load(model_or_run: str | Path, device: str = "auto", seed: int = 0) -> Policy:
    """The policy of a game whose model ships, in a model file, or in a run's newest checkpoint.

    Raises InputError if there is none, or it is damaged.
    """
    return Policy(models.find(str(model_or_run)), device, seed)


class CannotRender(RuntimeError):
    """An environment has no picture to give here, for instance for want of a display."""


@dataclass
class Episode:
    """A game, as far as it has been played: enough to tell its score and to play it again."""

    seed: int
    episodic_return: float
    actions: list[Any]

    @property
    def length(self) -> int:
        """In agent steps."""
        return len(self.actions)


def play(options: PlayOptions) -> dict[str, Any]:
    """Play, print the table, write scores.json and the films; returns what scores.json holds."""
    torch.set_num_threads(1)  # a second thread would wait longer than it works on so few agents
    saved = models.find(options.model)
    config = replace(saved.config, noop_max=options.noop_max, num_threads=1)
    policy = Policy(saved, options.device, options.seed)
    out = make_folder(options.out)
    console = Console(highlight=False)
    episodes = play_episodes(policy, config, options)
    scores = {"model": options.model, **summary(episodes, config, options)}
    scores["agent_steps_trained"] = saved.progress["agent_steps"]
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    console.print(score_table(scores))
    ranked = sorted(episodes, key=lambda episode: episode.episodic_return)
    best, median = ranked[-1], ranked[(len(ranked) - 1) // 2]
    for name, episode in (("best", best), ("median", median)):
        show = options.render and name == "best"
        path = out / f"{name}.mp4"
        try:
            film(episode, config, path, show)
            console.print(f"{name} game, return {episode.episodic_return:g}: {path}", markup=False)
        except CannotRender as error:
            console.print(f"no film: {error}", markup=False)
    return scores


def play_episodes(policy: Policy, config: Config, options: PlayOptions) -> list[Episode]:
    """One game of each of N agents, played at the same time; the order is that of the seeds.

    Each has an environment of its own and leaves when its game has ended, so that one long game
    costs no more than one game. Actions are drawn for all N all the time: those of a game do not
    depend on when the others end.
    """
    count = options.episodes
    envs = [make_envs(replace(config, num_envs=1), 1) for _ in range(count)]
    random = np.random.default_rng(options.seed)
    upload = Upload(policy.device, policy.spec.stacked)
    first = np.concatenate([env.reset(options.seed + i) for i, env in enumerate(envs)])
    observations = upload.observations(first)
    state = policy.network.initial_state(count, policy.device)
    everyone, _, state = policy.network(observations, state)  # [N, A or 2A]
    games = [Episode(options.seed + i, 0.0, []) for i in range(count)]
    playing = np.arange(count)
    while len(playing):
        chosen = policy.choose(everyone, options.policy == "greedy")
        chosen = with_random(chosen, options.random_actions, policy, random)
        steps = [envs[i].step(chosen[[i]]) for i in playing]
        for i, step in zip(playing, steps, strict=True):
            games[i].actions.append(chosen[i].tolist())
            games[i].episodic_return += float(step.rewards[0])
        stays = [j for j, step in enumerate(steps) if not (step.terminated | step.truncated)[0]]
        playing = playing[stays]
        if stays:
            newest = np.concatenate([steps[j].observations for j in stays])
            observations = upload.next_observations(observations[stays], newest)
            state = None if state is None else (state[0][stays], state[1][stays])
            everyone[playing], _, state = policy.network(observations, state)
    for env in envs:
        env.close()
    return games


def with_random(
    actions: Array, epsilon: float, policy: Policy, random: np.random.Generator
) -> Array:
    """Replace each agent's discrete action by a uniformly random one with probability epsilon."""
    if not policy.spec.discrete or epsilon == 0:
        return actions
    chosen = random.random(len(actions)) < epsilon
    return np.where(chosen, random.integers(policy.spec.num_actions, size=len(actions)), actions)


def summary(episodes: list[Episode], config: Config, options: PlayOptions) -> dict[str, Any]:
    """The figures of scores.json, with the protocol they were obtained under."""
    returns = np.array([episode.episodic_return for episode in episodes])
    lengths = np.array([episode.length for episode in episodes])
    game = atari_game(config.env)
    spread = float(returns.std(ddof=1)) if len(returns) > 1 else 0.0
    return {
        "env": config.env,
        "episodes": len(episodes),
        "mean": float(returns.mean()),
        "std": spread,
        "median": float(np.median(returns)),
        "min": float(returns.min()),
        "max": float(returns.max()),
        "mean_length_agent_steps": float(lengths.mean()),
        "human_normalised": human_normalised(game, float(returns.mean())) if game else None,
        "protocol": {
            "policy": options.policy,
            "epsilon": options.random_actions,
            "seed": options.seed,
            **(atari_protocol(config) if game else {}),
        },
        "returns": returns.tolist(),
        "lengths_agent_steps": lengths.tolist(),
    }


def atari_protocol(config: Config) -> dict[str, Any]:
    """How Atari is played, in the words of Config."""
    names = (
        "noop_max",
        "frame_skip",
        "frame_skip_max",
        "sticky_actions",
        "full_action_set",
        "max_episode_frames",
    )
    return {name: getattr(config, name) for name in names}


def score_table(scores: dict[str, Any]) -> Table:
    """For the terminal."""
    protocol = scores["protocol"]
    title = f"{scores['env']}: {scores['episodes']} whole games, {protocol['policy']} policy"
    table = Table("", "return", title=title)
    for name in ("mean", "std", "median", "min", "max"):
        table.add_row(name, f"{scores[name]:,.2f}")
    table.add_row("mean length, agent steps", f"{scores['mean_length_agent_steps']:,.0f}")
    if scores["human_normalised"] is not None:
        table.add_row("human-normalised", f"{scores['human_normalised']:.0%}")
    return table


def film(episode: Episode, config: Config, path: Path, show: bool) -> None:
    """Play the game again, action by action, in its native colours and size, as an mp4.

    The same seed and actions give the same game: if its return differs, RuntimeError is raised.
    """
    window = open_window() if show else None
    writer = None
    total = 0.0
    for frame, reward, frames_per_second in replay(episode, config):
        if writer is None:
            writer = open_film(path, frame, frames_per_second)
        writer.send(np.ascontiguousarray(frame))
        if window is not None:
            window(frame)
        total += reward
    if writer is not None:
        writer.close()
    if not np.isclose(total, episode.episodic_return):
        raise RuntimeError(f"the replay returned {total}, the game {episode.episodic_return}")


def open_film(path: Path, frame: Array, frames_per_second: float) -> Any:
    """imageio-ffmpeg's writer; sides are made even, as H.264 needs."""
    height, width = frame.shape[:2]
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=frames_per_second, macro_block_size=2, quality=7
    )
    writer.send(None)
    return writer


def replay(episode: Episode, config: Config) -> Iterator[tuple[Array, float, float]]:
    """(RGB frame [H, W, 3] uint8, reward, frames per second) after each agent step of a game."""
    if (game := atari_game(config.env)) is not None:
        yield from replay_atari(episode, config, game)
        return
    try:
        env = gymnasium.make(config.env, render_mode="rgb_array")
        env.reset(seed=episode.seed)
        env.render()
    except Exception as error:  # whatever the environment's own renderer raises
        raise CannotRender(f"{config.env} cannot be rendered here: {error}") from error
    coder = GymnasiumEnvs(config.env, 1)
    frames_per_second = env.metadata.get("render_fps", 30)
    for action in episode.actions:
        decoded = coder.decode(np.array([action]))[0]
        reward = float(env.step(decoded)[1])
        frame = env.render()
        assert isinstance(frame, np.ndarray)
        yield frame, reward, frames_per_second
    env.close()


def replay_atari(
    episode: Episode, config: Config, game: str
) -> Iterator[tuple[Array, float, float]]:
    """The emulator's draws (no-ops, sticky actions) come from the seed: they repeat as well."""
    colours = AtariEnvs(game, config, 1, grayscale=False, img_height=210, img_width=160)
    colours.reset(np.array([episode.seed]))
    for action in episode.actions:
        step = colours.step(np.array([action]))
        shown = step.observations if step.final_observations is None else step.final_observations
        yield shown[0], float(step.rewards[0]), 60 / config.mean_frame_skip
    colours.close()


def open_window() -> Callable[[Array], None]:
    """A window that shows frames. Raises InputError where there is no display."""
    from matplotlib import pyplot

    if pyplot.get_backend().lower() == "agg":
        raise InputError("--render needs a display; leave it out and watch best.mp4")
    image: list[Any] = []

    def draw(frame: Array) -> None:
        if not image:
            pyplot.axis("off")
            image.append(pyplot.imshow(frame))
        image[0].set_data(frame)
        pyplot.pause(1e-3)

    return draw


def make_folder(out: str) -> Path:
    """Create the folder for the results. Raises InputError if that fails."""
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {out}: {error.strerror}") from None
    return path
