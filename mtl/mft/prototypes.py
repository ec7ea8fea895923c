"""Prototypical scores of meta fine-tuning: how typical an example is of its class.

The score compares an example with the class prototype of its own domain and with those of the other
domains.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from scipy.stats import rankdata, spearmanr
from torch import Tensor
from torch.nn import functional as F

Others = Literal["mean_prototype", "mean_cosine"]
Rescale = Literal["none", "minmax", "rank"]


class Prototypes:
    """The mean vector of each class in each domain, accumulated batch by batch.

    Source: Wang et al. 2020 (MFT), section 3.2.

    Args:
        domains: Number K of domains.
        classes: Number M of classes, which all domains share.
        width: Size H of a vector.
    """

    def __init__(self, domains: int, classes: int, width: int) -> None:
        self.sums = torch.zeros(domains, classes, width, dtype=torch.float64)
        self.counts = torch.zeros(domains, classes, dtype=torch.int64)

    def add(self, domain: int, classes: Tensor, vectors: Tensor) -> None:
        """Adds examples of one domain.

        Args:
            domain: Index of the domain.
            classes: Class indices, shape (examples,).
            vectors: Vectors, shape (examples, H).
        """
        classes = classes.cpu()
        self.sums[domain].index_add_(0, classes, vectors.cpu().double())
        self.counts[domain] += classes.bincount(minlength=self.counts.shape[1])

    def means(self) -> Tensor:
        """The prototypes, float64, shape (K, M, H); NaN where a domain lacks a class."""
        return self.sums / self.counts.unsqueeze(-1)


def typicality(
    vectors: Tensor,
    classes: Tensor,
    domain: int,
    prototypes: Tensor,
    alpha: float = 0.5,
    others: Others = "mean_prototype",
) -> Tensor:
    """Prototypical scores: how typical examples of a domain are of their classes.

    The score is `alpha` times the cosine similarity to the prototype of the example's class in its
    own domain, plus `1 - alpha` times the similarity to that class in the other domains. For the
    latter, all known implementations take the cosine with the mean of the other domains'
    prototypes; the formula of the paper is the mean of the cosines. If no other domain has the
    class, only the own domain counts.

    Source: Wang et al. 2020 (MFT), equation 1; specification B1.

    Args:
        vectors: Vectors of the examples, shape (examples, H).
        classes: Their class indices, int64, shape (examples,).
        domain: Index of their domain.
        prototypes: Prototypes of all domains and classes, shape (K, M, H); NaN where there is none.
        alpha: Weight of the own domain.
        others: Cosine with the mean of the other domains' prototypes, or mean of the cosines.

    Returns:
        Scores from -1 to 1, float64, shape (examples,).
    """
    vectors = vectors.double()
    own_similarity = F.cosine_similarity(vectors, prototypes[domain, classes], dim=-1)
    # (K - 1, examples, H)
    other_prototypes = torch.cat([prototypes[:domain], prototypes[domain + 1 :]])[:, classes]
    if others == "mean_prototype":
        other_similarity = F.cosine_similarity(vectors, other_prototypes.nanmean(0), dim=-1)
    else:
        other_similarity = F.cosine_similarity(vectors, other_prototypes, dim=-1).nanmean(0)
    mixed = alpha * own_similarity + (1 - alpha) * other_similarity
    return torch.where(other_similarity.isnan(), own_similarity, mixed)


def rescale_scores(scores: Sequence[Tensor], method: Rescale) -> list[Tensor]:
    """Rescales the scores of all tasks together to the range from 0 to 1.

    Args:
        scores: For each task the scores of its examples.
        method: `none`: unchanged; `minmax`: linearly from the least to the most typical example;
            `rank`: the rank divided by the number of examples, where ties share their mean rank.
    """
    values = torch.cat(list(scores))
    if method == "minmax":
        low, high = values.min(), values.max()
        values = (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).eps)
    elif method == "rank":
        values = torch.from_numpy(rankdata(values.numpy()) / len(values))
    return list(values.to(scores[0].dtype).split([len(task_scores) for task_scores in scores]))


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation; NaN if one of the two is constant."""
    if len(first) < 2 or first.unique().numel() < 2 or second.unique().numel() < 2:
        return float("nan")
    return float(spearmanr(first.numpy(), second.numpy()).statistic)
