"""Figures and tables reach every logger. Packages that are not installed have stand-ins."""

import csv
import json
import sqlite3
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger
from matplotlib.figure import Figure
from matplotlib.image import imread

from mtl.errors import UserError
from mtl.loggers import TextTable, TrackioLogger, log_figure, log_table
from mtl.loggers.media import pixels
from mtl.loggers.text_table import escaped

TABLE = TextTable("2 rows", ["text", "loss"], [['say "no", or\nnot', "1.5"], ["a|b", "0.5"]])


@pytest.fixture
def figure() -> Figure:
    figure = Figure(figsize=(2, 1), dpi=100)
    figure.subplots().imshow(np.eye(2))
    return figure


def show(logger: Logger, figure: Figure) -> None:
    log_figure(logger, "val_predictions/mood", figure, 7)
    log_table(logger, "val_worst_examples/mood", TABLE, 7)


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(text.splitlines(keepends=True)))


def test_csv_logger_gets_files(figure: Figure, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    show(logger, figure)
    folder = Path(logger.log_dir)
    assert imread(folder / "val_predictions/mood.png").shape[:2] == (100, 200)
    with (folder / "val_worst_examples/mood.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [TABLE.columns, *TABLE.rows]


def test_a_logger_without_pictures_ignores_them(figure: Figure) -> None:
    show(DummyLogger(), figure)


class Recorder:
    """Records the calls of any method."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *values: self.calls.append((name, values))


def test_wandb_gets_an_image_and_a_table(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = ModuleType("wandb")
    wandb.Image = lambda image: ("image", image.shape)  # type: ignore[attr-defined]
    wandb.Table = lambda columns, data, dataframe: (columns, data)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", wandb)

    class Recording(WandbLogger):
        def __init__(self) -> None:
            self.logged: dict[str, Any] = {}

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            self.logged |= {name: (value, step) for name, value in metrics.items()}

    logger = Recording()
    show(logger, figure)
    assert logger.logged == {
        "val_predictions/mood": ([("image", (100, 200, 3))], 7),
        "val_worst_examples/mood": ((TABLE.columns, TABLE.rows), 7),
    }


def test_mlflow_gets_artifacts(figure: Figure) -> None:
    class Recording(MLFlowLogger):
        experiment = Recorder()
        run_id = "1"

        def __init__(self) -> None:
            """Needs no package."""

    logger = Recording()
    show(logger, figure)
    (first, of_figure), (second, of_table) = logger.experiment.calls
    assert (first, of_figure) == ("log_figure", ("1", figure, "val_predictions/mood.png"))
    assert second == "log_text" and of_table[2] == "val_worst_examples/mood.csv"
    assert rows_of(of_table[1]) == [TABLE.columns, *TABLE.rows]


def test_trackio_gets_numbers_images_tables_and_hyper_parameters(
    figure: Figure, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Any, ...]] = []
    run = Recorder()
    run.name = "brave-fox"  # type: ignore[attr-defined]

    def init(project: str, name: str | None, **options: Any) -> Recorder:
        started.append((project, name, options["config"]))
        return run

    trackio = SimpleNamespace(
        init=init,
        Image=lambda image: image.shape,
        Table=lambda columns, data: (columns, data),
    )
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    logger = TrackioLogger()
    logger.log_hyperparams({"lr": 0.1})
    logger.log_metrics({"loss": 0.5}, 3)
    show(logger, figure)
    logger.finalize("success")
    logger.log_metrics({"test": 0.9})
    assert run.calls == [
        ("log", ({"loss": 0.5}, 3)),
        ("log", ({"val_predictions/mood": (100, 200, 3)}, 7)),
        ("log", ({"val_worst_examples/mood": (TABLE.columns, TABLE.rows)}, 7)),
        ("finish", ()),
        ("log", ({"test": 0.9}, None)),
    ]
    assert [one[:2] for one in started] == [("mtl", None), ("mtl", "brave-fox")]
    assert started[0][2] == {"lr": 0.1}


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match="pip install trackio"):
        TrackioLogger()


def test_wandb_itself_stores_them_offline(
    figure: Figure, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(offline=True, save_dir=in_tmp)
    show(logger, figure)
    wandb.finish()
    [image] = in_tmp.glob("wandb/offline-run-*/files/media/images/val_predictions/mood*.png")
    [table] = in_tmp.glob("wandb/offline-run-*/files/media/table/val_worst_examples/mood*.json")
    assert np.array_equal((imread(image)[..., :3] * 255).round(), pixels(figure))
    stored = json.loads(table.read_text())
    assert stored["columns"] == TABLE.columns and stored["data"] == TABLE.rows


def test_mlflow_itself_stores_them(figure: Figure, in_tmp: Path) -> None:
    pytest.importorskip("mlflow")
    logger = MLFlowLogger(tracking_uri="sqlite:///mlflow.db")
    show(logger, figure)
    [image] = in_tmp.glob("mlruns/*/*/artifacts/val_predictions/mood.png")
    [table] = in_tmp.glob("mlruns/*/*/artifacts/val_worst_examples/mood.csv")
    assert imread(image).shape[:2] == (100, 200)
    with table.open(newline="") as file:
        assert list(csv.reader(file)) == [TABLE.columns, *TABLE.rows]


def test_trackio_itself_stores_them(
    figure: Figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))  # read when the package is imported
    pytest.importorskip("trackio")
    logger = TrackioLogger("shop", "first")
    logger.log_metrics({"loss": 0.5}, 3)
    show(logger, figure)
    logger.finalize("success")
    [database] = tmp_path.glob("shop*.db")
    with sqlite3.connect(database) as connection:
        text = " ".join(str(row) for row in connection.execute("select * from metrics"))
    assert '"loss":0.5' in text.replace(" ", "") and "val_predictions/mood" in text
    assert "a|b" in text


@given(st.text())
def test_any_text_becomes_one_cell_without_markup(text: str) -> None:
    assert not set("|<>`*_\n\r") & set(escaped(text))
