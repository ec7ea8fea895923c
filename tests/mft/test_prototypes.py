import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtl.mft.prototypes import Prototypes, correlation, rescaled, typicality


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def by_hand(
    vectors: np.ndarray, classes: np.ndarray, domains: np.ndarray, alpha: float, others: str
) -> np.ndarray:
    """Equation 1 of the paper, row by row in numpy."""
    scores = []
    for vector, kind, domain in zip(vectors, classes, domains, strict=True):
        means = {
            k: vectors[(domains == k) & (classes == kind)].mean(0)
            for k in set(domains)
            if ((domains == k) & (classes == kind)).any()
        }
        strange = [mean for k, mean in means.items() if k != domain]
        own = cosine(vector, means[domain])
        if not strange:
            scores.append(own)
        elif others == "mean_prototype":
            scores.append(alpha * own + (1 - alpha) * cosine(vector, np.mean(strange, 0)))
        else:
            scores.append(
                alpha * own
                + (1 - alpha) * float(np.mean([cosine(vector, mean) for mean in strange]))
            )
    return np.array(scores)


@given(
    seed=st.integers(0, 10_000),
    domains=st.integers(1, 4),
    classes=st.integers(2, 3),
    alpha=st.floats(0, 1),
    others=st.sampled_from(["mean_prototype", "mean_cosine"]),
)
def test_scores_equal_the_formula_written_out(
    seed: int, domains: int, classes: int, alpha: float, others: str
) -> None:
    draw = np.random.default_rng(seed)
    rows = 6 * domains * classes
    vectors = draw.normal(size=(rows, 5)).astype(np.float32)
    kinds, places = draw.integers(0, classes, rows), draw.integers(0, domains, rows)
    prototypes = Prototypes(domains, classes, 5)
    for start in range(0, rows, 7):  # batches of 7, of each domain apart
        for domain in range(domains):
            of = (places[start : start + 7] == domain).nonzero()[0] + start
            prototypes.add(domain, torch.from_numpy(kinds[of]), torch.from_numpy(vectors[of]))
    found = np.empty(rows)
    for domain in range(domains):
        of = places == domain
        scores = typicality(
            torch.from_numpy(vectors[of]),
            torch.from_numpy(kinds[of]),
            domain,
            prototypes.means(),
            alpha,
            others,  # type: ignore[arg-type]
        )
        found[of] = scores.numpy()
    np.testing.assert_allclose(
        found, by_hand(vectors.astype(np.float64), kinds, places, alpha, others), atol=1e-6
    )


def test_scores_are_spread_over_zero_to_one_if_asked() -> None:
    scores = [torch.tensor([0.9, 0.7]), torch.tensor([0.8, 0.7, 0.95])]
    assert rescaled(scores, "none")[1].tolist() == scores[1].tolist()
    assert torch.cat(rescaled(scores, "minmax")).tolist() == pytest.approx([0.8, 0, 0.4, 0, 1])
    assert torch.cat(rescaled(scores, "rank")).tolist() == pytest.approx(
        [0.8, 0.3, 0.6, 0.3, 1]
    )  # 1.5 of 5 for the two that tie
    assert [len(part) for part in rescaled(scores, "rank")] == [2, 3]


def test_scores_that_do_not_vary_are_spread_without_harm() -> None:
    assert rescaled([torch.tensor([0.5, 0.5])], "minmax")[0].tolist() == [0, 0]
    assert np.isnan(correlation(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 2.0])))
