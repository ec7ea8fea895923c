"""Alignment of the tasks' representations in shared low-rank updates (Align-LoRA)."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mtl.batch import Batch, length_groups
from mtl.bounds import NonNegative, check_bounds
from mtl.errors import UserError
from mtl.regularizers.base import Regularizer

# Squared widths of the kernel, as in the authors' code.
WIDTHS = (
    *(1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 100.0),
    *(1e3, 1e4, 1e5, 1e6),
)
# Added to variances, as in the authors' code.
EPSILON = 1e-8


class Alignment(Regularizer):
    """Adds the divergence between the tasks' representations A x in every shared low-rank update.

    The penalty of a task is `weight` times the mean divergence from each other task of the batch
    and over the updated layers, so that with the balancer `Equal` the loss gets `weight` times the
    mean over pairs of tasks. The representation of an example is the mean of A x over its tokens.

    Source: Liu et al. 2025, Align-LoRA (arXiv 2508.05078), with the kernels, the variances and the
    means of the authors' code. Different here: they compare tokens position by position, in batches
    that are padded to a common length; here tasks have texts of different lengths. Their text could
    not be read in full, so the hyper-parameters are those of the code.

    Args:
        divergence: `kl`: the symmetric Kullback-Leibler divergence of normal distributions with
            independent coordinates that have the mean and the variance of each task's examples; a
            task needs two examples in the batch. `mmd`: the squared maximum mean discrepancy, with
            a sum of Gaussian kernels of 19 widths.
        weight: Factor of the divergence.
    """

    def __init__(self, divergence: Literal["kl", "mmd"] = "kl", weight: NonNegative = 0.2) -> None:
        super().__init__()
        self.divergence, self.weight = divergence, weight
        check_bounds(Alignment, vars(self), "Alignment: ")
        self._recorders: list[Recorder] = []
        self._handles: list[Any] = []

    def on_fit_start(self, method: Any, sizes: Mapping[str, int]) -> None:
        """Records the outputs of every shared A.

        Raises:
            UserError: If there is none, or a batch has one task only.
        """
        projections = list(shared_projections(method))
        if not projections:
            raise UserError(
                f"Alignment: {type(method).__name__} has no low-rank updates whose projection A "
                "all tasks share; choose -c methods/lora or -c methods/mtl_lora"
            )
        if method.scheme.tasks_per_batch == "one" and len(method.tasks) > 1:
            raise UserError(
                "Alignment compares the tasks of a batch, but those of "
                f"{type(method.scheme).__name__} have one; add -c sampling/mixed"
            )
        self._recorders = [Recorder() for _ in projections]
        self._handles = [
            projection.register_forward_hook(recorder)
            for projection, recorder in zip(projections, self._recorders, strict=True)
        ]

    def on_step_start(self, batch: Batch, seed: int) -> None:
        """Forgets what other passes have recorded."""
        for recorder in self._recorders:
            recorder.outputs.clear()

    def on_fit_end(self) -> None:
        """Records no longer."""
        for handle in self._handles:
            handle.remove()
        self._recorders, self._handles = [], []

    def forward(self, method: Any, batch: Batch, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The penalty of each task for each of its examples, by task; (examples,)."""
        groups = length_groups(batch)
        totals: dict[str, list[Tensor]] = {segment.task: [] for segment in batch.segments}
        for recorder in self._recorders:
            outputs, recorder.outputs = recorder.outputs[: len(groups)], []
            pooled = torch.cat(
                [
                    _mean_over_tokens(output, batch.tokens["attention_mask"][examples])
                    for output, (examples, _) in zip(outputs, groups, strict=True)
                ]
            )
            by_task = {each.task: pooled[each.examples] for each in batch.segments}
            for task, divergences in self._by_task(by_task).items():
                totals[task].append(divergences)
        return {
            segment.task: self.weight
            * torch.stack(totals[segment.task]).mean()
            * torch.ones(len(segment.labels), device=segment.labels.device)
            for segment in batch.segments
            if totals[segment.task]
        }

    def _by_task(self, representations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """For each task the mean divergence from the others; without tasks that have no others."""
        fewest = 2 if self.divergence == "kl" else 1
        known = {task: each for task, each in representations.items() if len(each) >= fewest}
        function = symmetric_kl if self.divergence == "kl" else mmd
        found: dict[str, list[Tensor]] = {}
        for one, other in combinations(known, 2):
            value = function(known[one], known[other])
            for task in (one, other):
                found.setdefault(task, []).append(value)
        return {task: torch.stack(values).mean() for task, values in found.items()}


class Recorder:
    """Forward hook that keeps a module's outputs, shape (examples, length, rank), with graph."""

    def __init__(self) -> None:
        self.outputs: list[Tensor] = []

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        """Keeps the output of a pass that is trained."""
        if output.requires_grad:
            self.outputs.append(output)

    def __getstate__(self) -> dict[str, Any]:
        """Excludes the tensors of the current step, whose graphs cannot be copied."""
        return {"outputs": []}


def shared_projections(method: nn.Module) -> Iterator[nn.Module]:
    """The projections A of low-rank updates that all tasks share."""
    for update in getattr(method, "changes", {}).values():
        if isinstance(projection := getattr(update, "a", None), nn.Linear):
            yield projection


def mmd(one: Tensor, other: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of two samples, shapes (m, d) and (n, d): a scalar.

    mean k(x, x') + mean k(y, y') - 2 mean k(x, y), over all pairs, each example with itself
    included; k is the sum over `WIDTHS` of exp(-|x - y|^2 / (2 width)).
    """
    widths = one.new_tensor(WIDTHS)

    def kernel(left: Tensor, right: Tensor) -> Tensor:
        squares = (left[:, None] - right[None]).square().sum(-1)
        return (-squares[..., None] / (2 * widths)).exp().sum(-1).mean()

    return kernel(one, one) + kernel(other, other) - 2 * kernel(one, other)


def symmetric_kl(one: Tensor, other: Tensor) -> Tensor:
    """Mean of both Kullback-Leibler divergences between diagonal normal distributions: a scalar.

    Their means and variances are those of the samples, shapes (m, d) and (n, d), m and n at least
    2; summed over coordinates.
    """
    means = one.mean(0), other.mean(0)
    variances = one.var(0) + EPSILON, other.var(0) + EPSILON
    squares = (means[0] - means[1]).square()
    # The logarithms of both directions cancel.
    ratios = (variances[0] + squares) / variances[1] + (variances[1] + squares) / variances[0]
    return (ratios / 2 - 1).sum() / 2


def _mean_over_tokens(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens of each example, (examples, rank), in fp32."""
    weights = mask[:, : states.shape[1], None].float()
    return (states.float() * weights).sum(1) / weights.sum(1)
