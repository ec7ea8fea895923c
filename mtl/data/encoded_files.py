"""Encodes the splits of tasks into files, which later runs use again."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from mtl.data.augmentation import Augmentation
from mtl.data.checks import checked_examples
from mtl.data.encoded_writing import write_encoded_split
from mtl.data.encoding import Encoding
from mtl.data.sources import Split, open_split
from mtl.tasks import Task
from mtl.training.run_folder import atomic_output

# Raise when files of the same examples differ from those before, so that old files are ignored.
FORMAT = 8
# Fields of a task on which its encoded examples do not depend; the encoding's key has the prompt.
IRRELEVANT_FIELDS = (
    "prompt",
    "metrics",
    "thresholds",
    "splits",
    "version",
    "licence",
)


def encode(
    task: Task,
    split: str,
    *,
    tokenizer: PreTrainedTokenizerFast,
    encoding: Encoding,
    max_length: int,
    cache: Path,
    root: Path | None = None,
    labelled: bool = True,
    augmentation: Augmentation | None = None,
    seed: int = 0,
    others: Sequence[Task] = (),
) -> Path:
    """Tokenizes a task's split, unless it is in the cache.

    Args:
        task: The task.
        split: Name of the split in the task's source.
        tokenizer: The backbone's tokenizer.
        encoding: How examples become token ids.
        max_length: Maximum length of an example in tokens; longer ones are truncated.
        cache: Folder of the encoded files. A file's name is a hash of tokenizer, task, examples and
            maximum length.
        root: Folder whose sub-folders hold the tasks' files, instead of the tasks' sources.
        labelled: Whether every example needs a label.
        augmentation: Which copies are added to the examples.
        seed: Seed of the augmentation.
        others: The other tasks of the label group, whose labels are stored too.

    Returns:
        The file, for `EncodedSplit`.

    Raises:
        UserError: If examples cannot be read or used.
    """
    source = open_split(task, split, root)
    path = encoded_path(
        task,
        split,
        source,
        tokenizer=tokenizer,
        encoding=encoding,
        max_length=max_length,
        cache=cache,
        labelled=labelled,
        augmentation=augmentation,
        seed=seed,
        others=others,
    )
    if path.exists():
        return path

    dropped: Counter[str] = Counter()
    tasks = [task, *others]
    examples = checked_examples(tasks if others else task, source, dropped, labelled)
    if augmentation:
        examples = augmentation.augmented(examples, seed)
    encode_chunk = partial(encoding, tokenizer, task, max_length=max_length)
    with atomic_output(path) as temporary:
        write_encoded_split(
            temporary, examples, source, dropped, encode_chunk, [each.kind for each in tasks]
        )
    return path


def encoded_path(
    task: Task,
    split: str,
    source: Split,
    *,
    tokenizer: PreTrainedTokenizerFast,
    encoding: Encoding,
    max_length: int,
    cache: Path,
    labelled: bool,
    augmentation: Augmentation | None,
    seed: int,
    others: Sequence[Task] = (),
) -> Path:
    """The file that `encode` writes for the split `source`; the arguments are those of `encode`."""
    fields = _relevant_fields(task)
    key = [
        FORMAT,
        tokenizer_digest(tokenizer),
        encoding.key(task),
        max_length,
        fields,
        source.fingerprint,
        labelled,
    ]
    key += [[asdict(augmentation), seed]] if augmentation else []
    key += [[_relevant_fields(other) for other in others]] if others else []
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    return cache / f"{task.name}-{split}-{name}.arrow"


def _relevant_fields(task: Task) -> dict[str, Any]:
    return {name: value for name, value in asdict(task).items() if name not in IRRELEVANT_FIELDS}


@lru_cache(maxsize=4)
def tokenizer_digest(tokenizer: PreTrainedTokenizerFast) -> str:
    """Identifies the tokenizer's definition without truncation and padding, as its last call set.

    Kept for each tokenizer, because writing a vocabulary takes longer than opening a split.
    """
    settings: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    settings |= {"truncation": None, "padding": None}
    settings |= {"mask_token": None} if tokenizer.mask_token is None else {}  # other prompts
    return hashlib.sha256(json.dumps(settings).encode()).hexdigest()
