"""Smoothness-inducing adversarial regularisation, and the Bregman proximal point method."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtl.batch import Batch
from mtl.errors import UserError
from mtl.modules.eval_mode import eval_mode
from mtl.regularizers.base import Regularizer

EARLY = 0.1
BETAS = (0.99, 0.999)


class SMART(Regularizer):
    """Predictions shall not move when the embeddings do, nor far from those of the weights' moving average.

    The noise that moves a row's prediction most is sought by steps of gradient ascent. Where the perturbed row's prediction
    parts from the row's own, the two are drawn together: by both Kullback-Leibler divergences for classes, each with its
    first argument held fixed as in the authors' release, and by the squared difference for numbers.

    Source: Jiang et al. 2020, equations 1 to 4; noise and its normalisation as in the release of MT-DNN: after a step each
    vector has norm 1, so `radius` is what makes it small.

    Args:
        weight: Weight of the smoothness, lambda_s; the paper tried 1, 3 and 5.
        steps: Steps of ascent.
        step_size: Size of a step.
        noise: Standard deviation of the noise at first.
        epsilon: What guards the division by the norm.
        norm: The norm of the noise's vectors: the largest entry (`inf`), `l2`, or its signs alone (`l1`).
        level: What has a norm: each token's vector, or the whole `sentence`.
        radius: What the noise is multiplied with after a step.
        proximal: Weight of the Bregman proximal term, mu; 0 for none.
        target: What is perturbed: the word `embeddings`, or the vector that the head reads (`pooled`), a light variant that
            computes the head alone anew.
    """

    def __init__(
        self,
        weight: float = 1.0,
        steps: int = 1,
        step_size: float = 1e-3,
        noise: float = 1e-5,
        epsilon: float = 1e-6,
        norm: Literal["inf", "l2", "l1"] = "inf",
        level: Literal["token", "sentence"] = "token",
        radius: float = 1.0,
        proximal: float = 1.0,
        target: Literal["embeddings", "pooled"] = "embeddings",
    ) -> None:
        super().__init__()
        self.weight, self.steps, self.step_size, self.noise = weight, steps, step_size, noise
        self.epsilon, self.norm, self.level, self.radius = epsilon, norm, level, radius
        self.proximal, self.target = proximal, target
        self.average: dict[str, Tensor] = {}

    def on_fit_start(self, method: Any) -> None:
        """Hears what the embeddings, or the encoder, give in each step.

        Raises:
            UserError: If the pooled vector is to be perturbed, and the method's heads read more than that.
        """
        if self.target == "pooled":
            encoder = getattr(method, "encoder", None)
            if encoder is None or method.reads_token_states:
                raise UserError(
                    f"SMART: target: pooled: the heads of {type(method).__name__} read more than a pooled vector"
                )
            self._perturbed = Perturbed(encoder, alone=True)
        else:
            tables = {
                id(table): table
                for module in method.modules()
                if (table := _word_embeddings(module)) is not None
            }
            self._perturbed = Perturbed(*tables.values())

    def on_step_start(self) -> None:
        """Forgets the last step."""
        self._perturbed.begin()

    def forward(self, method: Any, batch: Batch, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """For each task present its rows' smoothness and proximal terms, shape (rows,), weighted."""
        terms: dict[str, Tensor] = {}
        if self.weight:
            smooth = self._smoothness(method, batch, logits)
            terms = {task: self.weight * rows for task, rows in smooth.items()}
        if self.proximal:
            near = self._proximity(method, batch, logits)
            terms = {
                task: self.proximal * rows + terms.get(task, 0.0) for task, rows in near.items()
            }
        return terms

    def on_step_end(self, method: nn.Module, done: float) -> None:
        """Moves the average of the weights: by a hundredth in the first tenth of the training, by a thousandth then."""
        if not self.proximal:
            return
        beta = BETAS[done > EARLY]
        with torch.no_grad():
            for name, average in self._averages(method).items():
                average.lerp_(method.get_parameter(name), 1 - beta)

    def get_extra_state(self) -> dict[str, Tensor]:
        """The average of the weights."""
        return self.average

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Goes on with the average."""
        self.average = state

    def _smoothness(
        self, method: Any, batch: Batch, logits: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        noise = [
            (self.noise * torch.randn_like(output)).requires_grad_()
            for output in self._perturbed.outputs
        ]
        for _ in range(self.steps):
            with method.input_gradients_only(), self._perturbed.by(noise):
                moved = method.training_logits(batch)
                apart = [
                    # By its own task's rows: in a batch of several tasks each row moves as it would alone.
                    method.divergences(
                        segment, logits[segment.task].detach(), moved[segment.task]
                    ).sum()
                    / max(1, len(segment.labels))
                    for segment in batch.segments
                ]
                gradients = torch.autograd.grad(torch.stack(apart).sum(), noise)
            noise = [self._moved(*pair) for pair in zip(noise, gradients, strict=True)]
        with self._perturbed.by(noise):
            moved = method.training_logits(batch)
        terms = {}
        for segment in batch.segments:
            own, other = logits[segment.task], moved[segment.task]
            if method.task_loss[segment.task].of_values:
                terms[segment.task] = method.divergences(segment, own, other)
            else:
                there = method.divergences(segment, own.detach(), other)
                terms[segment.task] = there + method.divergences(segment, other.detach(), own)
        return terms

    def _moved(self, noise: Tensor, gradient: Tensor) -> Tensor:
        """The noise after a step of ascent, with its vectors' norm made `radius`."""
        moved = noise.detach() + self.step_size * gradient
        axes = (-1,) if self.level == "token" else tuple(range(1, moved.ndim))
        if self.norm == "l1":
            return (self.radius * moved.sign()).requires_grad_()
        size = (
            moved.abs().amax(axes, keepdim=True)
            if self.norm == "inf"
            else moved.norm(dim=axes, keepdim=True)
        )
        return (self.radius * moved / (size + self.epsilon)).requires_grad_()

    def _proximity(
        self, method: Any, batch: Batch, logits: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        averages = {f"method.{name}": value for name, value in self._averages(method).items()}
        with torch.no_grad(), eval_mode(method):
            before = functional_call(_Logits(method), averages, (batch,))
        terms = {}
        for segment in batch.segments:
            own, other = logits[segment.task], before[segment.task]
            terms[segment.task] = method.divergences(segment, other, own)
            if not method.is_regression(segment.task):
                terms[segment.task] = terms[segment.task] + method.divergences(segment, own, other)
        return terms

    def _averages(self, method: nn.Module) -> dict[str, Tensor]:
        """The moving average of each trained parameter, which starts where training does."""
        if not self.average:
            named = method.named_parameters()
            self.average = {
                name: parameter.detach().clone()
                for name, parameter in named
                if parameter.requires_grad
            }
        device = next(method.parameters()).device
        if next(iter(self.average.values())).device != device:
            self.average = {name: value.to(device) for name, value in self.average.items()}
        return self.average


class _Logits(nn.Module):
    """A method's training logits as a module's forward pass."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.training_logits(batch)


class Perturbed:
    """Layers whose outputs can be had again with noise added.

    The clean outputs of a step are kept, and the noisy ones made of them: their gradient passes through the layers once.

    Args:
        layers: The layers.
        alone: Whether nothing below the only layer needs computing when its noisy output is asked for.

    Attributes:
        outputs: What the layers gave in the step's clean pass, call by call.
    """

    def __init__(self, *layers: nn.Module, alone: bool = False) -> None:
        self.outputs: list[Tensor] = []
        self._noisy: list[Tensor] | None = None
        self._layer = layers[0] if alone else None
        for layer in layers:
            layer.register_forward_hook(self._hear)

    def begin(self) -> None:
        """Forgets the last step."""
        self.outputs = []

    @contextmanager
    def by(self, noise: list[Tensor]) -> Iterator[None]:
        """Within, the layers give their clean outputs with noise added, of each call its own."""
        self._noisy = [output + own for output, own in zip(self.outputs, noise, strict=True)]
        if self._layer is not None:
            self._layer.forward = lambda *args: self.outputs[0]
        try:
            yield
        finally:
            self._noisy = None
            if self._layer is not None:
                del self._layer.forward

    def _hear(self, layer: nn.Module, args: Any, output: Tensor) -> Tensor | None:
        if not torch.is_grad_enabled():
            return None
        if self._noisy is None:
            self.outputs.append(output)
            return None
        return self._noisy.pop(0)


def _word_embeddings(module: nn.Module) -> nn.Module | None:
    found = getattr(module, "get_input_embeddings", None)
    return found() if found else None
