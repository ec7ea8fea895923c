import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtl.mft.prototypes import Others, Prototypes, rank_correlation, rescale_scores, typicality


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def equation_1(
    vectors: np.ndarray, classes: np.ndarray, domains: np.ndarray, alpha: float, others: Others
) -> np.ndarray:
    """Equation 1 of the paper, example by example in numpy."""
    scores = []
    for vector, label, domain in zip(vectors, classes, domains, strict=True):
        prototypes = {
            k: vectors[(domains == k) & (classes == label)].mean(0)
            for k in set(domains)
            if ((domains == k) & (classes == label)).any()
        }
        other_prototypes = [prototype for k, prototype in prototypes.items() if k != domain]
        own = cosine(vector, prototypes[domain])
        if not other_prototypes:
            scores.append(own)
        elif others == "mean_prototype":
            scores.append(alpha * own + (1 - alpha) * cosine(vector, np.mean(other_prototypes, 0)))
        else:
            similarities = [cosine(vector, prototype) for prototype in other_prototypes]
            scores.append(alpha * own + (1 - alpha) * float(np.mean(similarities)))
    return np.array(scores)


@given(
    seed=st.integers(0, 10_000),
    domains=st.integers(1, 4),
    classes=st.integers(2, 3),
    alpha=st.floats(0, 1),
    others=st.sampled_from(["mean_prototype", "mean_cosine"]),
)
def test_scores_equal_equation_1(
    seed: int, domains: int, classes: int, alpha: float, others: Others
) -> None:
    generator = np.random.default_rng(seed)
    count = 6 * domains * classes
    vectors = generator.normal(size=(count, 5)).astype(np.float32)
    labels = generator.integers(0, classes, count)
    domain_of = generator.integers(0, domains, count)
    prototypes = Prototypes(domains, classes, 5)
    for start in range(0, count, 7):  # batches of 7, added domain by domain
        for domain in range(domains):
            batch = (domain_of[start : start + 7] == domain).nonzero()[0] + start
            prototypes.add(
                domain, torch.from_numpy(labels[batch]), torch.from_numpy(vectors[batch])
            )
    scores = np.empty(count)
    for domain in range(domains):
        in_domain = domain_of == domain
        scores[in_domain] = typicality(
            torch.from_numpy(vectors[in_domain]),
            torch.from_numpy(labels[in_domain]),
            domain,
            prototypes.means(),
            alpha,
            others,
        ).numpy()
    expected = equation_1(vectors.astype(np.float64), labels, domain_of, alpha, others)
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_scores_of_all_tasks_are_rescaled_together() -> None:
    scores = [torch.tensor([0.9, 0.7]), torch.tensor([0.8, 0.7, 0.95])]
    assert rescale_scores(scores, "none")[1].tolist() == scores[1].tolist()
    assert torch.cat(rescale_scores(scores, "minmax")).tolist() == pytest.approx(
        [0.8, 0, 0.4, 0, 1]
    )
    assert torch.cat(rescale_scores(scores, "rank")).tolist() == pytest.approx(
        [0.8, 0.3, 0.6, 0.3, 1]
    )  # the two ties have rank 1.5 of 5
    assert [len(part) for part in rescale_scores(scores, "rank")] == [2, 3]


def test_constant_scores_are_rescaled_to_zero_and_have_no_correlation() -> None:
    assert rescale_scores([torch.tensor([0.5, 0.5])], "minmax")[0].tolist() == [0, 0]
    assert np.isnan(rank_correlation(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 2.0])))
