"""`--model.attention packed`: one row without padding gives what padded examples give."""

from typing import Any

import pytest
import torch
from torchjd.aggregation import UPGrad
from transformers import AutoModel

from mtl.balancing import Sum, Surgery
from mtl.balancing.gradient_probe import GradientProbe
from mtl.errors import UserError
from mtl.methods import Joint, LoRA, MultiHead
from mtl.methods.attention import implementations
from mtl.modules.family_table import FAMILIES
from mtl.regularizers import SMART
from tests.balancing.helpers import mixed_batch, task_losses
from tests.families import small_config
from tests.methods.test_attention import method

PACKING = [name for name, family in FAMILIES.items() if family.packs]


@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        *((family, pooling) for family in PACKING for pooling in ("mean", "last")),
        *((family, "cls") for family in ("bert", "roberta", "distilbert")),
        *((family, "pooler") for family in ("bert", "roberta")),
    ],
)
def test_logits_and_gradients_equal_those_of_padded_examples(
    family: str, pooling: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = mixed_batch(lengths=(10, 9, 12), types=family == "bert")
    results = []
    for attention in ("sdpa", "packed"):
        module = method(MultiHead, family, monkeypatch, attention=attention, pooling=pooling)
        module.setup("fit")
        losses = task_losses(module, batch)
        torch.stack(list(losses.values())).sum().backward()
        gradients = {name: each.grad for name, each in module.named_parameters()}
        results.append((module(batch), gradients))
    (logits, gradients), (packed_logits, packed_gradients) = results
    for task, expected in logits.items():
        torch.testing.assert_close(packed_logits[task], expected, atol=1e-5, rtol=1e-5)
    for name, expected in gradients.items():
        if expected is None:
            assert packed_gradients[name] is None, name
        else:
            torch.testing.assert_close(
                packed_gradients[name], expected, atol=1e-5, rtol=1e-4, msg=name
            )


def test_the_families_that_pack_are_those_for_which_it_is_exact() -> None:
    assert {"bert", "roberta", "distilbert", "llama", "qwen3"} <= set(PACKING)
    # Relative positions, or layers that attend to a window.
    for name in ("deberta-v2", "mpnet", "modernbert", "mistral", "gemma2"):
        assert "packed" not in implementations(AutoModel.from_config(small_config(name)))


@pytest.mark.parametrize(
    ("cls", "args", "message"),
    [
        (LoRA, {"per_task": True}, "LoRA is not known to ignore the tasks inside the encoder"),
        (MultiHead, {"balancer": Surgery(UPGrad)}, "Surgery reads each example inside the encoder"),
        (MultiHead, {"regularizer": SMART()}, "SMART reads each example inside the encoder"),
    ],
)
def test_what_needs_the_examples_inside_the_encoder_is_refused(
    cls: Any, args: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = method(cls, "bert", monkeypatch, attention="packed", **args)
    with pytest.raises(UserError, match=f"--model.attention packed: {message}"):
        module.setup("fit")


def test_layers_that_attend_to_a_window_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = method(MultiHead, "qwen3", monkeypatch, attention="packed")
    module.setup("fit")
    module.encoder.backbone.config.layer_types = ["full_attention", "sliding_attention"]
    with pytest.raises(UserError, match="some layers of this backbone attend to a window only"):
        module.setup("fit")


def test_measuring_gradients_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    module = method(MultiHead, "bert", monkeypatch, attention="packed", balancer=Sum())
    with pytest.raises(UserError, match="gradients of tasks cannot be measured"):
        GradientProbe(module)


def test_joint_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    method(Joint, "bert", monkeypatch, attention="packed", labels="union").setup("fit")
