import copy
import gc
import weakref

import torch
import torchjd.aggregation as aggregation
from torch import nn

from mtl.balancing import Surgery
from mtl.balancing.gradient_capture import GradientCapture
from mtl.methods import MultiHead
from mtl.modules.task_context import Span, expand_per_example, one_example_per_task
from tests.balancing.helpers import make_method, mixed_batch, training_step


class RecordingSink:
    """Stores the gradients of vectors."""

    def __init__(self) -> None:
        self.vectors: list[tuple[list[torch.Tensor], tuple[Span, ...]]] = []

    def linear(self, *args: object) -> None: ...

    def embedding(self, *args: object) -> None: ...

    def vector(
        self, parameter: torch.Tensor, gradients: list[torch.Tensor], spans: tuple[Span, ...]
    ) -> None:
        self.vectors.append((gradients, spans))


class Shifted(nn.Module):
    """Adds a parameter to each example."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs + expand_per_example(self.shift, len(inputs))


def test_a_deep_copy_during_capture_computes_with_its_own_weights(backbone: str) -> None:
    method = make_method(MultiHead, backbone, Surgery(aggregation.UPGrad))
    batch = mixed_batch()
    method.balancer.on_fit_start(method, {})
    copied = copy.deepcopy(method)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.zero_()
        expected = make_method(MultiHead, backbone, Surgery(aggregation.UPGrad))(batch)
        for task, logits in copied(batch).items():
            assert torch.equal(logits, expected[task])


def test_the_gradients_of_a_deep_copy_are_its_own(backbone: str) -> None:
    method = make_method(MultiHead, backbone, Surgery(aggregation.UPGrad))
    method.balancer.on_fit_start(method, {})
    training_step(method, mixed_batch())
    method.zero_grad()
    copied = copy.deepcopy(method.encoder)
    copied(mixed_batch()).sum().backward()
    assert all(parameter.grad is None for parameter in method.encoder.parameters())
    assert any(parameter.grad is not None for parameter in copied.parameters())


def test_an_expanded_parameter_passes_a_gradient_per_task_to_the_sink() -> None:
    model, sink = Shifted(), RecordingSink()
    capture = GradientCapture(model, dict(model.named_parameters()))
    capture.start()
    with one_example_per_task(["a", "b"]):
        output = model(torch.zeros(2, 3))
    with capture.collect_into(sink):
        (output * torch.tensor([[1.0], [2.0]])).sum().backward()
    [(gradients, spans)] = sink.vectors
    assert [span.task for span in spans] == ["a", "b"]
    assert [gradient.tolist() for gradient in gradients] == [[1.0] * 3, [2.0] * 3]
    assert model.shift.grad is None


def test_a_capture_that_is_not_removed_keeps_no_parameter_alive() -> None:
    model = Shifted()
    GradientCapture(model, dict(model.named_parameters()))
    parameter = weakref.ref(model.shift)
    del model
    gc.collect()
    assert parameter() is None


def test_a_parameter_that_is_read_without_its_layer_is_not_captured() -> None:
    model = nn.Linear(2, 2)
    capture = GradientCapture(model, dict(model.named_parameters()))
    capture.start()
    with one_example_per_task(["a", "b"]):
        captured = model(torch.ones(2, 2)).sum()
        assert capture.uncaptured_parameters(captured) == []
        assert capture.uncaptured_parameters(captured + model.weight.sum()) == ["weight"]
