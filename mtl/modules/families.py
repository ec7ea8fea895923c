"""Families of backbones: the table of the names of their modules."""

from dataclasses import dataclass
from typing import Any

from mtl.errors import UserError


@dataclass(frozen=True)
class Family:
    """One family of pretrained encoders.

    Attributes:
        query_and_value: Last components of the names of the linear layers that compute queries and
            values.
        bert_layout: Whether the modules of a layer have the names that they have in BERT.
        pooler: Whether transformers' `AutoModel` takes `add_pooling_layer` for it.
    """

    query_and_value: tuple[str, ...] = ()
    bert_layout: bool = False
    pooler: bool = False


# Keys are the `model_type` of a transformers configuration.
FAMILIES = {
    "albert": Family(("query", "value"), pooler=True),
    "bert": Family(("query", "value"), bert_layout=True, pooler=True),
    "camembert": Family(("query", "value"), bert_layout=True, pooler=True),
    "data2vec-text": Family(pooler=True),
    "deberta-v2": Family(("query_proj", "value_proj")),
    "distilbert": Family(("q_lin", "v_lin")),
    "electra": Family(("query", "value"), bert_layout=True),
    "ernie": Family(pooler=True),
    "modernbert": Family(("Wqkv",)),
    "mpnet": Family(("q", "v")),
    "roberta": Family(("query", "value"), bert_layout=True, pooler=True),
    "xlm-roberta": Family(("query", "value"), bert_layout=True, pooler=True),
    "xlm-roberta-xl": Family(pooler=True),
}

BERT_LAYOUT = tuple(name for name, family in FAMILIES.items() if family.bert_layout)
WITH_POOLER = frozenset(name for name, family in FAMILIES.items() if family.pooler)


def family(model_type: str) -> Family:
    """Returns the family of a `model_type`; an empty family if it is not in the table."""
    return FAMILIES.get(model_type, Family())


def check_bert_layout(model_type: str, method: str) -> None:
    """Checks that a method can modify the layers of a family.

    Args:
        model_type: The `model_type` of the backbone's configuration.
        method: Name of the method, for the error message.

    Raises:
        UserError: If the layers do not have BERT's layout.
    """
    if model_type not in BERT_LAYOUT:
        raise UserError(
            f"{method}: unsupported backbone family: {model_type}. "
            f"Supported: {', '.join(BERT_LAYOUT)}."
        )


def bert_layers(backbone: Any, method: str) -> Any:
    """Returns the layers of a backbone with BERT's layout, a `ModuleList`.

    Args:
        backbone: The pretrained model.
        method: Name of the method, for the error message.

    Raises:
        UserError: If the backbone has another layout.
    """
    check_bert_layout(backbone.config.model_type, method)
    return backbone.encoder.layer
