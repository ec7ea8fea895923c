"""Random numbers as a function of where the run stands."""

import random

import numpy as np
import torch


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seeds Python, numpy and torch (all devices) for one training step of one process.

    With this, dropout needs no saved state: a resumed run draws what the uninterrupted one drew, and what happened in
    between (a validation, another number of workers) changes nothing.

    Args:
        seed: The run's seed.
        epoch: The epoch.
        step: The batch's place in the epoch.
        rank: The process's number.
    """
    state = np.random.SeedSequence([seed, epoch, step, rank]).generate_state(3)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))
    torch.manual_seed(int(state[2]))


def step_seed(seed: int, epoch: int, step: int) -> int:
    """A seed for what is drawn in one training step alike in all processes."""
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1)[0])
