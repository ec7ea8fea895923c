"""Random models of every family, as small as possible."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from mtl.modules.family_table import FAMILIES

SMALL: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 2,
    "eos_token_id": 3,
}
# Entries with other names, narrow embeddings, layers that share weights, attention to a window.
OTHERS: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 8, "num_hidden_groups": 1},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "electra": {"embedding_size": 8},
    "eurobert": {"mask_token_id": 4},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "mistral": {"sliding_window": 6},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "local_attention": 8},
    "modernbert-decoder": {"cls_token_id": 2, "sep_token_id": 3, "local_attention": 8},
}


def small_config(name: str, **options: Any) -> PretrainedConfig:
    """Configuration of a random model: two layers of width 16, a vocabulary of 40 words."""
    own = OTHERS.get(name, {})
    if FAMILIES[name].attention == "self_attn":  # Llama and its descendants
        own = own | {"num_key_value_heads": 1, "head_dim": 8}
    config: PretrainedConfig = AutoConfig.for_model(name, **(SMALL | own | options))
    return config
