"""Data augmentation: altered copies of training examples."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from mtl.bounds import Count, Share, check_bounds
from mtl.data.checks import Example
from mtl.errors import UserError


@dataclass(frozen=True)
class Augmentation:
    """Which copies are added to the training examples of a task.

    Source: the CS224N project (specification C.8). There, pairs are swapped (Quora with probability
    0.4, STS always), and one sentiment sentence in a hundred gets a copy with three words replaced
    by synonyms.

    Args:
        swap: Probability that a pair gets a copy with the two texts swapped.
        synonyms: A file with a word, a tab and its synonym per line; or `wordnet`, which uses the
            first synonym in nltk's WordNet.
        share: Probability that an example gets a copy with synonyms.
        words: Number of words that are replaced in a copy, if it has as many words with a synonym.

    Raises:
        UserError: If a number is out of bounds.
    """

    swap: Share = 0.0
    synonyms: str | None = None
    share: Share = 0.01
    words: Count = 3

    def __post_init__(self) -> None:
        check_bounds(type(self), vars(self), "augment: ")

    def augmented(self, examples: Iterable[Example], seed: int) -> Iterator[Example]:
        """The examples, each followed by its copies.

        A copy has a negative number: -1 - number of the example. Copies depend only on the seed and
        on the number.

        Raises:
            UserError: If the synonyms cannot be read.
        """
        synonyms = _synonyms(self.synonyms) if self.synonyms else {}
        for example in examples:
            yield example
            rng = np.random.default_rng([seed, example.number])
            copy = example._replace(number=-1 - example.number)
            if len(example.texts) == 2 and rng.random() < self.swap:
                yield copy._replace(texts=example.texts[::-1])
            if synonyms and rng.random() < self.share:
                texts = tuple(self._with_synonyms(text, synonyms, rng) for text in example.texts)
                if texts != example.texts:
                    yield copy._replace(texts=texts)

    def _with_synonyms(
        self, text: str, synonyms: Mapping[str, str], rng: np.random.Generator
    ) -> str:
        words = text.split()
        replaceable = [index for index, word in enumerate(words) if word.lower() in synonyms]
        for index in rng.permutation(replaceable)[: self.words]:
            words[index] = synonyms[words[index].lower()]
        return " ".join(words)


@cache
def _synonyms(source: str) -> Mapping[str, str]:
    if source == "wordnet":
        return _wordnet()
    path = Path(source)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"augment: synonyms: {path}: cannot be read: {error}") from error
    synonyms: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        word, tab, synonym = line.partition("\t")
        if not (tab and word.strip() and synonym.strip()):
            raise UserError(
                f"augment: synonyms: {path}, line {number}: {line!r}: write a word, a tab and its "
                "synonym"
            )
        synonyms.setdefault(word.strip().lower(), synonym.strip())
    return synonyms


def _wordnet() -> dict[str, str]:
    try:
        from nltk.corpus import wordnet

        wordnet.ensure_loaded()
    except (ImportError, LookupError) as error:
        raise UserError(
            "augment: synonyms: wordnet needs nltk and its data: run nltk.download('wordnet'), or "
            "give a file"
        ) from error
    synonyms: dict[str, str] = {}
    for synset in wordnet.all_synsets():
        names = [name.replace("_", " ") for name in synset.lemma_names()]
        for name in names:
            synonym = next((other for other in names if other.lower() != name.lower()), None)
            if synonym:
                synonyms.setdefault(name.lower(), synonym)
    return synonyms
