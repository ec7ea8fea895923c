from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, lists, none, one_of
from lightning.pytorch import Callback, Trainer
from scipy import stats

from mtl.batch import Batch
from mtl.data import LossProportionalDataModule
from mtl.data.interval_order import Interval, IntervalOrder, proportional
from mtl.errors import UserError
from mtl.methods import MultiHead
from mtl.tasks import Task
from tests.contracts.orders import streams

NEEDS = lists(one_of(none(), floats(0, 1e6)), min_size=1, max_size=9)


def scheme(tasks: list[Task], backbone: str, **args: Any) -> LossProportionalDataModule:
    usual: dict[str, Any] = {"batch_size": 4, "max_length": 16, "interval": 5}
    data = LossProportionalDataModule(**usual | args, tasks=tasks, backbone=backbone)
    data.setup("fit")
    return data


def losses(*values: float) -> dict[str, torch.Tensor]:
    return dict(zip(("mood", "same", "near"), map(torch.tensor, values), strict=True))


@given(needs=NEEDS)
def test_known_tasks_share_in_proportion_and_unknown_ones_get_an_equal_part(
    needs: list[float | None],
) -> None:
    probabilities = proportional(needs)
    known = [need for need in needs if need is not None]
    assert probabilities.sum() == pytest.approx(1)
    for need, probability in zip(needs, probabilities, strict=True):
        if need is None or not sum(known):
            assert probability == pytest.approx(1 / len(needs))
        else:
            expected = need / sum(known) * len(known) / len(needs)
            assert probability == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(
    needs=lists(floats(0, 10), min_size=1, max_size=6),
    length=integers(1, 60),
    steps=integers(1, 150),
    number=integers(0, 9),
    seed=integers(0, 99),
)
def test_an_interval_gives_a_task_its_expected_batches_rounded_up_or_down(
    needs: list[float], length: int, steps: int, number: int, seed: int
) -> None:
    number = min(number, (steps - 1) // length)
    tasks = streams([20 + task for task in range(len(needs))], 4)
    before = np.arange(len(needs))
    interval = Interval(1, number, proportional(needs), before)
    order = IntervalOrder(tasks, interval, length, steps, seed)
    end = min(steps, (number + 1) * length)
    given = before.copy()
    for step in range(number * length, end):
        [draw] = order(1, step)
        assert draw.examples.tolist() == tasks[draw.task](int(given[draw.task])).examples.tolist()
        given[draw.task] += 1
    assert (given - before).tolist() == order.counts.tolist()
    expected = proportional(needs) * (end - number * length)
    assert (order.counts >= np.floor(expected - 1e-5)).all()
    assert (order.counts <= np.ceil(expected + 1e-5)).all()
    for step in (number * length - 1, end):
        with pytest.raises(ValueError, match="not in interval"):
            order(1, step)


def test_tasks_are_drawn_with_their_probabilities_at_every_step_of_an_interval() -> None:
    tasks, probabilities = streams([30, 30, 30], 4), proportional([0.5, 2.0, 1.0])
    first = []
    for epoch in range(2000):
        interval = Interval(epoch, 0, probabilities, np.zeros(3, np.int64))
        first.append(IntervalOrder(tasks, interval, 5, 5, seed=1)(epoch, 2)[0].task)
    assert stats.chisquare(np.bincount(first), probabilities * 2000).pvalue > 1e-3


def test_probabilities_follow_the_running_means_of_the_losses(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = scheme(tasks, backbone, smoothing=0.75)
    data.on_interval_start(0, 0)
    assert data.order(data.streams()).interval.probabilities.tolist() == [1 / 3] * 3
    data.on_step_end(losses(1.0, 2.0, 3.0))
    data.on_step_end({"same": torch.tensor(4.0)})
    data.on_step_end(losses(0.0, 4.0, 3.0))
    means = [0.75 * 1, 0.75 * (0.75 * 2 + 0.25 * 4) + 0.25 * 4, 3.0]
    data.on_interval_start(0, 1)
    probabilities = data.order(data.streams()).interval.probabilities
    np.testing.assert_allclose(probabilities, np.array(means) / sum(means), rtol=1e-6)
    shown = {name: float(value) for name, value in data.measured.items()}
    assert shown["sampling_probability/near"] == pytest.approx(3 / sum(means))


def test_probabilities_stay_the_same_within_an_interval(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = scheme(tasks, backbone)
    data.on_interval_start(0, 0)
    data.on_step_end(losses(1.0, 2.0, 3.0))
    data.on_interval_start(0, 0)  # a run that resumes here
    assert data.order(data.streams()).interval.probabilities.tolist() == [1 / 3] * 3


def test_by_score_probabilities_follow_the_gap_to_the_reference(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = scheme(tasks, backbone, by="score", reference={"mood": 0.9, "near": 0.5})
    data.on_validation_scores({"mood": 0.6, "same": 0.5, "near": 0.7})
    data.on_step_end(losses(9.0, 9.0, 9.0))
    data.on_interval_start(0, 1)
    gaps = np.array([0.9 - 0.6, 1 - 0.5, 0.0])
    probabilities = data.order(data.streams()).interval.probabilities
    np.testing.assert_allclose(probabilities, gaps / gaps.sum(), rtol=1e-6)


def test_the_state_continues_the_draws_wherever_it_is_saved(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    whole, drawn = scheme(tasks, backbone), []
    saved = []
    for step in range(13):
        if step % 5 == 0:
            whole.on_interval_start(0, step // 5)
        drawn.append(whole.order(whole.streams())(0, step)[0].examples.tolist())
        whole.on_step_end(losses(1.0, 0.1 * step, 2.0))
        saved.append(whole.state_dict())
    for last, state in enumerate(saved[:-1]):
        resumed = scheme(tasks, backbone)
        torch.save(state, "state.pt")
        resumed.load_state_dict(torch.load("state.pt", weights_only=True))
        for step in range(last + 1, 13):
            if step % 5 == 0 or step == last + 1:
                resumed.on_interval_start(0, step // 5)
            order = resumed.order(resumed.streams())
            assert order(0, step)[0].examples.tolist() == drawn[step]
            resumed.on_step_end(losses(1.0, 0.1 * step, 2.0))


class Recorder(Callback):
    """Records each batch's examples, and each task's loss after each update."""

    def __init__(self) -> None:
        self.drawn: list[tuple[str, list[int]]] = []
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        [segment] = batch.segments
        self.drawn.append((segment.task, segment.ids.tolist()))
        self.losses.append(float(pl_module.losses[segment.task].detach()))


def fitted(data: LossProportionalDataModule, backbone: str, **trainer: Any) -> Recorder:
    torch.manual_seed(0)
    recorder = Recorder()
    silent = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    quiet: dict[str, Any] = dict.fromkeys(silent, False) | {"limit_val_batches": 0}
    quiet |= {"accelerator": "cpu", "use_distributed_sampler": False}
    module = MultiHead(tasks=data.tasks, backbone=backbone, lr=1e-3)
    Trainer(callbacks=[recorder], **quiet | {"max_epochs": 1} | trainer).fit(module, data)
    return recorder


def test_worker_processes_draw_by_the_losses_of_the_steps_before(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    alone, helped = (
        fitted(scheme(tasks, backbone, steps=23, num_workers=workers), backbone)
        for workers in (0, 2)
    )
    assert len(alone.drawn) == 23
    assert alone.drawn == helped.drawn


@pytest.mark.parametrize("accumulated", [1, 2])
def test_training_samples_by_the_losses_that_it_saw(
    accumulated: int, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = scheme(tasks, backbone, steps=20, interval=10, smoothing=0.5)
    recorder = fitted(data, backbone, accumulate_grad_batches=accumulated)
    means: dict[str, float] = {}
    for start in range(0, 10, accumulated):
        window: dict[str, list[float]] = {}
        for step in range(start, start + accumulated):
            window.setdefault(recorder.drawn[step][0], []).append(recorder.losses[step])
        for task, values in window.items():
            mean = sum(values) / len(values)
            means[task] = 0.5 * means[task] + 0.5 * mean if task in means else mean
    expected = np.array([means["mood"], means["same"], means["near"]])
    probabilities = data.order(data.streams()).interval.probabilities
    np.testing.assert_allclose(probabilities, expected / expected.sum(), rtol=1e-5)


def test_no_example_is_skipped_or_repeated_within_a_pass(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    recorder = fitted(scheme(tasks, backbone, num_workers=2, interval=4), backbone, max_epochs=2)
    for task in tasks:
        examples = [row for name, ids in recorder.drawn if name == task.name for row in ids]
        assert np.ptp(np.bincount(examples, minlength=40 + len(task.name))) <= 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"interval": 0}, "interval 0: give 1 or more"),
        ({"smoothing": 1.0}, "smoothing 1.0: give 0 or more, and less than 1"),
        ({"smoothing": -0.1}, "smoothing -0.1"),
        ({"steps": 0}, "steps 0: give 1 or more"),
        ({"reference": {"mood": 0.9}}, "reference: .* --data.by score only"),
        ({"by": "score", "reference": {"mod": 0.9}}, "unknown task 'mod'.*Did you mean 'mood'"),
        ({"by": "score", "reference": {"mood": 90.0}}, "mood: 90.0 is not a score"),
    ],
)
def test_options_out_of_range_are_refused(
    args: dict[str, Any], message: str, tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    with pytest.raises(UserError, match=message):
        scheme(tasks, backbone, **args)


def test_a_loss_that_is_not_finite_ends_the_run(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    data = scheme(tasks, backbone)
    data.on_step_end(losses(1.0, float("nan"), 1.0))
    with pytest.raises(UserError, match="training loss of task 'same' is nan.*--model.lr"):
        data.on_interval_start(0, 1)


def test_an_epoch_has_as_many_steps_as_all_tasks_have_batches(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    assert len(scheme(tasks, backbone).train_dataloader()) == 3 * 11  # 44 examples in batches of 4
    assert len(scheme(tasks, backbone, steps=7).train_dataloader()) == 7
