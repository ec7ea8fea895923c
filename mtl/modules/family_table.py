"""The table of model families: the only place that knows the names of their modules.

Paths of modules are relative to transformers' model without a head (`AutoModel`), or to a layer.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True)
class ClassifierLayout:
    """The layers of a classifier of transformers after the encoder.

    Attributes:
        out: The linear layer that computes the logits.
        dense: The dense layer applied to the pooled vector before; None if there is none.
        activation: The non-linearity between them.
        norm: The normalization between them; None if there is none.
        reads: The ways to pool that the class can be configured for.
        bias: Whether `out` has a bias.
        settings: Entries of the configuration with which it has these layers.
        pooling_names: Values of the entry `classifier_pooling` by the way to pool, if there is one.
    """

    out: str = "classifier"
    dense: str | None = None
    activation: Literal["tanh", "relu", "gelu", "linear"] = "linear"
    norm: str | None = None
    reads: tuple[str, ...] = ("cls",)
    bias: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    pooling_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Family:
    """One family of pretrained models.

    Attributes:
        examples: Well-known models, for the documentation.
        layers: The list of layers. `*` stands for all children of a list.
        attention: In a layer: the self-attention, which receives hidden states and a mask.
        attention_projection: In a layer: the linear layer after the attention heads.
        attention_output: In a layer: the module whose output is added to the layer's input.
        feed_forward_output: In a layer: the module whose output is added to the feed-forward
            block's input.
        last_norm: In a layer: the normalization of the layer's output; None if the layer normalizes
            the inputs of its blocks instead.
        embeddings: The module whose output is the input of the first layer.
        query_and_value: Last components of the names of the linear layers that compute queries and
            values, the default targets of LoRA.
        attention_dropout: Entry of the configuration with the dropout of attention probabilities.
        pooler: Whether transformers' `AutoModel` takes `add_pooling_layer` for it.
        bert_layout: Whether a layer computes what BERT's does, with modules of the same names.
        shares_layers: Whether several layers have the same weights.
        packs: Whether it computes the same if examples are one row (`mtl.modules.packing`):
            positions can be given, and all tokens of an example are attended to.
        one_pass: Whether gradient surgery captures all of its parameters in one backward pass; else
            it runs one backward pass per task.
        classifier: Transformers' `...ForSequenceClassification`; None if mtl does not know it.
        choice: Its `...ForMultipleChoice`; None if there is none.
    """

    examples: str
    layers: str = "encoder.layer"
    attention: str = "attention"
    attention_projection: str = "attention.output.dense"
    attention_output: str = "attention.output.dropout"
    feed_forward_output: str = "output.dropout"
    last_norm: str | None = "output.LayerNorm"
    embeddings: str = "embeddings"
    query_and_value: tuple[str, ...] = ("query", "value")
    attention_dropout: str = "attention_probs_dropout_prob"
    pooler: bool = False
    bert_layout: bool = False
    shares_layers: bool = False
    packs: bool = False
    one_pass: bool = True
    classifier: ClassifierLayout | None = None
    choice: ClassifierLayout | None = None


def _bert(
    examples: str, classifier: ClassifierLayout, choice: ClassifierLayout, pooler: bool = True
) -> Family:
    return Family(
        examples,
        pooler=pooler,
        bert_layout=True,
        packs=True,
        classifier=classifier,
        choice=choice,
    )


def _pooled(dense: str) -> ClassifierLayout:
    """A classifier on the output of the encoder's pooling layer."""
    return ClassifierLayout(dense=dense, activation="tanh")


_TANH = ClassifierLayout("classifier.out_proj", "classifier.dense", "tanh")
_GELU = ClassifierLayout(
    dense="pooler.dense", activation="gelu", settings={"pooler_hidden_act": "gelu"}
)
_HEAD = ClassifierLayout(
    dense="head.dense",
    norm="head.norm",
    reads=("cls", "mean"),
    settings={"classifier_activation": "linear", "classifier_bias": True},
    pooling_names={"cls": "cls", "mean": "mean"},
)
_SUMMARY = ClassifierLayout(
    dense="sequence_summary.summary",
    activation="gelu",
    settings={
        "summary_type": "first",
        "summary_use_proj": True,
        "summary_activation": "gelu",
    },
)
_LLAMA = Family(
    "Llama 3.2",
    layers="layers",
    attention="self_attn",
    attention_projection="self_attn.o_proj",
    attention_output="self_attn.o_proj",
    feed_forward_output="mlp",
    last_norm=None,
    embeddings="embed_tokens",
    query_and_value=("q_proj", "v_proj"),
    attention_dropout="attention_dropout",
    packs=True,
    classifier=ClassifierLayout("score", reads=("last",), bias=False),
)
_GEMMA = replace(  # normalizes the outputs of its blocks as well; some layers attend to a window
    _LLAMA,
    packs=False,
    attention_output="post_attention_layernorm",
    feed_forward_output="post_feedforward_layernorm",
)
_MODERNBERT = Family(
    "ModernBERT, Ettin encoders, mmBERT",
    layers="layers",
    attention="attn",
    attention_projection="attn.Wo",
    attention_output="attn.out_drop",
    feed_forward_output="mlp",
    last_norm=None,
    query_and_value=("Wqkv",),
    attention_dropout="attention_dropout",
    classifier=_HEAD,
    choice=_HEAD,
)

