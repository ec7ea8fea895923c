"""Checks of pretrained models that would otherwise train to nothing, or fail within a step."""

from collections.abc import Sequence
from typing import Literal

from lightning.pytorch.utilities import rank_zero_info
from tokenizers import processors
from transformers import PretrainedConfig, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from mtl.errors import UserError
from mtl.modules.family_table import BIDIRECTIONAL, OFFSET_POSITIONS

Pooling = Literal["cls", "mean", "pooler", "last"]


def is_causal(config: PretrainedConfig) -> bool:
    """Whether a model's tokens attend to earlier tokens only, so that the first knows nothing."""
    if getattr(config, "is_decoder", False):
        return True
    causal = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES) - set(MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    return config.model_type in causal - BIDIRECTIONAL


def has_bounded_logits(config: PretrainedConfig) -> bool:
    """Whether the language-model head bounds its logits, as Gemma 2's does."""
    return bool(getattr(config, "final_logit_softcapping", None))


def position_limit(config: PretrainedConfig) -> int | None:
    """The longest input in tokens; None if positions are relative or computed.

    Args:
        config: The backbone's configuration.
    """
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit < 1 or _has_relative_positions(config):
        return None
    offset = int(config.pad_token_id or 0) + 1 if config.model_type in OFFSET_POSITIONS else 0
    return limit - offset


def _has_relative_positions(config: PretrainedConfig) -> bool:
    if any("rope" in name for name in vars(config)):
        return True
    biased = getattr(config, "position_biased_input", True)  # DeBERTa
    return getattr(config, "relative_attention", False) and not biased


def check_architecture(backbone: str, config: PretrainedConfig) -> None:
    """Refuses models that need a second input.

    Raises:
        UserError: If it has an encoder and a decoder, or reads other data than text.
    """
    if not isinstance(getattr(config, "hidden_size", None), int):
        raise UserError(
            f"--backbone {backbone}: unsupported: {config.model_type} reads other data than text. "
            "Supported: models of texts, such as gemma3_text instead of gemma3."
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"--backbone {backbone}: unsupported: {config.model_type} has an encoder and a "
            "decoder. Supported: encoders and causal models."
        )


def check_tokenizer(
    backbone: str, tokenizer: PreTrainedTokenizerFast, config: PretrainedConfig
) -> None:
    """Checks that the tokenizer knows words, that the model has their embeddings, and pads.

    Without a padding token, the end-of-text token pads: the attention mask hides it.

    Raises:
        UserError: If a check fails.
    """
    vocabulary = tokenizer.get_vocab()
    if len(vocabulary.keys() - set(tokenizer.all_special_tokens)) == 0:
        raise UserError(
            f"--backbone {backbone}: has no tokenizer: its vocabulary holds special tokens only; "
            "save tokenizer.json next to the model"
        )
    size = getattr(config, "vocab_size", None)
    if size is not None and (largest := max(vocabulary.values())) >= size:
        raise UserError(
            f"--backbone {backbone}: the model has {size:,} word embeddings, but its tokenizer "
            f"has token ids up to {largest:,}; save the tokenizer that belongs to the model, or "
            "resize the model's embeddings"
        )
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise UserError(
                f"--backbone {backbone}: its tokenizer has neither a padding token nor an "
                "end-of-text token; add one to its tokenizer_config.json"
            )
        tokenizer.pad_token = tokenizer.eos_token
        rank_zero_info(
            f"--backbone {backbone}: its tokenizer has no padding token; {tokenizer.eos_token!r}, "
            "the end-of-text token, pads"
        )


def separate_texts(backbone: str, tokenizer: PreTrainedTokenizerFast) -> None:
    """Puts the end-of-text token between the texts of a pair if the tokenizer puts nothing there.

    The tokenizers of most decoders (Qwen, GPT-2) would otherwise join the last word of the first
    text and the first word of the second.

    Args:
        backbone: The backbone's name.
        tokenizer: Its tokenizer, which is changed.
    """
    end = tokenizer.eos_token
    if end is None or tokenizer.num_special_tokens_to_add(pair=True):
        return
    backend = tokenizer.backend_tokenizer
    template = processors.TemplateProcessing(
        single="$A", pair=f"$A {end} $B:1", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    before = [backend.post_processor] if backend.post_processor else []
    backend.post_processor = processors.Sequence([*before, template])
    rank_zero_info(
        f"--backbone {backbone}: its tokenizer does not separate two texts; {end!r}, the "
        "end-of-text token, does"
    )


def check_complete(backbone: str, missing: Sequence[str]) -> None:
    """Checks that the checkpoint has all weights of the model.

    Args:
        backbone: The backbone's name.
        missing: Names of the weights that it lacks, other than those of a new layer.

    Raises:
        UserError: If one is missing.
    """
    if missing:
        shown = ", ".join(sorted(missing)[:3])
        raise UserError(
            f"--backbone {backbone}: its checkpoint lacks {len(missing)} weights of the model: "
            f"{shown}{', ...' if len(missing) > 3 else ''}; save the complete model, or correct "
            "its config.json"
        )


def choose_pooling(backbone: str, pooling: Pooling | None, config: PretrainedConfig) -> Pooling:
    """The way to pool: `last` for causal models and `cls` for others if none is given.

    Raises:
        UserError: If a causal model would be pooled at its first token, which sees no other.
    """
    if not is_causal(config):
        return pooling or "cls"
    if pooling in ("cls", "pooler"):
        raise UserError(
            f"--model.pooling {pooling}: {backbone} is a causal model ({config.model_type}), whose "
            "first token sees no other; choose --model.pooling last or mean"
        )
    return pooling or "last"
