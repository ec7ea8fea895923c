"""Four planted tasks on one encoder: two families, whose labels are copied or flipped."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

TASKS = ("a", "a flipped", "b", "b flipped")
WIDTH, HIDDEN, EXAMPLES = 16, 1, 40


class Planted(nn.Module):
    """A linear encoder of one output, and a head per task; labels are signs of two directions.

    The families compete for the output. Each task has its own examples, few for its direction.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.heads = nn.ModuleList(nn.Linear(HIDDEN, 2) for _ in TASKS)
        directions = torch.linalg.qr(torch.randn(WIDTH, 2))[0].t()
        self.splits: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
        for split, size in (("train", EXAMPLES), ("validation", 80)):
            self.splits[split] = {}
            for index, task in enumerate(TASKS):
                inputs = torch.randn(size, WIDTH)
                labels = inputs @ directions[index // 2] > 0
                self.splits[split][task] = inputs, (labels ^ bool(index % 2)).long()

    def logits(self, task: str, inputs: Tensor) -> Tensor:
        return self.heads[TASKS.index(task)](self.encoder(inputs))

    def losses(self) -> Mapping[str, Tensor]:
        train = self.splits["train"].items()
        return {
            task: cross_entropy(self.logits(task, inputs), labels)
            for task, (inputs, labels) in train
        }

    @property
    def shared(self) -> dict[str, nn.Parameter]:
        return dict(self.encoder.named_parameters())

    def train_jointly(self, steps: int) -> None:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.02)
        for _ in range(steps):
            optimizer.zero_grad()
            torch.stack(list(self.losses().values())).sum().backward()
            optimizer.step()