# Keys are the `model_type` of a transformers configuration.
FAMILIES = {
    "albert": Family(
        "ALBERT",
        layers="encoder.albert_layer_groups.*.albert_layers",
        attention_projection="attention.dense",
        attention_output="attention.output_dropout",
        feed_forward_output="ffn_output",
        last_norm="full_layer_layer_norm",
        pooler=True,
        shares_layers=True,
        classifier=_pooled("albert.pooler"),
        choice=_pooled("albert.pooler"),
    ),
    "bert": _bert("BERT, MiniLM", _pooled("bert.pooler.dense"), _pooled("bert.pooler.dense")),
    "camembert": _bert("CamemBERT", _TANH, _pooled("roberta.pooler.dense")),
    "data2vec-text": _bert("data2vec", _TANH, _pooled("data2vec_text.pooler.dense")),
    "deberta": Family("DeBERTa", query_and_value=("in_proj",), one_pass=False, classifier=_GELU),
    "deberta-v2": Family(
        "DeBERTa-v2, DeBERTa-v3, mDeBERTa",
        query_and_value=("query_proj", "value_proj"),
        one_pass=False,
        classifier=_GELU,
        choice=_GELU,
    ),
    "distilbert": Family(
        "DistilBERT",
        layers="transformer.layer",
        attention_projection="attention.out_lin",
        attention_output="attention.out_lin",
        feed_forward_output="ffn.dropout",
        last_norm="output_layer_norm",
        query_and_value=("q_lin", "v_lin"),
        attention_dropout="attention_dropout",
        packs=True,
        classifier=ClassifierLayout(dense="pre_classifier", activation="relu"),
        choice=ClassifierLayout(dense="pre_classifier", activation="relu"),
    ),
    "electra": _bert(
        "ELECTRA",
        ClassifierLayout("classifier.out_proj", "classifier.dense", "gelu"),
        _SUMMARY,
        pooler=False,
    ),
    "ernie": _bert("ERNIE", _pooled("ernie.pooler.dense"), _pooled("ernie.pooler.dense")),
    "eurobert": replace(
        _LLAMA,
        examples="EuroBERT",
        classifier=ClassifierLayout(
            dense="dense",
            activation="gelu",
            reads=("cls", "mean"),
            pooling_names={"cls": "bos", "mean": "mean"},
        ),
    ),
    "gemma": replace(_LLAMA, examples="Gemma"),
    "gemma2": replace(_GEMMA, examples="Gemma 2"),
    "gemma3_text": replace(_GEMMA, examples="Gemma 3 (text only)"),
    "gpt2": Family(
        "GPT-2, DistilGPT-2",
        layers="h",
        attention="attn",
        attention_projection="attn.c_proj",
        attention_output="attn.resid_dropout",
        feed_forward_output="mlp.dropout",
        last_norm=None,
        embeddings="drop",
        query_and_value=("c_attn",),
        attention_dropout="attn_pdrop",
        classifier=_LLAMA.classifier,
    ),
    "llama": _LLAMA,
    "mistral": replace(_LLAMA, examples="Mistral", packs=False),  # attends to a window
    "modernbert": _MODERNBERT,
    "modernbert-decoder": replace(
        _MODERNBERT,
        examples="Ettin decoders",
        query_and_value=("q_proj", "v_proj"),
        classifier=replace(_HEAD, reads=("last",), pooling_names={}),
        choice=None,
    ),
    "mpnet": Family(
        "MPNet",
        attention_projection="attention.attn.o",
        attention_output="attention.dropout",
        query_and_value=("q", "v"),
        pooler=True,
        one_pass=False,
        classifier=_TANH,
        choice=_pooled("mpnet.pooler.dense"),
    ),
    "qwen2": replace(_LLAMA, examples="Qwen2, Qwen2.5"),
    "qwen3": replace(_LLAMA, examples="Qwen3"),
    "roberta": _bert("RoBERTa", _TANH, _pooled("roberta.pooler.dense")),
    "xlm-roberta": _bert("XLM-R", _TANH, _pooled("roberta.pooler.dense")),
    "xlm-roberta-xl": Family(
        "XLM-R XL",
        attention="attention.self",
        feed_forward_output="output.dense",
        last_norm=None,
        pooler=True,
        classifier=_TANH,
        choice=_pooled("roberta.pooler.dense"),
    ),
}

# What a method needs of a family, beyond being in the table.
REQUIREMENTS: dict[str, Callable[[Family], bool]] = {
    "CAMTL": lambda family: family.bert_layout,
    "TaskLayers": lambda family: not family.shares_layers,
}
# Models with a causal head whose encoder is bidirectional.
BIDIRECTIONAL = frozenset({"xlnet"})
# Families whose position embeddings begin after the padding token's: RoBERTa and its descendants.
OFFSET_POSITIONS = frozenset(
    "camembert data2vec-text esm ibert longformer luke mpnet roberta roberta-prelayernorm "
    "xlm-roberta xlm-roberta-xl xmod".split()
)
