"""SharedParameters: all that threads share, and the only place where they meet.

What is shared: the parameter vector [P], RMSProp's running average of squared gradients [P], and
the counters `agent_steps` and `updates`. Each thread has everything else for itself.

What is locked: every reading and writing of them takes `lock`, so no update is lost, no thread ever
copies half an update, and the counters are exact. (The paper's Hogwild writes without a lock. An
apply takes about a millisecond, once per rollout of tens of milliseconds; waiting is measured as
`time/waiting` and is under a percent with two threads.)

What is stale on purpose: in async mode a thread computes its gradients with the parameters it
copied before its rollout, and others may have applied theirs in the meantime. `policy lag` counts
them.

In sync mode the threads hand in their gradients, the last one to arrive applies the average in
the fixed order of the threads (so that a seed gives the same run however the threads are
scheduled), and all go on together: the lag is 0.

Pausing and stopping happen between updates only. In sync mode all threads see them at the same
update, because they are read once per round by the thread that applies.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from a3c.config import Config

Result = TypeVar("Result")


@dataclass
class Applied:
    """What came of one update, for the log."""

    policy_lag: int
    gradient_norm: float
    lr: float
    waiting_seconds: float


def learning_rate(config: Config, agent_steps: int) -> float:
    """Constant, or linear to `lr_final_fraction` at `lr_schedule_until` of the run."""
    if config.lr_schedule == "constant":
        return config.lr
    done = min(1.0, agent_steps / (config.total_agent_steps * config.lr_schedule_until))
    return config.lr * (1.0 - done * (1.0 - config.lr_final_fraction))


def clip_(gradients: Tensor, config: Config, sizes: list[int]) -> float:
    """Clip the flat gradient [P] in place, by `config.grad_clip`; returns its norm before.

    Raises FloatingPointError if it is not finite: no update is better than a ruined network.
    """
    norm = float(gradients.norm())
    if not norm < float("inf"):
        raise FloatingPointError(f"the gradient is not finite (its norm is {norm})")
    if config.grad_clip == "average-norm":
        for part, size in zip(gradients.split(sizes), sizes, strict=True):
            average_norm = part.norm() / size
            part.mul_(torch.clamp(config.max_grad_norm / average_norm, max=1.0))
    elif norm > config.max_grad_norm:
        gradients.mul_(config.max_grad_norm / norm)
    return norm


class SharedParameters:
    """See the module's docstring. `sizes` are the elements of each tensor in `parameters` [P]."""

    def __init__(self, parameters: Tensor, sizes: list[int], config: Config):
        self.config, self.sizes = config, sizes
        self.parameters = parameters.clone()  # [P]
        self.square_avg = torch.full_like(parameters, config.rmsprop_initial)  # [P]
        self.scratch = torch.empty_like(parameters)  # [P], so that an apply allocates nothing
        self.agent_steps = 0
        self.updates = 0
        self.lock = threading.Lock()
        self.last_use = torch.cuda.Event() if parameters.is_cuda else None
        self._pause_wanted = self._stop_wanted = False
        self._paused = self._stopped = False
        self._running = config.num_threads
        self._boundary = threading.Condition()
        self._parked = 0
        if config.mode == "sync":
            self.handed_in = torch.zeros(config.num_threads, len(parameters)).to(parameters)
            self.barrier = threading.Barrier(config.num_threads, self._apply_average)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """The lock; on CUDA also the order of the threads' streams on the shared vectors."""
        with self.lock:
            if self.last_use is not None:
                torch.cuda.current_stream().wait_event(self.last_use)
            yield
            if self.last_use is not None:
                self.last_use.record()

    def load(self, parameters: Tensor, square_avg: Tensor, agent_steps: int, updates: int) -> None:
        """Go on from a checkpoint, before the threads start."""
        self.parameters.copy_(parameters)
        self.square_avg.copy_(square_avg)
        self.agent_steps, self.updates = agent_steps, updates
        self._stopped = self._finished()

    def copy_to(self, local: Tensor) -> int:
        """Copy the parameters to `local` [P]; returns the number of updates they have seen."""
        with self._exclusive():
            local.copy_(self.parameters)
            return self.updates

    def apply(self, gradients: Tensor, agent_steps: int, synced_at: int, thread: int) -> Applied:
        """Apply the gradients [P] that a thread computed with its copy of update `synced_at`.

        `gradients` are clipped in place. In sync mode this waits for the other threads' gradients,
        and raises threading.BrokenBarrierError if one of them died or `abort` was called.
        """
        if self.config.mode == "sync":
            return self._hand_in(gradients, agent_steps, thread)
        norm = clip_(gradients, self.config, self.sizes)
        start = time.perf_counter()
        with self._exclusive():
            waited = time.perf_counter() - start
            lag = self.updates - synced_at
            lr = self._rmsprop(gradients, agent_steps)
        self._paused, self._stopped = self._pause_wanted, self._stop_wanted or self._finished()
        return Applied(lag, norm, lr, waited)

    def _hand_in(self, gradients: Tensor, agent_steps: int, thread: int) -> Applied:
        start = time.perf_counter()
        with self._exclusive():
            self.handed_in[thread].copy_(gradients)
            self._handed_in_steps = agent_steps * self.config.num_threads
        self.barrier.wait()
        applied = self._sync_applied
        return Applied(0, applied.gradient_norm, applied.lr, time.perf_counter() - start)

    def _apply_average(self) -> None:
        """Runs in the last thread to arrive while all others wait."""
        with self._exclusive():
            gradients = self.handed_in.mean(0)  # [P]
            norm = clip_(gradients, self.config, self.sizes)
            lr = self._rmsprop(gradients, self._handed_in_steps)
        self._sync_applied = Applied(0, norm, lr, 0.0)
        self._paused, self._stopped = self._pause_wanted, self._stop_wanted or self._finished()

    def _rmsprop(self, gradients: Tensor, agent_steps: int) -> float:
        """g <- a g + (1 - a) d^2;  theta <- theta - lr d / sqrt(g + eps).

        Mnih et al. 2016, section 4, "Optimization". Returns the learning rate.
        """
        lr = learning_rate(self.config, self.agent_steps)
        decay = self.config.rmsprop_decay
        self.square_avg.mul_(decay).addcmul_(gradients, gradients, value=1 - decay)
        torch.add(self.square_avg, self.config.rmsprop_eps, out=self.scratch).sqrt_()
        self.parameters.addcdiv_(gradients, self.scratch, value=-lr)
        self.agent_steps += agent_steps
        self.updates += 1
        return lr

    def _finished(self) -> bool:
        return self.agent_steps >= self.config.total_agent_steps

    # ---- stopping and pausing, between updates ----

    def going_on(self) -> bool:
        """Called by each thread between two updates: parks while paused; False when to stop."""
        with self._boundary:
            while self._paused and not self._stopped:
                self._parked += 1
                self._boundary.notify_all()
                self._boundary.wait()
                self._parked -= 1
            return not self._stopped

    def leave(self) -> None:
        """Called once by each thread at its end, however it ends."""
        with self._boundary:
            self._running -= 1
            self._boundary.notify_all()

    def stop(self) -> None:
        """Ask the threads to end after the update they are in. Safe in a signal handler."""
        self._stop_wanted = True

    def abort(self) -> None:
        """A thread died: end the others, also those that wait for its gradients."""
        with self._boundary:
            self._stop_wanted = self._stopped = True
            self._boundary.notify_all()
        if self.config.mode == "sync":
            self.barrier.abort()

    def while_paused(self, action: Callable[[], Result]) -> Result:
        """Run `action` while every thread stands between two updates (or has ended)."""
        with self._boundary:
            self._pause_wanted = True
            self._boundary.wait_for(lambda: self._parked >= self._running)
            try:
                return action()
            finally:
                self._pause_wanted = self._paused = False
                self._boundary.notify_all()
