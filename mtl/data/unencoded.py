"""Reads splits without encoding them, for checks of the data."""

from collections import Counter
from pathlib import Path

import numpy as np

from mtl.data.augmentation import Augmentation
from mtl.data.checks import Example, checked_examples
from mtl.data.encoded_files import encoded_path
from mtl.data.encoded_split import EncodedSplit
from mtl.data.sources import Split, open_split
from mtl.data.split_examples import Report, SplitExamples, UnencodedSplit, text_hash
from mtl.data.splits import SplitOpener
from mtl.tasks import Task

# Splits that were read, by task, source, split and root.
Memory = dict[tuple[str, str, str, str, bool], SplitExamples]

# At least as many examples of a longer split are kept, at equal distances.
SAMPLE = 200


class UnencodedOpener:
    """Opens splits as a `SplitOpener` does, but encodes nothing.

    Args:
        opener: Its encoded files are used if they exist, which is faster than reading the source.
            None: the source is read.
        memory: Splits that were read already.
    """

    def __init__(self, opener: SplitOpener | None, memory: Memory | None = None) -> None:
        self.settings = opener and opener.settings
        self.memory = {} if memory is None else memory

    def open(
        self,
        task: Task,
        split: str,
        root: Path | None,
        labelled: bool = True,
        augmentation: Augmentation | None = None,
    ) -> SplitExamples:
        """The examples of a split, without those that augmentation adds.

        Raises:
            UserError: If examples cannot be read or used.
        """
        key = (task.name, str(task.source), split, str(root), labelled)
        if key not in self.memory:
            self.memory[key] = self._read(task, open_split(task, split, root), split, labelled)
        return self.memory[key]

    def _read(self, task: Task, source: Split, split: str, labelled: bool) -> SplitExamples:
        if self.settings:
            path = encoded_path(
                task, split, source, labelled=labelled, augmentation=None, **self.settings
            )
            if path.exists():
                return EncodedSplit(path)
        return read_split(task, source, labelled)


def read_split(task: Task, source: Split, labelled: bool = True) -> UnencodedSplit:
    """Reads a split.

    Raises:
        UserError: If examples cannot be read or used.
    """
    dropped: Counter[str] = Counter()
    labels, numbers, texts = [], [], []
    sample, step = list[Example](), 1
    for count, example in enumerate(checked_examples(task, source, dropped, labelled)):
        if count % step == 0:
            sample.append(example)
        if len(sample) == 2 * SAMPLE:
            sample, step = sample[::2], 2 * step
        labels.append(example.label)
        numbers.append(example.number)
        texts.append(text_hash(example.texts))
    report = Report(source.where, source.fingerprint, len(labels), 0, 0, dict(dropped))
    return UnencodedSplit(
        report,
        task.kind.label_array(labels),
        np.asarray(numbers, np.int64),
        np.asarray(texts, np.int64),
        sample,
    )
