"""What changes as a run goes on: the learning rate and the weight of the entropy bonus."""

from __future__ import annotations

from a3c.config import SHORTEST_EXPONENTIAL, Config


def learning_rate(config: Config, agent_steps: int) -> float:
    """Constant, or falling to `lr_final_fraction` of `lr` within the schedule's time."""
    done = scheduled(config, agent_steps)
    if config.lr_schedule == "exponential":
        return config.lr * float(config.lr_final_fraction**done)
    return config.lr * falling(config.lr_final_fraction, done)


def entropy_weight(config: Config, agent_steps: int) -> float:
    """Falling on a line to `ent_final_fraction` of `ent_coef`, within the same time."""
    return config.ent_coef * falling(config.ent_final_fraction, scheduled(config, agent_steps))


def falling(final_fraction: float, done: float) -> float:
    """On a line from 1 to `final_fraction`, as `done` goes from 0 to 1."""
    return 1.0 - done * (1.0 - final_fraction)


def scheduled(config: Config, agent_steps: int) -> float:
    """How much of the schedule's time has passed, 0 to 1: `lr_schedule_until` of the run, and with
    the exponential one of a run of SHORTEST_EXPONENTIAL at least. A constant one stays at 0."""
    if config.lr_schedule == "constant":
        return 0.0
    shortest = SHORTEST_EXPONENTIAL if config.lr_schedule == "exponential" else 0
    whole = max(config.total_agent_steps, shortest)
    return min(1.0, agent_steps / (whole * config.lr_schedule_until))
