"""Loads pretrained models and tokenizers; no other module calls transformers' loading functions."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_warn
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from mtl.errors import UserError
from mtl.modules.backbone_checks import (
    check_architecture,
    check_complete,
    check_tokenizer,
    choose_pooling,
    has_bounded_logits,
    is_causal,
    separate_texts,
)
from mtl.modules.backbone_files import check_folder, check_weights, loading_error
from mtl.modules.bypass import Bypassable
from mtl.modules.families import has_pooler
from mtl.system.bundled_encoder import BUNDLED, bundled_encoder
from mtl.system.hardware import cached_hub_error
from mtl.user_files import expand_path

# No code from a backbone's folder, and no pickled code from its pytorch_model.bin, which is read
# only if there is no model.safetensors.
SAFE: dict[str, Any] = {"trust_remote_code": False, "weights_only": True}
# Many checkpoints hold bf16, in which updates with a small learning rate are lost by rounding. The
# Trainer's precision decides in which format is computed.
FP32: dict[str, Any] = {"dtype": torch.float32}

_weights_skipped: ContextVar[bool] = ContextVar("weights_skipped", default=False)


def load_tokenizer(backbone: str) -> PreTrainedTokenizerFast:
    """Loads the tokenizer of a backbone.

    Args:
        backbone: Name on the hub, a directory, `NAME@REVISION`, or `bundled`.

    Raises:
        UserError: If there is no tokenizer, no fast one, which reports how much it truncates, or it
            does not fit the model.
    """
    config = load_config(backbone)
    with _loading(backbone) as (name, source):
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, **source)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(
            f"--backbone {backbone}: its tokenizer is not a fast one; save a tokenizer.json next "
            "to the model"
        )
    check_tokenizer(backbone, tokenizer, config)
    separate_texts(backbone, tokenizer)
    if is_causal(config):
        # Ettin's decoders have the tokenizer of its encoders. Prompts are for the next token here.
        tokenizer.mask_token = None
    return tokenizer


def load_config(backbone: str) -> PretrainedConfig:
    """Loads the configuration of a backbone.

    Args:
        backbone: Name on the hub, a directory, `NAME@REVISION`, or `bundled`.

    Raises:
        UserError: If there is none.
    """
    with _loading(backbone) as (name, source):
        config = AutoConfig.from_pretrained(name, **source, trust_remote_code=False)
    if "/" in str(config._attn_implementation):
        raise UserError(
            f"--backbone {backbone}: its config.json asks for the attention kernel "
            f"{config._attn_implementation}, code from the hub, which mtl does not run; remove "
            "attn_implementation from that file"
        )
    return config


class BackboneModule(Bypassable):
    """A module that contains a pretrained backbone.

    Attributes:
        new_parameters: Parameters of the backbone that its checkpoint lacks, such as a pooling
            layer. They are initialized randomly, so they are saved even if the backbone is frozen.
    """

    new_parameters: Sequence[nn.Parameter]


def load_encoder(
    backbone: str, pretrained: bool = True, pooler: bool = False
) -> tuple[PreTrainedModel, list[nn.Parameter]]:
    """Loads a backbone without a head, in training mode.

    Args:
        backbone: Name on the hub, a directory, `NAME@REVISION`, or `bundled`.
        pretrained: Whether to load the weights; they are random if not.
        pooler: Whether to keep the backbone's pooling layer (BERT's dense layer and tanh on the
            first token).

    Returns:
        The model, and its parameters that the checkpoint lacks: those of a pooling layer.

    Raises:
        UserError: If there is no such model, it cannot be loaded, or it has no pooling layer to
            keep.
    """
    config = load_config(backbone)
    check_architecture(backbone, config)
    # An unused pooling layer would be in every checkpoint, and DDP would have to search for unused
    # parameters.
    can_pool = has_pooler(config.model_type)
    options: dict[str, Any] = {"add_pooling_layer": pooler} if can_pool else {}
    if pooler:
        choose_pooling(backbone, "pooler", config)
    if pooler and not can_pool:
        raise UserError(
            f"--backbone {backbone}: {config.model_type} has no pooling layer; "
            "choose --model.pooling cls or mean"
        )
    with _loading(backbone) as (name, source):
        if not pretrained or _weights_skipped.get():
            return AutoModel.from_config(config, **FP32, **options).train(), []
        with quiet():
            model, report = AutoModel.from_pretrained(
                name, **source, output_loading_info=True, **SAFE, **FP32, **options
            )
    check_complete(
        backbone, [key for key in report["missing_keys"] if not key.startswith("pooler.")]
    )
    check_weights(backbone, model, report["unexpected_keys"])
    new_parameters: list[nn.Parameter] = []
    if pooler and report["missing_keys"]:
        rank_zero_warn(
            f"--backbone {backbone}: its checkpoint has no pooling layer; initialized randomly"
        )
        new_parameters = list(model.pooler.parameters())
    # `from_pretrained` returns a model in evaluation mode, and Lightning keeps it: no dropout.
    return model.train(), new_parameters


def language_model_class(config: PretrainedConfig) -> Any:
    """The class of transformers for a masked language model, or for a causal one."""
    return AutoModelForCausalLM if is_causal(config) else AutoModelForMaskedLM


def load_language_model(backbone: str, new_head: bool = False) -> PreTrainedModel:
    """Loads a backbone with its head for masked or causal language modelling, in training mode.

    Args:
        backbone: Name on the hub, a directory, `NAME@REVISION`, or `bundled`.
        new_head: Whether a head that is missing in the checkpoint may be initialized randomly.

    Raises:
        UserError: If there is no such model, no such head, or the last layer of the head does not
            have one row per word of the vocabulary.
    """
    config = load_config(backbone)
    check_architecture(backbone, config)
    if has_bounded_logits(config):
        raise UserError(
            f"--backbone {backbone}: unsupported language-model head: {config.model_type} bounds "
            "its logits (final_logit_softcapping). Choose another method, such as MultiHead"
        )
    auto_class = language_model_class(config)
    if _weights_skipped.get():
        return auto_class.from_config(config, **FP32).train()
    with _loading(backbone) as (name, source), quiet():
        model, report = auto_class.from_pretrained(
            name, **source, output_loading_info=True, **SAFE, **FP32
        )
    missing = sorted(report["missing_keys"])
    check_complete(
        backbone, [key for key in missing if key.startswith(f"{model.base_model_prefix}.")]
    )
    if missing and not new_head:
        raise UserError(
            f"--backbone {backbone}: the language-model head of its checkpoint is incomplete "
            f"({missing[0]} is missing); choose a masked or causal language model, or initialize "
            "the head randomly with --model.new_head true"
        )
    check_weights(backbone, model, report["unexpected_keys"])
    decoder = model.get_output_embeddings()
    if decoder is None or decoder.weight.shape[0] != model.config.vocab_size:
        raise UserError(
            f"--backbone {backbone}: unsupported language-model head: {model.config.model_type}. "
            "Supported: heads whose last layer has one row per word of the vocabulary."
        )
    return model.train()


def checkpoint_layers(model: PreTrainedModel, context: Callable[[], Any]) -> None:
    """Enables gradient checkpointing: layers are recomputed in the backward pass.

    Args:
        model: The model.
        context: Returns the context managers of the first computation and of the recomputation.
    """
    # `gradient_checkpointing_enable` is the name before transformers 6.
    enable = (
        getattr(model, "activation_checkpointing_enable", None)
        or model.gradient_checkpointing_enable
    )
    enable({"use_reentrant": False, "context_fn": context})


@contextmanager
def without_weights() -> Iterator[None]:
    """Context manager: build models from their configuration only, without loading weights."""
    token = _weights_skipped.set(True)
    try:
        yield
    finally:
        _weights_skipped.reset(token)


@contextmanager
def quiet() -> Iterator[None]:
    """Context manager: disable transformers' progress bar and its report of unused weights."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


@contextmanager
def _loading(backbone: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Context manager: yields a name and where to load it from; errors become a `UserError`."""
    source: dict[str, Any] = {"revision": "main"}
    unreachable = None
    local = Path(bundled_encoder()) if backbone == BUNDLED else expand_path(backbone)
    if local.exists():
        check_folder(backbone, local)
        name = str(local)
    else:
        name, _, revision = backbone.partition("@")
        # Without this question every file of a model is tried for 40 seconds.
        unreachable = cached_hub_error()
        source = {"revision": revision or "main", "local_files_only": unreachable is not None}
    try:
        yield name, source
    except (OSError, ValueError, RuntimeError, UnpicklingError, SafetensorError) as error:
        raise loading_error(backbone, local, error, unreachable) from error
