"""Tasks improve and stop improving at different times: best modules and early stopping by task."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn

import mtl
from mtl.__main__ import main
from mtl.callbacks import TaskEarlyStopping
from mtl.data import RoundRobinDataModule
from mtl.errors import UserError
from mtl.methods import LoRA, MultiHead, Separate
from mtl.tasks import Task
from mtl.training.trainer import trainer
from tests.methods.training import fit

QUICK = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
EPOCHS = 3


class Scores(Callback):
    """Records the scores of every validation by task."""

    def __init__(self) -> None:
        self.scores: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if not trainer.sanity_checking:
            latest = pl_module.latest.items()
            self.scores.append({split: result["score"] for split, result in latest})


def train(out: str, tasks: list[Task], backbone: str, epochs: int, **options: Any) -> Scores:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"tasks": tasks, "backbone": backbone}
    # Without a schedule, a training that is continued is the same as a longer one.
    method = LoRA(
        **arguments, per_task=True, best="tasks", lr=0.03, schedule="constant", warmup_steps=0
    )
    data = RoundRobinDataModule(**arguments, max_length=16, batch_size=8, max_examples=24)
    recorder = Scores()
    quiet: dict[str, Any] = {"enable_progress_bar": False, "accelerator": "cpu"}
    run = trainer(out, max_epochs=epochs, callbacks=[recorder], **quiet)
    run.fit(method, data, weights_only=True, **options)
    return recorder


def best_weights(out: str) -> dict[str, torch.Tensor]:
    return torch.load(f"{out}/checkpoints/best.ckpt", weights_only=True)["state_dict"]


def test_the_best_checkpoint_has_each_tasks_best_modules(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    scores = train("run", tasks, backbone, EPOCHS).scores
    best = {task: max(each[task] for each in scores) for task in scores[0]}
    when = {task: [each[task] for each in scores].index(score) for task, score in best.items()}
    assert len(set(when.values())) > 1, "the tasks are best at different times"
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert {task: each["score"] for task, each in metrics["validation"]["tasks"].items()} == best
    assert metrics["validation"]["mean"] == pytest.approx(sum(best.values()) / len(best))
    last = {task: each["score"] for task, each in metrics["last"]["tasks"].items()}
    assert last == scores[-1]
    main(["validate", "--ckpt_path", "run", *QUICK])
    validated = json.loads(Path("run/metrics.json").read_text())["validated"]["tasks"]
    for task, score in best.items():
        assert validated[task]["score"] == pytest.approx(score)
    # A resumed training has kept them.
    train("parts", tasks, backbone, 1)
    Path("parts/metrics.json").unlink()
    Path("parts").rename("before")
    train("parts", tasks, backbone, EPOCHS, ckpt_path="before/checkpoints/last.ckpt")
    for name, value in best_weights("run").items():
        assert torch.equal(value, best_weights("parts")[name]), name
    assert mtl.load("run").predict(["the cat"], "mood") == mtl.load("parts").predict(
        ["the cat"], "mood"
    )


@pytest.mark.parametrize(
    ("cls", "callbacks", "message"),
    [
        (MultiHead, [], "MultiHead trains weights that tasks share, such as encoder.backbone"),
        (Separate, [EMAWeightAveraging()], "EMAWeightAveraging validates averages of the weights"),
    ],
)
def test_modules_that_do_not_fit_together_are_refused(
    cls: Any,
    callbacks: list[Callback],
    message: str,
    tasks: list[Task],
    backbone: str,
    in_tmp: Path,
) -> None:
    method = cls(tasks=tasks, backbone=backbone, best="tasks")
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone)
    with pytest.raises(UserError, match=f"--model.best tasks: {message}"):
        fit(method, data, max_steps=1, callbacks=callbacks)


# Scores of two tasks by validation, and the validation after which the training stops.
RISING, FALLING, LATE = [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.3, 0.2, 0.2, 0.4]


@pytest.mark.parametrize(
    ("one", "two", "stop", "min_delta", "expected"),
    [
        (RISING, FALLING, "any", 0.0, 2),
        (RISING, FALLING, "all", 0.0, None),
        (FALLING, FALLING, "all", 0.0, 2),
        (RISING, RISING, "all", 0.5, 2),
        (LATE, RISING, "any", 0.0, 2),
        (RISING, RISING, "any", 0.0, None),
    ],
)
def test_the_training_stops_when_all_or_any_tasks_stall(
    one: list[float],
    two: list[float],
    stop: Any,
    min_delta: float,
    expected: int | None,
    tasks: list[Task],
    backbone: str,
) -> None:
    method: Any = MultiHead(tasks=tasks[:2], backbone=backbone)
    stopped = None
    callback = TaskEarlyStopping(stop, patience=2, min_delta=min_delta)
    for number, scores in enumerate(zip(one, two, strict=True)):
        state = callback.state_dict()
        callback = TaskEarlyStopping(stop, patience=2, min_delta=min_delta)
        callback.load_state_dict(state)
        method.latest = {
            "mood/a": {"score": scores[0] - 0.1},  # a task's score is the mean over its splits
            "mood/b": {"score": scores[0] + 0.1},
            "same": {"score": scores[1]},
        }
        run: Any = SimpleNamespace(
            sanity_checking=False, state=SimpleNamespace(fn=TrainerFn.FITTING), should_stop=False
        )
        callback.on_validation_end(run, method)
        if run.should_stop and stopped is None:
            stopped = number
    assert stopped == expected


def test_the_command_stops_and_keeps_a_checkpoint_of_a_task(
    task_files: list[Path], backbone: str, in_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command = ["fit", *[f"--tasks+={file}" for file in task_files[:2]], "--backbone", backbone]
    command += ["--trainer.callbacks+=TaskEarlyStopping", "--trainer.callbacks.stop", "all"]
    command += ["--trainer.callbacks.patience", "1", "--trainer.callbacks+=ModelCheckpoint"]
    command += ["--trainer.callbacks.monitor", "val_score/same", "--trainer.callbacks.mode", "max"]
    command += ["--trainer.callbacks.filename", "best-same", "--model.lr", "0", *QUICK]
    main([*command, "--trainer.max_epochs", "5", "--out", "run"])
    assert "no improvement of mood, same in the last 1 validations" in caplog.text
    assert mtl.load("run").metrics["epochs"] == 2
    assert list(mtl.load("run/checkpoints/best-same.ckpt").tasks) == ["mood", "same"]
