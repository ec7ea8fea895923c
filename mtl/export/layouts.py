"""Names of the layers in the classifiers of transformers, by family of backbones."""

from typing import NamedTuple


class Layout(NamedTuple):
    """Names of the layers in the classifier of a model family.

    Attributes:
        dense: The dense layer applied to the pooled vector.
        out: The linear layer that computes the logits.
        activation: The non-linearity between them.
    """

    dense: str
    out: str
    activation: str


_ROBERTA = Layout("classifier.dense", "classifier.out_proj", "tanh")
# `AutoModelForSequenceClassification`
CLASSIFIERS = {
    "albert": Layout("albert.pooler", "classifier", "tanh"),
    "bert": Layout("bert.pooler.dense", "classifier", "tanh"),
    "camembert": _ROBERTA,
    "data2vec-text": _ROBERTA,
    "deberta": Layout("pooler.dense", "classifier", "gelu"),
    "deberta-v2": Layout("pooler.dense", "classifier", "gelu"),
    "distilbert": Layout("pre_classifier", "classifier", "relu"),
    "electra": Layout("classifier.dense", "classifier.out_proj", "gelu"),
    "ernie": Layout("ernie.pooler.dense", "classifier", "tanh"),
    "modernbert": Layout("head.dense", "classifier", "linear"),
    "mpnet": _ROBERTA,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "xlm-roberta-xl": _ROBERTA,
}

_ROBERTA_POOLER = Layout("roberta.pooler.dense", "classifier", "tanh")
# `AutoModelForMultipleChoice`: families that pool with the layer of their `AutoModel`, and ELECTRA,
# have other names than in `CLASSIFIERS`. transformers has no such class for DeBERTa (version 1).
MULTIPLE_CHOICE = {
    **{name: layout for name, layout in CLASSIFIERS.items() if name != "deberta"},
    "camembert": _ROBERTA_POOLER,
    "data2vec-text": Layout("data2vec_text.pooler.dense", "classifier", "tanh"),
    "electra": Layout("sequence_summary.summary", "classifier", "gelu"),
    "mpnet": Layout("mpnet.pooler.dense", "classifier", "tanh"),
    "roberta": _ROBERTA_POOLER,
    "xlm-roberta": _ROBERTA_POOLER,
    "xlm-roberta-xl": _ROBERTA_POOLER,
}
