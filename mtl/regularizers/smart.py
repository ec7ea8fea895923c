"""SMART: smoothness-inducing adversarial regularization and the Bregman proximal point method."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mtl.batch import Batch
from mtl.bounds import NonNegative, NonNegativeInt, Positive, check_bounds
from mtl.modules.eval_mode import eval_mode
from mtl.regularizers.base import Regularizer
from mtl.regularizers.perturbation import (
    Perturbed,
    PerturbedWithoutComputation,
    embedding_blocks,
    pooling_encoder,
    word_embeddings,
)
from mtl.training.distributed import world_size

# The momentum of the weights' moving average is BETAS[0] in the first tenth of training.
FIRST_SHARE = 0.1
BETAS = (0.99, 0.999)


class SMART(Regularizer):
    """Penalizes predictions that change with small perturbations of the embeddings.

    The smoothness term searches the noise that changes a prediction most, by gradient ascent, and
    penalizes the divergence between the predictions with and without noise. For classes it is the
    Kullback-Leibler divergence in both directions; in each, the first argument is detached, as in
    the authors' release. For values it is the squared difference.

    The proximal term penalizes the divergence from the predictions of a moving average of the
    weights.

    Source: Jiang et al. 2020, equations 1 to 4. What is perturbed, the noise and its normalization
    follow the release of MT-DNN: after a step of ascent each vector has norm 1, so `radius` sets
    its size. The ascent is the paper's: it maximizes the divergence of equation 2, the
    Kullback-Leibler divergence from the clean prediction, averaged over a task's examples. The
    release ascends a surrogate instead, the sum over examples of the probabilities' differences in
    log odds.

    With the published `step_size` and `noise` the paper's ascent hardly turns the noise: the
    gradient of the divergence vanishes with the noise. On MiniLM with a new head the divergence is
    that of random noise to 0.1 %; with `step_size: 1.0e+3` it is 2 to 4 times as large, and with
    the release's surrogate, whose gradient does not vanish, 4 to 7 times.

    Args:
        weight: Weight of the smoothness term, lambda_s. The paper tried 1, 3 and 5.
        steps: Number of ascent steps.
        step_size: Size of an ascent step.
        noise: Standard deviation of the initial noise.
        epsilon: Added to the norm before dividing by it.
        norm: Norm of the noise vectors: the largest absolute entry (`inf`) or `l2`. `l1` replaces
            the entries by their signs.
        level: What is normalized: the vector of each token, or all vectors of a `sentence`.
        radius: Factor of the normalized noise.
        proximal: Weight of the proximal term, mu; 0 disables it.
        target: What is perturbed. `embeddings`: the output of the embedding block, after its
            normalization, as in the release. `words`: the vectors of the word table, before
            position and segment embeddings and normalization; these are so small in most encoders
            that noise of radius 1 replaces them. `pooled`: the vector that the heads read; this is
            cheaper, because only the heads are computed again.

    Attributes:
        average: The moving average of the trainable parameters, by name; empty before the first
            use.
    """

    def __init__(
        self,
        weight: NonNegative = 1.0,
        steps: NonNegativeInt = 1,
        step_size: NonNegative = 1e-3,
        noise: Positive = 1e-5,
        epsilon: Positive = 1e-6,
        norm: Literal["inf", "l2", "l1"] = "inf",
        level: Literal["token", "sentence"] = "token",
        radius: Positive = 1.0,
        proximal: NonNegative = 1.0,
        target: Literal["embeddings", "words", "pooled"] = "embeddings",
    ) -> None:
        super().__init__()
        self.weight, self.steps, self.step_size, self.noise = weight, steps, step_size, noise
        self.epsilon, self.norm, self.level, self.radius = epsilon, norm, level, radius
        self.proximal, self.target = proximal, target
        self.average: dict[str, Tensor] = {}
        self._perturbed: Perturbed | None = None
        check_bounds(SMART, vars(self), "SMART: ")

    def on_fit_start(self, method: Any, sizes: Mapping[str, int]) -> None:
        """Records the outputs of the modules to perturb.

        Raises:
            UserError: If `target` is `pooled`, but the heads read more than a pooled vector.
        """
        self.on_fit_end()  # hooks of a training that was interrupted
        if self.target == "pooled":
            self._perturbed = PerturbedWithoutComputation(pooling_encoder(method))
        elif self.target == "words":
            self._perturbed = Perturbed(*word_embeddings(method))
        else:
            self._perturbed = Perturbed(*embedding_blocks(method))
        # In a tuple, so that the method is not a submodule of its own submodule.
        self._method = (method,)

    def on_fit_end(self) -> None:
        """Removes the hooks, so that another training does not record outputs twice."""
        if self._perturbed is not None:
            self._perturbed.remove()
            self._perturbed = None

    def on_step_start(self, batch: Batch, seed: int) -> None:
        """Forgets the outputs of the last step."""
        self._recorded.start()

    @property
    def _recorded(self) -> Perturbed:
        assert self._perturbed is not None, "SMART is used in training only, after on_fit_start"
        return self._perturbed

    def forward(self, method: Any, batch: Batch, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted sum of both terms for each example, by task; shape (examples,)."""
        penalties: dict[str, Tensor] = {}
        if self.weight:
            smoothness = self._smoothness(method, batch, logits)
            penalties = {task: self.weight * term for task, term in smoothness.items()}
        if self.proximal:
            proximity = self._proximity(method, batch, logits)
            penalties = {
                task: self.proximal * term + penalties.get(task, 0.0)
                for task, term in proximity.items()
            }
        return penalties

    def on_step_end(self, losses: Mapping[str, Tensor]) -> None:
        """Updates the moving average of the weights."""
        if not self.proximal:
            return
        (method,) = self._method
        beta = BETAS[method.training_progress > FIRST_SHARE]
        with torch.no_grad():
            for name, average in self._averages(method).items():
                average.lerp_(method.get_parameter(name), 1 - beta)

    def get_extra_state(self) -> dict[str, Tensor]:
        """The moving average of the weights."""
        return self.average

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Restores the moving average of the weights."""
        self.average = state

    def _smoothness(
        self, method: Any, batch: Batch, logits: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        noise = self._worst_noise(method, batch, logits)
        with self._recorded.by(noise):
            perturbed = method.training_logits(batch)
        terms = {}
        for segment in batch.segments:
            clean, noisy = logits[segment.task], perturbed[segment.task]
            if method.loss_functions[segment.task].of_values:
                terms[segment.task] = method.divergences(segment, clean, noisy)
            else:
                from_clean = method.divergences(segment, clean.detach(), noisy)
                from_noisy = method.divergences(segment, noisy.detach(), clean)
                terms[segment.task] = from_clean + from_noisy
        return terms

    def _worst_noise(self, method: Any, batch: Batch, logits: Mapping[str, Tensor]) -> list[Tensor]:
        """For each recorded output the noise that changes predictions most."""
        noise = [
            (self.noise * torch.randn_like(output)).requires_grad_()
            for output in self._recorded.outputs
        ]
        for _ in range(self.steps):
            with method.input_gradients_only(), self._recorded.by(noise):
                perturbed = method.training_logits(batch)
                divergences = [
                    # Divided by the examples of the task in all processes, so that an example gets
                    # the same noise in a batch of one task and in a batch of several, and with any
                    # number of processes.
                    method.divergences(
                        segment, logits[segment.task].detach(), perturbed[segment.task]
                    ).sum()
                    / (segment.denominator * world_size())
                    for segment in batch.segments
                ]
                gradients = torch.autograd.grad(torch.stack(divergences).sum(), noise)
            noise = [self._ascend(*pair) for pair in zip(noise, gradients, strict=True)]
        return noise

    def _ascend(self, noise: Tensor, gradient: Tensor) -> Tensor:
        """Noise after one step of ascent, normalized to `radius`."""
        noise = noise.detach() + self.step_size * gradient
        axes = (-1,) if self.level == "token" else tuple(range(1, noise.ndim))
        if self.norm == "l1":
            return (self.radius * noise.sign()).requires_grad_()
        size = (
            noise.abs().amax(axes, keepdim=True)
            if self.norm == "inf"
            else noise.norm(dim=axes, keepdim=True)
        )
        return (self.radius * noise / (size + self.epsilon)).requires_grad_()

    def _proximity(
        self, method: Any, batch: Batch, logits: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        averages = {f"method.{name}": value for name, value in self._averages(method).items()}
        with torch.no_grad(), eval_mode(method):
            averaged = functional_call(_TrainingLogits(method), averages, (batch,))
        terms = {}
        for segment in batch.segments:
            current, average = logits[segment.task], averaged[segment.task]
            terms[segment.task] = method.divergences(segment, average, current)
            if not method.loss_functions[segment.task].of_values:
                reverse = method.divergences(segment, current, average)
                terms[segment.task] = terms[segment.task] + reverse
        return terms

    def _averages(self, method: nn.Module) -> dict[str, Tensor]:
        """The moving average of each trainable parameter, which starts at its value."""
        if not self.average:
            self.average = {
                name: parameter.detach().clone()
                for name, parameter in method.named_parameters()
                if parameter.requires_grad
            }
        device = next(method.parameters()).device
        if next(iter(self.average.values())).device != device:
            self.average = {name: value.to(device) for name, value in self.average.items()}
        return self.average


class _TrainingLogits(nn.Module):
    """A method's training logits as a forward pass, for `functional_call`."""

    def __init__(self, method: Any) -> None:
        super().__init__()
        self.method = method

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.method.training_logits(batch)
