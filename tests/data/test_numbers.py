import math
from pathlib import Path
from typing import Any

import pytest

import mtl.data
from mtl.__main__ import main
from mtl.errors import UserError
from mtl.tasks import Task


@pytest.mark.parametrize(
    ("scheme", "args", "message"),
    [
        ("ProportionalDataModule", {"alpha": -1.0}, "alpha -1.0: give 0"),
        ("ProportionalDataModule", {"cap": 0}, "cap 0: give 1 or more"),
        ("ProportionalDataModule", {"steps": 0}, "steps 0: give 1 or more"),
        (
            "RoundRobinDataModule",
            {"rounds": 0},
            "rounds 0: give 1 or more",
        ),
        ("UniformDataModule", {"share": 0.0}, "share 0.0: give more than 0"),
        ("UncertaintyDataModule", {"share": -0.5}, "share -0.5: give more than 0"),
        ("RoundRobinDataModule", {"max_examples": 0}, "max_examples 0: give 1 or more"),
        ("RoundRobinDataModule", {"max_examples": {"mood": 0}}, "max_examples 0: give 1 or more"),
        ("RoundRobinDataModule", {"batch_size": 0}, "batch_size 0: give 1 or more"),
        ("RoundRobinDataModule", {"eval_batch_size": -1}, "eval_batch_size -1: give 1 or more"),
        ("RoundRobinDataModule", {"max_length": 0}, "max_length 0: give 1 or more"),
        ("RoundRobinDataModule", {"num_workers": -1}, "num_workers -1: give 0 or more"),
        ("RoundRobinDataModule", {"holdout": 1.0}, "holdout 1.0: give 0 or more, and less than 1"),
        ("RoundRobinDataModule", {"holdout": -0.1}, "holdout -0.1: give 0 or more, and less than"),
        ("RoundRobinDataModule", {"holdout": math.nan}, "holdout nan: give a finite number, 0 or"),
        ("UniformDataModule", {"share": math.inf}, "share inf: give a finite number, more than 0"),
        ("LossProportionalDataModule", {"reference": {"mood": math.nan}}, "give a finite number"),
        ("KShotDataModule", {"k": 0}, "k 0: give 1 or more"),
        ("KShotDataModule", {"holdout": 0.1}, "omit max_examples and holdout"),
        ("LeaveOneOutKShotDataModule", {"held_out": "mood", "steps": 0}, "steps 0: give 1 or more"),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_bounds(
    scheme: str, args: dict[str, Any], message: str, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    with pytest.raises(UserError, match=message):
        getattr(mtl.data, scheme)(tasks=tasks, backbone=backbone, **args)


def test_an_unknown_choice_is_refused_with_the_nearest_one(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", f"--tasks+={task_files[0]}", "--backbone", backbone]
    with pytest.raises(SystemExit):
        main([*arguments, "--data", "ProportionalDataModule", "--data.alpha", "aneal"])
    message = capsys.readouterr().err
    assert "alpha" in message and "expected" in message and "Did you mean 'annealed'?" in message
