"""Fixtures: tiny random encoders of several families, a small tokenizer, three toy tasks."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import settings
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    RobertaConfig,
)

from mtl.tasks import Task
from tests.comparison_fixtures import finished, table

__all__ = ["finished", "table"]

# A test does not depend on the speed of the machine.
settings.register_profile("any speed", deadline=None)
settings.load_profile("any speed")

WORDS = (
    "the a cat dog house sees likes good bad red green blue film food was is not very it and train "
    "slow quick"
).split()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
FAMILIES: dict[str, Callable[[int], PretrainedConfig]] = {
    "bert": lambda vocabulary: BertConfig(
        vocab_size=vocabulary, max_position_embeddings=64, **SMALL
    ),
    "roberta": lambda vocabulary: RobertaConfig(
        vocab_size=vocabulary, max_position_embeddings=66, pad_token_id=0, **SMALL
    ),
    "electra": lambda vocabulary: ElectraConfig(
        vocab_size=vocabulary, max_position_embeddings=64, embedding_size=16, **SMALL
    ),
    "deberta": lambda vocabulary: DebertaV2Config(
        vocab_size=vocabulary, max_position_embeddings=64, **SMALL
    ),
    "distilbert": lambda vocabulary: DistilBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=64,
        dim=32,
        n_layers=2,
        n_heads=2,
        hidden_dim=48,
    ),
    "modernbert": lambda vocabulary: ModernBertConfig(
        vocab_size=vocabulary,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=3,
        cls_token_id=2,
        sep_token_id=3,
        **SMALL,
    ),
}
# Their tokenizer has neither special tokens in texts nor a padding token.
DECODERS: dict[str, Callable[[int], PretrainedConfig]] = {
    "gpt2": lambda vocabulary: GPT2Config(
        vocab_size=vocabulary, n_positions=64, n_embd=32, n_layer=2, n_head=2, n_inner=48
    ),
    "qwen3": lambda vocabulary: Qwen3Config(
        vocab_size=vocabulary, num_key_value_heads=1, head_dim=16, **SMALL
    ),
}


def save_backbone(family: str, folder: Path, masked: bool = False) -> Path:
    """Saves a random encoder or decoder (two layers, width 32) in the hub's layout.

    Args:
        family: A key of `FAMILIES` or `DECODERS`.
        folder: Where to save it.
        masked: Whether it has a masked-LM head.
    """
    tokenizer = Tokenizer(
        models.WordLevel(
            {word: index for index, word in enumerate(SPECIAL + WORDS)}, unk_token="[UNK]"
        )
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if family not in DECODERS:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
        )
    names = dict(
        zip(
            ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True
        )
    )
    if family in DECODERS:
        names = {"unk_token": "[UNK]", "eos_token": "[SEP]"}
    inputs = ["input_ids", "attention_mask"] + (
        ["token_type_ids"] if family in ("bert", "electra", "deberta") else []
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=inputs, **names
    ).save_pretrained(folder)
    torch.manual_seed(0)
    encoder = AutoModelForMaskedLM if masked else AutoModel
    make = AutoModelForCausalLM if family in DECODERS else encoder
    make.from_config((FAMILIES | DECODERS)[family](len(SPECIAL + WORDS))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keeps the index of options out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and tools next to the checkout, or MTL_SHARED; skips without it."""
    folder = Path(os.environ.get("MTL_SHARED", Path(__file__).parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip("needs the folder shared/, or MTL_SHARED")
    return folder


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_backbone("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture(scope="session")
def masked_backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_backbone("bert", tmp_path_factory.mktemp("masked"), masked=True))


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data files of three toy tasks.

    `mood`: a sentence, two classes. `same`: a pair, three classes. `near`: a pair, from 0 to 5.
    """
    root, draw = tmp_path_factory.mktemp("rows"), random.Random(0)
    for split, count in (("train", 40), ("validation", 13), ("test", 11)):
        for task, header in (
            ("mood", "text,label"),
            ("same", "first,second,label"),
            ("near", "first,second,label"),
        ):
            lines = [header]
            for row in range(count + len(task)):
                texts = [
                    " ".join(draw.choices(WORDS, k=draw.randint(2, 9)))
                    for _ in range(header.count(","))
                ]
                label = {
                    "mood": ["bad", "good"][row % 2],
                    "same": str(row % 3),
                    "near": f"{row % 11 / 2}",
                }[task]
                lines.append(",".join([*texts, label]))
            (root / task).mkdir(exist_ok=True)
            (root / task / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def task_files(data_root: Path) -> list[Path]:
    tasks: list[dict[str, Any]] = [
        {
            "name": "mood",
            "texts": ["text"],
            "classes": ["bad", "good"],
            "prompt": {
                "template": "{text} it was {mask}.",
                "words": {"bad": "slow", "good": "quick"},
            },
        },
        {
            "name": "same",
            "texts": ["first", "second"],
            "classes": ["no", "maybe", "yes"],
            "metrics": ["accuracy", "f1"],
            "prompt": {
                "template": "{first} {mask} and {second}",
                "words": {"no": "red", "maybe": "green", "yes": "blue"},
            },
        },
        {
            "name": "near",
            "texts": ["first", "second"],
            "range": [0, 5],
            "prompt": {
                "template": "{first} {mask} and {second}",
                "words": {"low": "red", "high": "blue"},
            },
        },
    ]
    files = []
    for task in tasks:
        path = data_root / f"{task['name']}.yaml"
        path.write_text(yaml.safe_dump(task | {"source": {"path": str(task["name"])}}))
        files.append(path)
    return files


@pytest.fixture(scope="session")
def tasks(task_files: list[Path]) -> list[Task]:
    return [Task.read(path) for path in task_files]


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Changes to a temporary working directory, so that caches and runs are written there."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
