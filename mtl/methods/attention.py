"""How backbones compute attention (`--model.attention`)."""

from typing import Any, Literal

from lightning.pytorch import LightningModule
from transformers import PreTrainedModel
from transformers.utils.import_utils import is_flash_attn_2_available

from mtl.errors import UserError, list_words
from mtl.modules.family_table import FAMILIES

Attention = Literal["eager", "sdpa", "flash_attention_2", "flex_attention", "packed"]


def set_attention(module: LightningModule, attention: Attention, training: bool) -> None:
    """Sets the implementation of attention in a method's backbones; all compute the same function.

    Args:
        module: The method, with its Trainer.
        attention: The implementation.
        training: Whether attention probabilities are dropped.

    Raises:
        UserError: If the family of a backbone, the device or the precision does not have it.
    """
    device = module.trainer.strategy.root_device.type
    for model in (each for each in module.modules() if isinstance(each, PreTrainedModel)):
        _check_family(model, attention)
        if attention in ("flash_attention_2", "flex_attention") and device != "cuda":
            raise UserError(
                f"--model.attention {attention}: runs on GPUs only, and the device of this run is "
                f"{device}; choose sdpa or eager"
            )
        if attention == "flash_attention_2":
            _check_flash_attention(half="16" in str(module.trainer.precision))
        if attention == "packed":
            _check_packed(module, model, device)
        if attention == "flex_attention" and training:
            _check_dropout(model)
        model.set_attn_implementation(attention)


def implementations(model: PreTrainedModel) -> list[Attention]:
    """The implementations of attention that a model has."""
    if not model._can_set_attn_implementation():
        return ["eager"]
    optional: dict[Attention, bool] = {
        "sdpa": model._supports_sdpa,
        "flash_attention_2": model._supports_flash_attn,
        "flex_attention": model._supports_flex_attn,
        "packed": model.config.model_type in FAMILIES and FAMILIES[model.config.model_type].packs,
    }
    return ["eager", *(name for name, supported in optional.items() if supported)]


def _check_family(model: PreTrainedModel, attention: Attention) -> None:
    if attention not in (supported := implementations(model)):
        raise UserError(
            f"--model.attention {attention}: unsupported by {model.config.model_type}. Supported: "
            f"{list_words(supported)}."
        )


def _check_flash_attention(half: bool) -> None:
    # Without the package transformers would load a kernel, code from the hub.
    if not is_flash_attn_2_available():
        raise UserError(
            "--model.attention flash_attention_2: needs the package flash-attn: pip install "
            "flash-attn; or choose sdpa, which uses a fused kernel as well"
        )
    if not half:
        raise UserError(
            "--model.attention flash_attention_2: computes in 16 bits; add --trainer.precision "
            "bf16-mixed, or choose sdpa"
        )


def _check_dropout(model: PreTrainedModel) -> None:
    names = ("attention_probs_dropout_prob", "attention_dropout")
    dropout = {name: value for name in names if (value := getattr(model.config, name, 0))}
    if dropout:
        name, value = next(iter(dropout.items()))
        raise UserError(
            f"--model.attention flex_attention: drops no attention probabilities, but {name} in "
            f"the backbone's config.json is {value:g}; set it to 0, or choose sdpa"
        )


def _check_packed(module: Any, model: PreTrainedModel, device: str) -> None:
    """Checks that nothing needs the rows of a tensor inside the encoder to be examples."""
    reason = ""
    if device != "cpu":
        reason = f"runs on CPUs only, and the device of this run is {device}; choose sdpa"
    elif "sliding_attention" in (getattr(model.config, "layer_types", None) or ()):
        reason = "some layers of this backbone attend to a window only (layer_types in config.json)"
    elif not vars(type(module)).get("encoder_ignores_tasks"):
        reason = f"{type(module).__name__} is not known to ignore the tasks inside the encoder"
    elif module.balancer.measures_gradients or module.regularizer is not None:
        changes = module.regularizer or module.balancer
        reason = f"{type(changes).__name__} reads each example inside the encoder"
    if reason:
        raise UserError(f"--model.attention packed: {reason}")
