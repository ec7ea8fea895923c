"""What the bundled encoder was trained on before: data that some tasks are made from.

all-MiniLM-L6-v2 is a sentence encoder, so scores on such tasks are not those of a plain pretrained
encoder. Source: its model card and `data_config.json`, in the package that holds its weights.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mtl.system.bundled_encoder import BUNDLED, BUNDLED_NAME
from mtl.tasks import Task


class SeenData(NamedTuple):
    """Data that the encoder was trained on.

    Attributes:
        about: What they are, for the warning.
        words: A task has them if a word of its name or of its source is one of these.
        names: A task has them if its complete name, or that of its source, is one of these.
    """

    about: str
    words: frozenset[str]
    names: frozenset[str] = frozenset()


SEEN = (
    SeenData("MultiNLI", frozenset({"mnli", "multinli"})),
    SeenData("SNLI", frozenset({"snli"})),
    SeenData("Quora's duplicate questions", frozenset({"qqp", "quora"})),
    SeenData("SQuAD, from which QNLI is made", frozenset({"qnli"})),
    # Its card does not name STS or SICK themselves.
    SeenData(
        "captions and duplicate questions, kinds of text that STS has too",
        frozenset({"sts", "stsb", "stsbenchmark"}),
    ),
    SeenData(
        "captions of pictures, like the sentences of SICK",
        frozenset(),
        frozenset({"sick", "sickentailment", "sickrelatedness"}),
    ),
)


ABOUT = (
    "the bundled encoder, all-MiniLM-L6-v2, is a sentence encoder that was fine-tuned on 1.17 "
    "billion pairs of texts, by its card among them {data}: scores of {tasks} are not those of a "
    "plain pretrained encoder"
)


def pretraining_note() -> str:
    """What the bundled encoder was trained on before, in one sentence."""
    data = "; ".join(seen.about for seen in SEEN)
    return ABOUT.format(data=data, tasks="MNLI, SNLI, QQP, QNLI, STS and SICK")


def pretraining_warning(backbone: str, tasks: Mapping[str, Task | None]) -> str:
    """The warning about a comparison whose encoder was trained on data of its tasks.

    Args:
        backbone: The encoder.
        tasks: The tasks by name; None if only the name is known, as in stored results.

    Returns:
        The warning; empty if the encoder is another one, or was trained on none of these.
    """
    if backbone.partition("@")[0] not in (BUNDLED, BUNDLED_NAME):
        return ""
    identifiers = {name: list(_identifiers(name, task)) for name, task in tasks.items()}
    found = {
        seen.about: [name for name, known in identifiers.items() if _is_from(seen, known)]
        for seen in SEEN
    }
    listed = [f"{about} ({', '.join(names)})" for about, names in found.items() if names]
    if not listed:
        return ""
    return ABOUT.format(data="; ".join(listed), tasks="these tasks")


def _identifiers(name: str, task: Task | None) -> Iterable[str]:
    """The names that tell a task's data: its own, and those of its source."""
    yield name
    if task:
        source = task.source
        for text in (source.hub, source.folder, source.path):
            yield (text or "").rstrip("/").rpartition("/")[2]
        # Of a configuration only the complete name counts: SciTail's is `snli_format`.
        yield _squeezed(source.config or "")


def _is_from(seen: SeenData, identifiers: Iterable[str]) -> bool:
    return any(
        _squeezed(text) in seen.words | seen.names
        or not seen.words.isdisjoint(re.split(r"[^a-z0-9]+", text.lower()))
        for text in identifiers
    )


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
