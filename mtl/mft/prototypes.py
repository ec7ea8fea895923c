"""How typical a row is of its class, in its own domain and in the others: the prototypical scores of meta fine-tuning."""

from collections.abc import Sequence
from typing import Literal

import torch
from scipy.stats import rankdata, spearmanr
from torch import Tensor
from torch.nn import functional as F

Others = Literal["mean_prototype", "mean_cosine"]
Rescale = Literal["none", "minmax", "rank"]


class Prototypes:
    """The mean vector of each class of each domain, summed up batch by batch.

    Source: Wang et al. 2020 (MFT), section 3.2.

    Args:
        domains: Number K of domains.
        classes: Number M of classes, which the domains share.
        width: Size H of a vector.
    """

    def __init__(self, domains: int, classes: int, width: int) -> None:
        self.sums = torch.zeros(domains, classes, width, dtype=torch.float64)
        self.rows = torch.zeros(domains, classes, dtype=torch.int64)

    def add(self, domain: int, classes: Tensor, vectors: Tensor) -> None:
        """Takes rows of a domain: their classes (rows,) and their vectors (rows, H)."""
        classes = classes.cpu()
        self.sums[domain].index_add_(0, classes, vectors.cpu().double())
        self.rows[domain] += classes.bincount(minlength=self.rows.shape[1])

    def means(self) -> Tensor:
        """The prototypes, float64, (K, M, H); NaN for a class that a domain has no row of."""
        return self.sums / self.rows.unsqueeze(-1)


def typicality(
    vectors: Tensor,
    classes: Tensor,
    domain: int,
    prototypes: Tensor,
    alpha: float = 0.5,
    others: Others = "mean_prototype",
) -> Tensor:
    """How typical rows of a domain are of their classes, float64, shape (rows,), from -1 to 1.

    `alpha` times the cosine with the prototype of the row's class in its own domain, plus `1 - alpha` times that with the
    other domains': with the mean of their prototypes, as all implementations have it, or the mean of the cosines with each,
    as the paper's formula reads. A class that no other domain has counts with its own domain alone.

    Source: Wang et al. 2020 (MFT), equation 1; specification B1.

    Args:
        vectors: The rows' vectors, (rows, H).
        classes: Their classes, int64, (rows,).
        domain: Their domain's place.
        prototypes: Those of every domain and class, (K, M, H); NaN where there is none.
        alpha: The share of the own domain.
        others: How the other domains are taken together.
    """
    vectors = vectors.double()
    own = F.cosine_similarity(vectors, prototypes[domain, classes], dim=-1)
    strange = torch.cat([prototypes[:domain], prototypes[domain + 1 :]])[
        :, classes
    ]  # (K - 1, rows, H)
    if others == "mean_prototype":
        beyond = F.cosine_similarity(vectors, strange.nanmean(0), dim=-1)
    else:
        beyond = F.cosine_similarity(vectors, strange, dim=-1).nanmean(0)
    return torch.where(beyond.isnan(), own, alpha * own + (1 - alpha) * beyond)


def rescaled(scores: Sequence[Tensor], how: Rescale) -> list[Tensor]:
    """Scores, as they stand or spread over 0 to 1: linearly from the least to the most typical row, or evenly by rank.

    Args:
        scores: Scores of the rows of each task, which are taken together.
        how: As they stand (`none`), `minmax`, or `rank`, where rows that tie share their mean rank.
    """
    together = torch.cat(list(scores))
    if how == "minmax":
        low, high = together.min(), together.max()
        together = (together - low) / (high - low).clamp(min=torch.finfo(together.dtype).eps)
    elif how == "rank":
        together = torch.from_numpy(rankdata(together.numpy()) / len(together))
    return list(together.to(scores[0].dtype).split([len(part) for part in scores]))


def correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's rank correlation; NaN where one of the two does not vary."""
    if len(one) < 2 or one.unique().numel() < 2 or other.unique().numel() < 2:
        return float("nan")
    return float(spearmanr(one.numpy(), other.numpy()).statistic)
