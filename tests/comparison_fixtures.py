"""A small comparison, and its results: the root conftest imports them for all tests."""

from pathlib import Path

import pytest
import yaml

from mtl.compare.results import Results
from tests.compare.helpers import SequentialExecutor, done


@pytest.fixture(scope="session")
def table(task_files: list[Path], backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Alone, together, and alone from together with one of two rates, on two tasks."""
    folder = tmp_path_factory.mktemp("table")
    (folder / "suite.yaml").write_text(
        yaml.safe_dump({"tasks": [str(file) for file in task_files[:2]]})
    )
    alone = {"of": "task", "options": {"model": "MultiHead"}}
    together = {"configs": ["sampling/sequential", "methods/multi_head"]}
    then = {
        "of": "task",
        "options": {"model": "MultiHead"},
        "uses": {"model.init_from": "together"},
    }
    options = {
        "trainer.accelerator": "cpu",
        "data.max_length": 16,
        "trainer.max_epochs": "{epochs}",
    }
    definition = {
        "question": "Is it better?",
        "suite": str(folder / "suite.yaml"),
        "baseline": "alone",
        "budget": "one pass",
        "columns": ["mood", "same.accuracy", "same.f1"],
        "rows": {
            "alone": alone,
            "together": together,
            "both": then | {"grid": {"model.lr": [1e-4, 1e-2]}},
        },
        "sizes": {
            "mini": {
                "backbone": backbone,
                "options": options | {"data.cache": str(folder / "cache")},
                "values": {"epochs": 1},
                "seeds": [1, 2],
            }
        },
        "published": {"source": "Doe 2020", "rows": {"together": {"mood": 99.9}}},
    }
    (folder / "table.yaml").write_text(yaml.safe_dump(definition, sort_keys=False))
    return folder / "table.yaml"


@pytest.fixture(scope="session")
def finished(table: Path) -> Results:
    """All of its runs, done once; tests that change them restore them."""
    machine = SequentialExecutor()
    results = done(table, machine)
    assert machine.done == 2 * (
        2 + 1 + 2 * 2
    )  # for each seed: two alone, one together, two tasks with two rates
    return results
