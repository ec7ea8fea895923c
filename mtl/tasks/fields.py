"""The parts of a task: where its examples come from, its splits, its prompt."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from mtl.bounds import Count, check_bounds
from mtl.errors import UserError, reject_unknown

Format = Literal["plain", "glue", "lmbff", "mft", "cs224n"]


@dataclass(frozen=True)
class Source:
    """Where a task's examples come from: a data set on the hub, or local files.

    Args:
        hub: Name of a data set on the Hugging Face hub, or a local directory in the hub's layout.
        config: The hub data set's configuration, such as `cola` of `nyu-mll/glue`.
        revision: The hub data set's branch, tag or commit, to pin what is read.
        path: Local folder with one file per split; a relative path is relative to the task's YAML
            file.
        format: Layout of local text files. `plain`: .jsonl, .csv, .tsv (each also .gz) or .parquet,
            columns by name. `glue`: the .tsv files of the official GLUE download. `lmbff`: a k-shot
            folder of LM-BFF. `mft`: text, domain and label separated by tabs, quoted as in CSV.
            `cs224n`: the course's tab-separated .csv. .jsonl and .parquet files name their columns
            themselves and are read the same way in every format.
        files: File name of a split if it is not the split's own name, such as `{validation:
            dev_set.csv}`.
        folder: Folder under `--data.root`; default: the task's name. Case and punctuation do not
            matter.
        columns: The source's name of a column if it differs from the task's, such as `{sentence:
            text}`.
        labels: The class that a value of the label column stands for, if it is neither a class name
            nor a class index.
        where: Use only examples with these values, such as `{genre: fiction}`.
        marks: For a text column the two columns with the start and the end of a part of it, such
            as `{sentence: [start, end]}`, in characters. The part is put between asterisks.
    """

    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    path: str | None = None
    format: Format = "plain"
    files: dict[str, str] = field(default_factory=dict)
    folder: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    where: dict[str, str] = field(default_factory=dict)
    marks: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.hub and self.path:
            raise ValueError(f"give hub ({self.hub!r}) or path ({self.path!r}), not both")
        if self.revision and not self.hub:
            raise ValueError("source.revision has no effect without source.hub; remove it")
        if self.config and not self.hub and self.format != "glue":
            raise ValueError(
                "source.config has no effect without source.hub, or `format: glue`; remove it"
            )

    def check(self, splits: Sequence[str], columns: Sequence[str], texts: Sequence[str]) -> None:
        """Checks that every name is one that the task reads.

        Args:
            splits: Names of the task's splits.
            columns: The task's text and label columns.
            texts: The text columns that may have marks.

        Raises:
            UserError: If an entry of `files` or `columns` would have no effect, or a column of the
                file would be read twice.
        """
        reject_unknown("source.files", "split", self.files, splits)
        ends = [column for pair in self.marks.values() for column in pair]
        reject_unknown("source.columns", "column", self.columns, [*columns, *self.where, *ends])
        reject_unknown("source.marks", "text column", self.marks, texts)
        used = [self.columns.get(name, name) for name in dict.fromkeys(columns)]
        if twice := [name for name in used if used.count(name) > 1]:
            raise UserError(
                f"source.columns: the column {twice[0]!r} of the file would be read twice; each "
                "column is either a text or the label"
            )


@dataclass(frozen=True)
class Splits:
    """Names of a task's splits in its source.

    Args:
        train: The split to train on.
        validation: The splits that select the best checkpoint; MNLI has two.
        test: The splits that `mtl test` scores; they need labels.
        predict: The splits that `mtl predict` writes predictions for; default: those of `test`.
    """

    train: str = "train"
    validation: list[str] = field(default_factory=lambda: ["validation"])
    test: list[str] = field(default_factory=lambda: ["test"])
    predict: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.predict:
            object.__setattr__(self, "predict", self.test)

    @property
    def names(self) -> list[str]:
        """The names of all splits, each once."""
        return list(dict.fromkeys([self.train, *self.validation, *self.test, *self.predict]))


@dataclass(frozen=True)
class Prompt:
    """A cloze prompt, for methods that predict a masked word.

    Args:
        template: Text with the task's columns in braces and one `{mask}`, such as `"{sentence} It
            was {mask}."`; `{premise-}` drops a final punctuation mark, `{hypothesis:lower}` makes
            the first letter lower case. Or in LM-BFF's notation,
            `"*cls**sent_0*_It_was*mask*.*sep+*"`.
        words: The word that stands for each class; for regression, the words for the `low` and the
            `high` end.
        limits: Maximum length of a column's text in tokens, such as `{sentence: 110}`.
        max_length: Maximum length of an example in tokens, instead of `--data.max_length`.
        exact: Whether `{premise-}` drops the last character whatever it is, as LM-BFF's release
            does. If not, it drops a final punctuation mark and the white space after it.
    """

    template: str
    words: dict[str, str]
    limits: dict[str, Count] = field(default_factory=dict)
    max_length: Count | None = None
    exact: bool = False

    def check(self, texts: Sequence[str], words: Sequence[str]) -> None:
        """Checks the prompt against its task.

        Args:
            texts: The task's text columns.
            words: The keys that `words` must have.

        Raises:
            UserError: If the template or a limit names an unknown column.
            ValueError: If the prompt does not fit the task.
        """
        check_bounds(Prompt, vars(self), "prompt.")
        if not self.template.startswith("*"):  # LM-BFF's notation is checked by `tasks/prompts.py`
            names = re.findall(r"{([^}]*)}", self.template)
            if names.count("mask") != 1:
                raise ValueError(f"prompt.template {self.template!r}: write {{mask}} exactly once")
            columns = [re.sub(r"-?(:lower)?$", "", name) for name in names if name != "mask"]
            reject_unknown("prompt.template", "text column", columns, texts)
        reject_unknown("prompt.limits", "text column", self.limits, texts)
        if sorted(self.words) != sorted(words):
            raise ValueError(
                f"prompt.words: give a word for each of {list(words)}, not for {list(self.words)}"
            )
