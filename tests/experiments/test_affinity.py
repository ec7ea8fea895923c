import math
from pathlib import Path

import pytest

from experiments.affinity import ALL, affinity, definition
from experiments.transfer import rank_correlation


def test_gains_and_cosines_are_correlated_over_pairs() -> None:
    gains = [
        [None, 1.0, 2.0],
        [3.0, None, -1.0],
        [0.0, -5.0, None],
    ]  # mean gains of the pairs: 2, 1, -3
    cosines = [[None, 0.9, 0.1], [0.9, None, -0.5], [0.1, -0.5, None]]
    assert rank_correlation(gains, cosines) == pytest.approx(1.0)
    cosines[0][1] = cosines[1][0] = -0.9
    assert rank_correlation(gains, cosines) == pytest.approx(-0.5)  # ranks 3 2 1 against 1 3 2
    assert math.isnan(rank_correlation(gains[:2], cosines[:2]))


def test_the_table_has_a_row_for_each_pair_and_one_for_all_tasks() -> None:
    table = definition("samples", "bundled", (1,), {})
    assert len(table.rows) == 1 + 5 * 4 // 2 + 1
    assert table.rows["sentiment + entailment"].tasks == ["sentiment", "entailment"]
    assert not table.rows[ALL].tasks
    triples = definition("samples", "bundled", (1,), {}, largest=3)
    assert len(triples.rows) == len(table.rows) + 10
    assert triples.rows["sentiment + paraphrase + entailment"].tasks == [
        *("sentiment", "paraphrase", "entailment")
    ]


@pytest.mark.slow
def test_affinity_draws_the_maps_of_two_tasks(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("suite.yaml").write_text("tasks: [" + ", ".join(map(str, task_files[:2])) + "]")
    options = [
        "--trainer.accelerator",
        "cpu",
        "--data.max_length",
        "16",
        "--trainer.precision",
        "32-true",
    ]
    affinity(str(in_tmp / "suite.yaml"), backbone, seeds=(1,), epochs=1, options=options, jobs=1)
    [picture] = (in_tmp / "runs/affinity").glob("suite-*/affinity.png")
    assert picture.stat().st_size > 5000
    printed = capsys.readouterr().out
    assert "rank correlation of the pairs' gains with their gradient cosines" in printed
    for estimator in ("gradients", "affinity"):
        assert f"with the estimate by {estimator}: +nan (2 pairs of a task and a group)" in printed
