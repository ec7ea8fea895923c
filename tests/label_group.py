"""A label group: a class, a number, several classes and words' tags of the same texts."""

import json
import random
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import WORDS

FIELDS: dict[str, Any] = {
    "source": {"path": "data"},
    "texts": ["words"],
    "tasks": {
        "topic": {"label": "topic", "classes": ["cat", "dog", "other"]},
        "urgency": {"label": "urgency", "range": [0, 5]},
        "tags": {"labels": "tags", "classes": ["refund", "legal"]},
        "entities": {"tokens": "words", "label": "entities", "classes": ["colour", "animal"]},
    },
}
TYPES = dict.fromkeys(("red", "green", "blue"), "B-colour") | dict.fromkeys(
    ("cat", "dog"), "B-animal"
)


def write_label_group(folder: Path) -> Path:
    """Writes a task file with four tasks on one text, and its data; every task lacks some labels.

    Args:
        folder: The folder of the task file.
    """
    draw = random.Random(0)
    (folder / "data").mkdir()
    for split, count in (("train", 30), ("validation", 10), ("test", 10)):
        rows = []
        for row in range(count):
            words = draw.choices(WORDS, k=draw.randint(2, 12))
            rows.append(
                {
                    "words": words,
                    "topic": ["cat", "dog", "other", None][row % 4],
                    "urgency": None if row % 5 == 0 else row % 6,
                    "tags": None if row % 7 == 3 else [["refund"], [], ["legal"]][row % 3],
                    "entities": None if row % 3 == 1 else [TYPES.get(word, "O") for word in words],
                }
            )
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "data" / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    path = folder / "support.yaml"
    path.write_text(yaml.safe_dump(FIELDS, sort_keys=False), encoding="utf-8")
    return path
