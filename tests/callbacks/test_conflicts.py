from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mtl.__main__ import main
from mtl.callbacks.conflicts import cosine

CONFIGS = Path(__file__).parents[2] / "configs"


def fit(folder: str, task_files: list[Path], backbone: str, *words: str) -> EventAccumulator:
    given = [
        "fit",
        *[f"--tasks+={file}" for file in task_files],
        "--backbone",
        backbone,
        "--trainer.accelerator",
        "cpu",
    ]
    given += [
        "-c",
        str(CONFIGS / "sampling/mixed.yaml"),
        "--trainer.enable_progress_bar",
        "false",
        "--out",
        folder,
    ]
    main(
        [
            *given,
            "--trainer.max_epochs",
            "1",
            "--trainer.log_every_n_steps",
            "1",
            "--data.batch_size",
            "4",
            *words,
        ]
    )
    events = EventAccumulator(folder, size_guidance={"images": 0})
    events.Reload()
    return events


def weights(folder: str) -> dict[str, torch.Tensor]:
    kept: dict[str, Any] = torch.load(Path(folder) / "checkpoints/last.ckpt", weights_only=True)
    return kept["state_dict"]


def test_cosines_of_vectors() -> None:
    rows = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    found = cosine(rows @ rows.t())
    assert found[0, 1] == pytest.approx(0.5**0.5)
    assert found[2].tolist() == [0.0, 0.0, 0.0]


def test_surgery_logs_cosines_norms_and_weights_and_draws_them(
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


def test_plain_training_is_measured_without_being_changed(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit("plain", task_files, backbone)
    callback = ["--trainer.callbacks+=GradientConflicts", "--trainer.callbacks.every_n_steps", "2"]
    events = fit("measured", task_files, backbone, *callback)
    assert [event.step for event in events.Scalars("conflicts/share")][:2] == [0, 2]
    for name, value in weights("plain").items():
        torch.testing.assert_close(weights("measured")[name], value, atol=1e-6, rtol=1e-5)


def test_measured_cosines_are_those_of_the_tasks_gradients(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    from mtl.balancing import Sum
    from mtl.balancing.gradient_probe import GradientProbe
    from mtl.methods import MultiHead
    from tests.balancing.test_surgery import by_hand, losses_of, made, mixed

    method = made(MultiHead, backbone, Sum())  # type: ignore[arg-type]
    measured, batch = GradientProbe(method), mixed()
    measured.start(batch)
    measured.measure(losses_of(method, batch))
    assert all(parameter.grad is None for parameter in method.parameters())
    measured.end()
    _, rows, _ = by_hand(method, batch)
    whole = torch.stack(list(measured.gramians.values())).sum(0)
    torch.testing.assert_close(whole, rows @ rows.t(), atol=1e-5, rtol=1e-5)
    assert set(measured.gramians) == {"embeddings", "layer 0", "layer 1"}


@pytest.mark.parametrize(
    "more",
    [
        ["--model.gradient_checkpointing", "true"],
        ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs"],
    ],
)
def test_measuring_works_with_checkpointed_layers_and_other_loggers(
    more: list[str], task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    words = [
        "fit",
        *[f"--tasks+={file}" for file in task_files],
        "--backbone",
        backbone,
        "--trainer.accelerator",
        "cpu",
        *more,
    ]
    words += [
        "-c",
        str(CONFIGS / "sampling/mixed.yaml"),
        "--trainer.enable_progress_bar",
        "false",
        "--trainer.max_epochs",
        "1",
    ]
    main(
        [
            *words,
            "--data.batch_size",
            "4",
            "--trainer.callbacks+=GradientConflicts",
            "--trainer.callbacks.every_n_steps",
            "2",
        ]
    )


def test_what_cannot_be_kept_by_task_is_measured_the_slow_way(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    from mtl.balancing import Sum
    from mtl.balancing.gradient_probe import GradientProbe
    from mtl.methods import MultiHead
    from tests.balancing.test_surgery import losses_of, made, mixed

    method, batch = made(MultiHead, backbone, Sum()), mixed()  # type: ignore[arg-type]
    fast, slow = GradientProbe(method), None
    fast.start(batch)
    fast.measure(losses_of(method, batch))
    expected = torch.stack(list(fast.gramians.values())).sum(0)
    fast.end()
    slow = GradientProbe(method)
    slow.start(batch)
    losses = losses_of(method, batch)
    slow._capture._state.uncaptured_layers.add("encoder.backbone.embeddings.word_embeddings")
    with pytest.warns(UserWarning, match="a backward pass for each task"):
        slow.measure(losses)
    torch.testing.assert_close(slow.gramians["all"], expected, atol=1e-5, rtol=1e-4)
    slow.end()
