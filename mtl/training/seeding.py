"""Random number generators seeded by the position in training."""

import random

import numpy as np
import torch


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seeds Python, NumPy and PyTorch (all devices) for one training step of one process.

    Dropout then needs no saved state: a resumed run draws the same numbers as an uninterrupted one.
    Validation runs and the number of data loader workers have no effect on training.

    Args:
        seed: The run's seed.
        epoch: The epoch.
        step: The index of the batch within the epoch.
        rank: The rank of the process.
    """
    state = np.random.SeedSequence([seed, epoch, step, rank]).generate_state(3)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))
    torch.manual_seed(int(state[2]))


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Returns a seed for random draws that are the same in all processes of a training step."""
    return int(np.random.SeedSequence([seed, epoch, step]).generate_state(1)[0])
