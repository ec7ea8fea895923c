"""Pretrained models and their tokenizers: the one file that touches transformers' loading."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from mtl.errors import UserError
from mtl.modules.families import family


def load_tokenizer(backbone: str) -> PreTrainedTokenizerFast:
    """The backbone's tokenizer.

    Args:
        backbone: Name on the hub, or a directory, or `NAME@REVISION`.

    Raises:
        UserError: If there is none, or none that counts what it cuts (a "fast" one).
    """
    name, revision = _named(backbone)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(_absent(backbone, error)) from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(
            f"--backbone {backbone}: its tokenizer is slow; save a tokenizer.json beside the model"
        )
    return tokenizer


def load_config(backbone: str) -> PretrainedConfig:
    """The backbone's configuration.

    Raises:
        UserError: If there is none.
    """
    name, revision = _named(backbone)
    try:
        return AutoConfig.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(_absent(backbone, error)) from error


def load_encoder(backbone: str, pretrained: bool = True, pooler: bool = False) -> PreTrainedModel:
    """The backbone without a head.

    Args:
        backbone: Name on the hub, or a directory, or `NAME@REVISION`.
        pretrained: Whether to load its weights; where not, they are random.
        pooler: Whether to keep its own pooling layer (BERT's dense and tanh on the first token).

    Raises:
        UserError: If there is no such model, it cannot be loaded, or it has no pooling layer to keep.
    """
    name, revision = _named(backbone)
    config = load_config(backbone)
    # Weights that no output depends on would idle in every checkpoint, and DDP would have to look for them.
    optional = {"add_pooling_layer": pooler} if family(config.model_type).pooler else {}
    if pooler and not optional:
        raise UserError(
            f"--backbone {backbone}: {config.model_type} has no pooling layer; choose the pooling cls or mean"
        )
    try:
        if pretrained and not _bare.get():
            with quiet():
                model, found = AutoModel.from_pretrained(
                    name, revision=revision, output_loading_info=True, **optional
                )
            if pooler and any(key.startswith("pooler.") for key in found["missing_keys"]):
                rank_zero_warn(
                    f"--backbone {backbone}: its checkpoint has no pooling layer; one starts at random"
                )
                model.started_anew = list(
                    model.pooler.parameters()
                )  # so a frozen backbone's checkpoint keeps it
        else:
            model = AutoModel.from_config(config, **optional)
    except (OSError, ValueError) as error:
        raise UserError(_absent(backbone, error)) from error
    # `from_pretrained` leaves a model in evaluation mode, and Lightning keeps the mode that it finds: no dropout.
    return model.train()


def load_masked_lm(backbone: str, new_head: bool = False) -> PreTrainedModel:
    """The backbone with its masked-LM head.

    Args:
        backbone: Name on the hub, or a directory, or `NAME@REVISION`.
        new_head: Whether a head that the checkpoint lacks may start at random.

    Raises:
        UserError: If there is no such model, or no such head in it, or one whose last layer is not a row for each word.
    """
    name, revision = _named(backbone)
    if _bare.get():
        return AutoModelForMaskedLM.from_config(load_config(backbone)).train()
    try:
        with quiet():
            model, found = AutoModelForMaskedLM.from_pretrained(
                name, revision=revision, output_loading_info=True
            )
    except (OSError, ValueError) as error:
        raise UserError(_absent(backbone, error)) from error
    missing = sorted(found["missing_keys"])
    if missing and not new_head:
        raise UserError(
            f"--backbone {backbone}: its checkpoint has no whole masked-LM head ({missing[0]} is missing); choose a masked "
            "language model, or let the head start at random with --model.new_head true"
        )
    decoder = model.get_output_embeddings()
    if decoder is None or decoder.weight.shape[0] != model.config.vocab_size:
        raise UserError(
            f"--backbone {backbone}: the masked-LM head of {model.config.model_type} is of a kind that is not known"
        )
    return model.train()


def checkpoint_layers(model: PreTrainedModel, context: Callable[[], Any]) -> None:
    """Lets a model's layers be computed anew in the backward pass instead of keeping their activations.

    Args:
        model: The model.
        context: Gives the contexts of a layer's first and second computation.
    """
    # The older name goes with transformers 6.
    enable = (
        getattr(model, "activation_checkpointing_enable", None)
        or model.gradient_checkpointing_enable
    )
    enable({"use_reentrant": False, "context_fn": context})


_bare: ContextVar[bool] = ContextVar("bare", default=False)


@contextmanager
def without_weights() -> Iterator[None]:
    """Within, models are made of their configuration alone: all of their weights will come from elsewhere."""
    token = _bare.set(True)
    try:
        yield
    finally:
        _bare.reset(token)


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' report of weights that a headless encoder does not take, and its progress bar."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _named(backbone: str) -> tuple[str, str]:
    name, _, revision = (
        backbone.partition("@") if not Path(backbone).exists() else (backbone, "", "")
    )
    return name, revision or "main"


def _absent(backbone: str, error: Exception) -> str:
    return (
        f"--backbone {backbone}: cannot be loaded: {str(error).splitlines()[0]} "
        "Give a name on the hub, or a directory with config.json, model.safetensors and tokenizer.json."
    )
