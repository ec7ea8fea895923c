"""What every balancer answers."""

from abc import abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn


class Balancer(nn.Module):
    """Turns the losses of the tasks present in a step into one number to differentiate."""

    def start(self, sizes: Mapping[str, int]) -> None:
        """Called once before training.

        Args:
            sizes: Training rows of each task of the run.
        """

    @abstractmethod
    def combine(self, losses: Mapping[str, Tensor], rows: Mapping[str, float]) -> Tensor:
        """One loss of the losses of the tasks present.

        Args:
            losses: Each task's mean loss, a scalar.
            rows: Each task's rows in the step, of all processes together, per process.
        """
