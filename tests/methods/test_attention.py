"""`--model.attention`: the same answers, or a sentence that says why not."""

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.nn import functional as F
from transformers import AutoModel

from mtl.errors import UserError
from mtl.methods import CAMTL, LoRA, MultiHead, PALs
from mtl.methods.attention import implementations
from mtl.modules import encoder as encoders
from mtl.modules.family_table import FAMILIES
from tests.balancing.helpers import mixed_batch, three_tasks
from tests.families import small_config


def method(cls: Any, backbone: str, monkeypatch: pytest.MonkeyPatch, **args: Any) -> Any:
    """A method with a random model of a family, in evaluation mode."""
    torch.manual_seed(0)
    model = AutoModel.from_config(small_config(backbone, **args.pop("config", {})))
    monkeypatch.setattr(encoders, "load_encoder", lambda *_, **__: (model.train(), []))
    module = cls(tasks=three_tasks(), backbone=backbone, **args).eval()
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    return module


@pytest.mark.parametrize("family", ["bert", "modernbert", "qwen3"])
@pytest.mark.parametrize(("cls", "args"), [(MultiHead, {}), (PALs, {}), (LoRA, {"per_task": True})])
def test_implementations_give_the_same_answers(
    cls: Any, args: dict[str, Any], family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = mixed_batch(lengths=(10, 9, 12), types=False)
    answers = []
    for attention in ("sdpa", "eager"):
        module = method(cls, family, monkeypatch, attention=attention, **args)
        module.setup("fit")
        assert module.encoder.backbone.config._attn_implementation == attention
        answers.append(module(batch))
    for task, logits in answers[0].items():
        torch.testing.assert_close(answers[1][task], logits, atol=2e-5, rtol=1e-4)


def test_what_each_family_has() -> None:
    found = {name: implementations(AutoModel.from_config(small_config(name))) for name in FAMILIES}
    assert {name for name, each in found.items() if each == ["eager"]} == {
        *("deberta", "deberta-v2", "mpnet"),
    }
    assert [name for name, each in found.items() if "sdpa" not in each] == [
        *("deberta", "deberta-v2", "gemma2", "mpnet"),
    ]


@pytest.mark.parametrize(
    ("family", "attention", "message"),
    [
        ("deberta-v2", "sdpa", "sdpa: unsupported by deberta-v2. Supported: eager."),
        ("gpt2", "flex_attention", "Supported: eager, sdpa and flash_attention_2."),
        ("bert", "flex_attention", "runs on GPUs only, and the device of this run is cpu; choose"),
        ("bert", "flash_attention_2", "runs on GPUs only, and the device of this run is cpu"),
    ],
)
def test_what_the_family_or_the_device_lacks_is_refused(
    family: str, attention: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = method(MultiHead, family, monkeypatch, attention=attention)
    with pytest.raises(UserError, match=f"--model.attention {attention}: .*") as error:
        module.setup("fit")
    assert message in str(error.value)


class OnGPU:
    """The part of a Trainer that says where and how a run computes."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.strategy = type("Strategy", (), {"root_device": torch.device("cuda")})


@pytest.mark.parametrize(
    ("attention", "precision", "installed", "message"),
    [
        ("flash_attention_2", "bf16-mixed", False, "needs the package flash-attn: pip install"),
        ("flash_attention_2", "32-true", True, "computes in 16 bits; add --trainer.precision bf16"),
        ("flex_attention", "bf16-mixed", True, "but attention_probs_dropout_prob in the backbone"),
    ],
)
def test_what_a_gpu_needs_is_checked(
    attention: Any,
    precision: str,
    installed: bool,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mtl.methods.attention.is_flash_attn_2_available", lambda: installed)
    module = method(MultiHead, "bert", monkeypatch, attention=attention)
    module._trainer = OnGPU(precision)
    with pytest.raises(UserError, match=message):
        module.setup("fit")


@pytest.mark.parametrize(
    ("cls", "attention", "message"),
    [
        (CAMTL, "sdpa", "--model.attention sdpa: CAMTL computes attention itself, with a bias"),
        (PALs, "flex_attention", "flex_attention: the attention of PALs reads masks of other"),
    ],
)
def test_methods_with_attention_of_their_own_refuse(
    cls: Any, attention: Any, message: str, backbone: str
) -> None:
    with pytest.raises(UserError, match=message):
        cls(tasks=three_tasks(), backbone=backbone, attention=attention)


@pytest.mark.parametrize(("lengths", "masked"), [((9, 9, 9), False), ((9, 9, 12), True)])
def test_examples_of_equal_length_pass_no_mask(
    lengths: tuple[int, int, int], masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = []
    attend = F.scaled_dot_product_attention

    def record(*args: Any, **options: Any) -> Any:
        masks.append(options["attn_mask"])
        return attend(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    # Examples of one task have the same length if there is one of each.
    method(MultiHead, "bert", monkeypatch)(mixed_batch((1, 1, 1), lengths, types=False))
    assert [mask is not None for mask in masks] == [masked, masked]
