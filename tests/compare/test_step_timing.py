"""The duration of a run, estimated from a few of its steps."""

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest

from mtl.compare.definition import Experiment
from mtl.compare.forecast import forecast
from mtl.compare.plan import Plan
from mtl.compare.run_index import RunIndex
from mtl.compare.run_spec import RunSpec
from mtl.compare.step_timing import StepTimer, measured_seconds
from mtl.errors import UserError


def timer() -> StepTimer:
    """An epoch of 100 batches of 0.1 s after two slow ones; a validation of 10 of 0.5 s."""
    found = StepTimer()
    found.preparation, found.training, found.validation = 7.0, [3.0, 2.0, 0.1, 0.1], [0.5, 0.5, 0.5]
    found.batches, found.validation_batches = 100, 10
    return found


def options(**changes: object) -> Namespace:
    defaults = {
        "max_epochs": 4,
        "max_steps": -1,
        "accumulate_grad_batches": 1,
        "val_check_interval": None,
        "check_val_every_n_epoch": 1,
    }
    return Namespace(**defaults | changes)


@pytest.mark.parametrize(
    ("changes", "batches", "validations"),
    [
        ({}, 400, 4),
        ({"val_check_interval": 0.5}, 400, 8),
        ({"val_check_interval": 50}, 400, 8),
        ({"check_val_every_n_epoch": 2}, 400, 2),
        ({"max_steps": 50}, 50, 0.5),
        ({"max_epochs": -1, "max_steps": 200}, 200, 2),
        ({"max_epochs": None, "max_steps": 200, "accumulate_grad_batches": 2}, 400, 4),
    ],
)
def test_a_run_takes_its_setup_its_steps_and_its_evaluations(
    changes: dict[str, object], batches: int, validations: float
) -> None:
    expected = 7.0 + batches * 0.1 + validations * 10 * 0.5
    assert timer().seconds(options(**changes), tested=False) == pytest.approx(expected)
    with_test = timer().seconds(options(**changes), tested=True)
    assert with_test == pytest.approx(expected + 10 * 0.5)


def test_the_steps_are_those_of_the_run_and_nothing_is_kept(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(Experiment.read(str(table)), "mini")
    run = RunSpec("together", 1, None)
    job = RunIndex(plan, tmp_path / "runs").job(run)
    timers = []
    whole = StepTimer.seconds

    def remembered(self: StepTimer, trainer: Namespace, tested: bool) -> float:
        timers.append(self)
        return whole(self, trainer, tested)

    monkeypatch.setattr(StepTimer, "seconds", remembered)
    assert measured_seconds(job, threads=1) > timers[0].preparation > 0
    assert len(timers[0].training) == min(8, timers[0].batches) and timers[0].validation
    assert not (tmp_path / "runs").exists()
    with pytest.raises(UserError, match=r"mtl fit .*--data.batch_size"):
        measured_seconds(job._replace(fit=(*(job.fit or ()), "--data.batch_size", "0")), threads=1)


def test_a_plan_without_finished_runs_has_estimated_times(table: Path, tmp_path: Path) -> None:
    plan, sizes = Plan(Experiment.read(str(table)), "mini"), {"mood": 9, "same": 9}
    unknown = forecast(plan, tmp_path, sizes, 1)
    assert unknown.seconds(5) is None and "--budget TIME" in str(unknown)

    def estimator(runs: Sequence[RunSpec]) -> dict[RunSpec, float]:
        return dict.fromkeys(runs, 10.0)

    found = forecast(plan, tmp_path, sizes, 2, estimator)
    runs = len(plan.all_runs()) // len(plan.seeds)
    assert found.seconds(5) == pytest.approx(5 * 10 * runs / 2)
    assert "for 2 runs at a time, estimated from a few steps of each row" in str(found)
    # Rows that start from other runs cannot be estimated: the time is not known.
    some = forecast(plan, tmp_path, sizes, 2, lambda runs: {runs[0]: 10.0})
    assert some.seconds(5) is None and "not measured" in str(some)
