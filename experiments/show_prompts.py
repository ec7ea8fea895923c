"""Prints tasks' rows as a masked language model gets them: ids, tokens, the mask's place, the label words."""

from collections import Counter
from itertools import islice
from pathlib import Path

import yaml
from jsonargparse import auto_cli

from mtl.data.checks import checked_examples
from mtl.data.sources import open_split
from mtl.modules.backbone import load_tokenizer
from mtl.tasks import Task
from mtl.tasks.prompts import filled, pieces, word_ids


def main(
    backbone: str = "roberta-large",
    suite: Path = Path("configs/suites/lmbff.yaml"),
    root: Path | None = None,
    rows: int = 2,
    max_length: int = 128,
) -> None:
    """Prints the first rows of each task's training split.

    Args:
        backbone: Whose tokenizer is used.
        suite: File that lists the tasks.
        root: Folder of the tasks' rows, in place of their own sources.
        rows: Rows of each task.
        max_length: Longest row in tokens.
    """
    tokenizer = load_tokenizer(backbone)
    for name in yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]:
        task = Task.read(suite.parent / name)
        words = word_ids(task, tokenizer)
        print(
            f"\n{task.name}: {dict(zip(task.classes or ('low', 'high'), tokenizer.convert_ids_to_tokens(words), strict=True))}"
        )
        split = open_split(task, task.splits.train, root)
        for row in islice(checked_examples(task, split, Counter()), rows):
            length = (task.prompt and task.prompt.max_length) or max_length
            ids, segments, mask, cut = filled(task, pieces(task), row.texts, tokenizer, length)
            print(f"  {' | '.join(row.texts)}")
            print(f"    {' '.join(tokenizer.convert_ids_to_tokens(ids))}")
            print(
                f"    {ids} mask at {mask}{', cut' if cut else ''}{'' if not any(segments) else f', segments {segments}'}"
            )


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
