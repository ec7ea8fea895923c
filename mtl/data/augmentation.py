"""More training rows made of the rows there are."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mtl.data.checks import Example
from mtl.errors import UserError


@dataclass(frozen=True)
class Augmentation:
    """What a task's training rows are turned into beside themselves.

    Source: the CS224N project (specification C.8): pairs swapped, for Quora with probability 0.4, for STS always; of one
    sentiment sentence in a hundred a copy with three words replaced by a synonym.

    Args:
        swap: Share of the pairs of which a copy with the texts exchanged is added.
        synonyms: A file with a word, a tab and its synonym on each line; or `wordnet`, for the first synonym in nltk's.
        share: Share of the rows of which a copy with synonyms is added.
        words: Words of a copy that are replaced, as far as it has so many with a synonym.

    Raises:
        ValueError: If a share is none.
    """

    swap: float = 0.0
    synonyms: str | None = None
    share: float = 0.01
    words: int = 3

    def __post_init__(self) -> None:
        for name in ("swap", "share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)}: a share lies between 0 and 1")

    def added(self, rows: Iterable[Example], seed: int) -> Iterator[Example]:
        """The rows, each followed by its copies, whose numbers are negative: -1 - that of the row.

        What becomes of a row depends on the seed and its number alone.

        Raises:
            UserError: If there are no synonyms.
        """
        table = _synonyms(self.synonyms) if self.synonyms else {}
        for row in rows:
            yield row
            chance = np.random.default_rng([seed, row.number])
            if len(row.texts) == 2 and chance.random() < self.swap:
                yield row._replace(number=-1 - row.number, texts=row.texts[::-1])
            if table and chance.random() < self.share:
                texts = tuple(self._replaced(text, table, chance) for text in row.texts)
                if texts != row.texts:
                    yield row._replace(number=-1 - row.number, texts=texts)

    def _replaced(self, text: str, table: dict[str, str], chance: np.random.Generator) -> str:
        words = text.split()
        known = [place for place, word in enumerate(words) if word.lower() in table]
        for place in chance.permutation(known)[: self.words]:
            words[place] = table[words[place].lower()]
        return " ".join(words)


@cache
def _synonyms(given: str) -> dict[str, str]:
    if given == "wordnet":
        return _wordnet()
    path = Path(given)
    table: dict[str, str] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"augment: synonyms: {path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        word, tab, synonym = line.partition("\t")
        if not (tab and word.strip() and synonym.strip()):
            raise UserError(
                f"augment: synonyms: {path}, line {number}: {line!r} is not a word, a tab and its synonym"
            )
        table.setdefault(word.strip().lower(), synonym.strip())
    return table


def _wordnet() -> dict[str, str]:
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError) as error:
        raise UserError(
            "augment: synonyms: wordnet needs nltk and its data (nltk.download('wordnet')); or give a file"
        ) from error
    table: dict[str, str] = {}
    for synset in wordnet.all_synsets():
        names = [name.replace("_", " ") for name in synset.lemma_names()]
        for name in names:
            other = next((other for other in names if other.lower() != name.lower()), None)
            if other:
                table.setdefault(name.lower(), other)
    return table
