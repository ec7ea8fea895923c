from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtl.__main__ import main
from mtl.balancing import Sum
from mtl.balancing.gradient_probe import GradientProbe
from mtl.callbacks.conflicts import cosine, summarize
from mtl.methods import MultiHead
from tests.balancing.helpers import (
    gradients_by_separate_passes,
    make_method,
    mixed_batch,
    task_losses,
)

CONFIGS = Path(__file__).parents[2] / "configs"


def fit(folder: str, task_files: list[Path], backbone: str, *options: str) -> EventAccumulator:
    arguments = [
        "fit",
        *[f"--tasks+={file}" for file in task_files],
        "--backbone",
        backbone,
        "--trainer.accelerator",
        "cpu",
    ]
    arguments += [
        "-c",
        str(CONFIGS / "sampling/mixed.yaml"),
        "--trainer.enable_progress_bar",
        "false",
        "--out",
        folder,
    ]
    main(
        [
            *arguments,
            "--trainer.max_epochs",
            "1",
            "--trainer.log_every_n_steps",
            "1",
            "--data.batch_size",
            "4",
            *options,
        ]
    )
    events = EventAccumulator(folder, size_guidance={"images": 0})
    events.Reload()
    return events


def weights(folder: str) -> dict[str, torch.Tensor]:
    checkpoint: dict[str, Any] = torch.load(
        Path(folder) / "checkpoints/last.ckpt", weights_only=True
    )
    return checkpoint["state_dict"]


def test_cosines_are_computed_from_inner_products_and_are_zero_for_a_zero_vector() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    cosines = cosine(vectors @ vectors.t())
    assert cosines[0, 1] == pytest.approx(0.5**0.5)
    assert cosines[2].tolist() == [0.0, 0.0, 0.0]


def test_norms_are_compared_and_the_condition_number_is_that_of_the_gradients() -> None:
    vectors = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 0.5]], dtype=torch.double)
    values = summarize(vectors @ vectors.t(), ["a", "b"], [(0, 1)])
    first, second = vectors.norm(dim=1).tolist()
    similarity = 2 * first * second / (first**2 + second**2)
    assert values["conflicts/norm_similarity/a-b"] == pytest.approx(similarity)
    assert values["conflicts/condition_number"] == pytest.approx(np.linalg.cond(vectors.numpy()))
    parallel = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
    assert "conflicts/condition_number" not in summarize(parallel, ["a", "b"], [(0, 1)])


def test_surgery_logs_and_plots_cosines_norms_and_weights(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    events = fit("run", task_files, backbone, "-c", str(CONFIGS / "balancing/pcgrad.yaml"))
    tags = events.Tags()
    for name in (
        "cosine/mood-same",
        "cosine/mood-near",
        "cosine/same-near",
        "share",
        "norm/mood",
        "weight/near",
    ):
        assert f"conflicts/{name}" in tags["scalars"]
    assert "conflicts" in tags["images"]
    for event in events.Scalars("conflicts/cosine/mood-same"):
        assert -1 <= event.value <= 1


def test_measuring_does_not_change_the_training(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit("plain", task_files, backbone)
    callback = ["--trainer.callbacks+=GradientConflicts", "--trainer.callbacks.every_n_steps", "2"]
    events = fit("measured", task_files, backbone, *callback)
    assert [event.step for event in events.Scalars("conflicts/share")][:2] == [0, 2]
    for name, value in weights("plain").items():
        torch.testing.assert_close(weights("measured")[name], value, atol=1e-6, rtol=1e-5)


def test_measured_inner_products_are_those_of_the_tasks_gradients(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    method = make_method(MultiHead, backbone, Sum())
    probe, batch = GradientProbe(method), mixed_batch()
    probe.start(batch)
    probe.measure(task_losses(method, batch))
    assert all(parameter.grad is None for parameter in method.parameters())
    probe.end()
    _, rows, _ = gradients_by_separate_passes(method, batch)
    total = torch.stack(list(probe.gramians.values())).sum(0)
    torch.testing.assert_close(total, rows @ rows.t(), atol=1e-5, rtol=1e-5)
    assert set(probe.gramians) == {"embeddings", "layer 0", "layer 1"}


@pytest.mark.parametrize(
    "options",
    [
        ["--model.gradient_checkpointing", "true"],
        ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs"],
    ],
)
def test_measuring_works_with_gradient_checkpointing_and_with_other_loggers(
    options: list[str], task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    arguments = [
        "fit",
        *[f"--tasks+={file}" for file in task_files],
        "--backbone",
        backbone,
        "--trainer.accelerator",
        "cpu",
        *options,
    ]
    arguments += [
        "-c",
        str(CONFIGS / "sampling/mixed.yaml"),
        "--trainer.enable_progress_bar",
        "false",
        "--trainer.max_epochs",
        "1",
    ]
    main(
        [
            *arguments,
            "--data.batch_size",
            "4",
            "--trainer.callbacks+=GradientConflicts",
            "--trainer.callbacks.every_n_steps",
            "2",
        ]
    )


def test_uncaptured_layers_are_measured_by_separate_passes(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    method, batch = make_method(MultiHead, backbone, Sum()), mixed_batch()
    fast = GradientProbe(method)
    fast.start(batch)
    fast.measure(task_losses(method, batch))
    expected = torch.stack(list(fast.gramians.values())).sum(0)
    fast.end()
    slow = GradientProbe(method)
    slow.start(batch)
    losses = task_losses(method, batch)
    slow._capture._state.uncaptured_layers.add("encoder.backbone.embeddings.word_embeddings")
    with pytest.warns(UserWarning, match="a backward pass for each task"):
        slow.measure(losses)
    torch.testing.assert_close(slow.gramians["all"], expected, atol=1e-5, rtol=1e-4)
    slow.end()
