"""DoRA, shared and per task in one batch, against peft with one adapter per model."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModel

from mtl.balancing import Sum
from mtl.errors import UserError
from mtl.methods import LoRA, MultiHead
from tests.balancing.helpers import make_method, mixed_batch, three_tasks

# Of peft 0.21.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")


def peft_model(backbone: str, method: Any, task: str | None) -> tuple[Any, list[Any]]:
    """A model of peft with the updates of a task; pairs of our parameters and its own."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, lora_alpha=6, target_modules=["query", "value"], use_dora=True)
    plain = AutoModel.from_pretrained(backbone, add_pooling_layer=False)
    plain.load_state_dict(method.encoder.backbone.state_dict())
    model: Any = get_peft_model(copy.deepcopy(plain), config).eval()
    pairs = []
    for name, change in method.changes.items():
        update = change if task is None else change[task]
        layer = model.base_model.model.get_submodule(name.replace("/", "."))
        low_rank = [
            (update.a.weight, layer.lora_A["default"].weight),
            (update.b.weight, layer.lora_B["default"].weight),
        ]
        lengths = layer.lora_magnitude_vector["default"].weight
        with torch.no_grad():
            for ours, theirs in low_rank:
                theirs.copy_(ours)
            lengths.add_(update.magnitude)  # they start with the length of the pretrained row
        pairs += [*low_rank, (update.magnitude, lengths)]
    return model, pairs


@pytest.mark.parametrize("per_task", [False, True])
def test_outputs_and_gradients_equal_those_of_peft(per_task: bool, backbone: str) -> None:
    method = make_method(LoRA, backbone, Sum(), rank=4, alpha=6.0, per_task=per_task, dora=True)
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            if name.startswith("changes"):
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    batch = mixed_batch()
    torch.manual_seed(0)
    total = torch.zeros(())
    expected: dict[Tensor, Tensor] = {}
    for segment in batch.segments:
        model, pairs = peft_model(backbone, method, segment.task if per_task else None)
        tokens = {name: values[segment.examples] for name, values in batch.tokens.items()}
        theirs = model(**tokens).last_hidden_state[:, 0]
        ours = method.encoder.states(batch, segment.examples, segment.length)[:, 0]
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
        weights = torch.randn_like(ours)
        total = total + (weights * ours).sum()
        gradients = torch.autograd.grad((weights * theirs).sum(), [pair[1] for pair in pairs])
        for (parameter, _), gradient in zip(pairs, gradients, strict=True):
            expected[parameter] = expected.get(parameter, torch.zeros(())) + gradient
    total.backward()
    for parameter, gradient in expected.items():
        torch.testing.assert_close(parameter.grad, gradient, atol=1e-5, rtol=1e-4)


def test_the_encoder_is_unchanged_at_first_whichever_weights_are_loaded(backbone: str) -> None:
    plain = make_method(MultiHead, backbone, Sum())  # its weights are not those of the backbone
    dora = LoRA(tasks=three_tasks(), backbone=backbone, dora=True).eval()
    dora.encoder.load_state_dict(plain.encoder.state_dict())
    batch = mixed_batch()
    with torch.no_grad():
        ours, theirs = (
            one.encoder.states(batch, batch.segments[0].examples, 4) for one in (dora, plain)
        )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_weights_that_are_trained_are_refused(backbone: str) -> None:
    with pytest.raises(UserError, match="--model.dora: needs frozen weights"):
        make_method(LoRA, backbone, Sum(), dora=True, freeze=False)
