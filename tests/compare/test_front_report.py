"""The report of a comparison with a front, from real runs."""

import math
from pathlib import Path

import pytest
import yaml

from mtl.compare.front_report import draw_front, front_grid
from mtl.compare.results import Results
from tests.compare.helpers import SequentialExecutor, done

MIXED = ["sampling/mixed", "methods/multi_head"]


@pytest.fixture(scope="module")
def results(
    task_files: list[Path], backbone: str, tmp_path_factory: pytest.TempPathFactory
) -> Results:
    """Two seeds of a row, and of six weightings of two tasks."""
    folder = tmp_path_factory.mktemp("front")
    options = {
        "trainer.accelerator": "cpu",
        "data.max_length": 16,
        "data.cache": str(folder / "cache"),
        "trainer.max_epochs": 1,
        "trainer.log_every_n_steps": 1,
    }
    definition = {
        "question": "Is PCGrad better than fixed weights?",
        "tasks": [str(file) for file in task_files[:2]],
        "baseline": "alone",
        "budget": "one pass",
        "front": {"row": "equal", "draws": 1},
        "rows": {
            "alone": {"of": "task", "options": {"model": "MultiHead"}},
            "equal": {"configs": MIXED},
            "PCGrad": {"configs": [*MIXED, "balancing/pcgrad"]},
        },
        "sizes": {"mini": {"backbone": backbone, "options": options, "seeds": [1, 2]}},
    }
    (folder / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    return done(folder / "table.yaml", SequentialExecutor())


def test_the_grid_has_the_distance_of_each_row_from_all_weightings(results: Results) -> None:
    grid = front_grid(results)
    lines = {line[0].text: [cell.text for cell in line] for line in grid.lines}
    assert list(lines) == ["alone", "PCGrad"]  # equal weights are a part of the front
    columns = results.main_columns

    def means(row: str) -> list[float]:
        return [float(results.sampled(row, column).scores.mean()) for column in columns]

    front = ["equal", *results.plan.weightings]
    assert len(front) == 6
    for row, texts in lines.items():
        distance = min(
            max(ours - theirs for ours, theirs in zip(means(row), means(name), strict=True))
            for name in front
        )
        assert float(texts[1].split()[0]) == pytest.approx(distance, abs=0.051)
    # Rows that train single tasks have no loss per step of all tasks.
    assert lines["alone"][-2] == ""
    assert math.isfinite(float(lines["PCGrad"][-2].split()[0]))
    assert grid.notes[-1].startswith("6 weightings; the distance of each from the others: ")


def test_weightings_are_no_rows_of_the_table(results: Results) -> None:
    assert results.rows == ["alone", "equal", "PCGrad"]
    assert results.compared_rows == ["equal", "PCGrad"]


def test_the_picture_is_drawn(results: Results, tmp_path: Path) -> None:
    picture = draw_front(results, tmp_path / "front.png")
    assert picture
    assert picture.read_bytes()[:4] == b"\x89PNG"
