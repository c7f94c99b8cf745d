"""Learning for real, with the defaults: one thread, so that the seed decides the outcome."""

from pathlib import Path

import pytest

from a3c.actor_learner import ActorLearner
from a3c.metrics import RECENT_GAMES
from a3c.presets import preset
from a3c.train import train

SOLVED = 475


def test_cartpole_is_solved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 400,000 agent steps; there the run ends."""
    original = ActorLearner.cycle

    def cycle(self: ActorLearner) -> None:
        original(self)
        games = self.metrics.recent
        if len(games) == RECENT_GAMES and sum(games) >= SOLVED * RECENT_GAMES:
            self.gate.stop()

    monkeypatch.setattr(ActorLearner, "cycle", cycle)
    config = preset("control", env="CartPole-v1", total_agent_steps=400_000, runs_dir=str(tmp_path))
    run = train(config, quiet=True)
    assert run.episodes >= RECENT_GAMES
    assert run.mean_return_100 is not None
    assert run.mean_return_100 >= SOLVED


def test_images_are_learned_from(tmp_path: Path) -> None:
    """In whichever arithmetic this processor computes convolutions."""
    env = "tests.environments:Sides-v0"
    kept = {"num_threads": 1, "gamma": 0.0, "runs_dir": str(tmp_path)}
    run = train(preset("fast", env=env, total_agent_steps=16_000, **kept), quiet=True)
    assert run.mean_return_100 is not None
    assert run.mean_return_100 > 19  # of 20; 10 by chance
