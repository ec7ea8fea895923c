"""Prints examples as a masked language model receives them.

Ids, tokens, position of the mask, label words.
"""

from collections import Counter
from itertools import islice
from pathlib import Path

import yaml
from jsonargparse import auto_cli

from mtl.data.checks import checked_examples
from mtl.data.sources import open_split
from mtl.modules.backbone import load_tokenizer
from mtl.tasks import Task
from mtl.tasks.prompts import fill_template, label_word_ids
from mtl.tasks.templates import parse_template


def main(
    backbone: str = "roberta-large",
    suite: Path = Path("configs/suites/lmbff.yaml"),
    root: Path | None = None,
    examples: int = 2,
    max_length: int = 128,
) -> None:
    """Prints the first training examples of each task.

    Args:
        backbone: Model whose tokenizer is used.
        suite: File that lists the tasks.
        root: Folder of the tasks' data. Default: the tasks' own sources.
        examples: Examples of each task.
        max_length: Maximum length in tokens.
    """
    tokenizer = load_tokenizer(backbone)
    for name in yaml.safe_load(suite.read_text(encoding="utf-8"))["tasks"]:
        task = Task.read(suite.parent / name)
        words = tokenizer.convert_ids_to_tokens(label_word_ids(task, tokenizer))
        print(f"\n{task.name}: {dict(zip(task.kind.prompt_words, words, strict=True))}")
        split = open_split(task, task.splits.train, root)
        length = (task.prompt and task.prompt.max_length) or max_length
        for example in islice(checked_examples(task, split, Counter()), examples):
            ids, segments, mask, cut = fill_template(
                task, parse_template(task), example.texts, tokenizer, length
            )
            truncated = ", truncated" if cut else ""
            pair = f", segments {segments}" if any(segments) else ""
            print(f"  {' | '.join(example.texts)}")
            print(f"    {' '.join(tokenizer.convert_ids_to_tokens(ids))}")
            print(f"    {ids} mask at {mask}{truncated}{pair}")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
