from pathlib import Path

import pytest
import torch

from mtl.__main__ import main
from mtl.methods.warm_start import match_weights
from mtl.tasks import Task

QUICK = [
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.enable_model_summary",
    "false",
]


def fit(files: list[Path], backbone: str, out: str, *more: str) -> None:
    arguments = [
        "fit",
        *[f"--tasks+={file}" for file in files],
        "--backbone",
        backbone,
        "--out",
        out,
        "--data.batch_size",
        "8",
    ]
    main([*arguments, "--data.max_length", "16", "--trainer.max_epochs", "1", *QUICK, *more])


def weights(out: str) -> dict[str, torch.Tensor]:
    return torch.load(f"{out}/checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_a_single_task_run_starts_from_the_weights_of_a_multi_task_run(
    task_files: list[Path], backbone: str, in_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(task_files, backbone, "shared", "--model.lr", "1e-2")
    # With a negligible learning rate the saved weights are the initial ones.
    fit(task_files[:1], backbone, "one", "--model.init_from", "shared", "--model.lr", "1e-30")
    theirs = torch.load("shared/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    for name, value in weights("one").items():
        torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=0)
    fit(
        task_files[:1],
        backbone,
        "other",
        "--model.init_from",
        "shared",
        "--model",
        "Joint",
        "--model.lr",
        "1e-30",
    )
    assert "newly initialized: head.1" in caplog.text


def test_a_resumed_or_tested_run_does_not_read_the_other_run(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit(task_files, backbone, "shared")
    fit(task_files[:1], backbone, "one", "--model.init_from", "shared")
    Path("shared").rename("gone")
    main(["test", "--ckpt_path", "one", *QUICK])
    main(["fit", "--ckpt_path", "one", "--trainer.max_epochs", "2", *QUICK])


def test_a_checkpoint_without_matching_encoder_weights_is_rejected(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    checkpoint = {
        "state_dict": {"encoder.other": torch.zeros(1)},
        "hyper_parameters": {"_class_path": "mtl.methods.MultiHead", "tasks": []},
    }
    torch.save(checkpoint, "run/checkpoints/best.ckpt")
    with pytest.raises(SystemExit):
        fit(task_files, backbone, "one", "--model.init_from", "run")
    assert (
        "no encoder weight of run/checkpoints/best.ckpt fits this model" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("first", "then"), [("MultiHead", "Separate"), ("PromptBasedFineTuning", "MultiHead")]
)
def test_backbone_weights_match_across_methods(
    first: str,
    then: str,
    task_files: list[Path],
    masked_backbone: str,
    in_tmp: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    encoding = ["--data.encoding", "Prompted"] if first == "PromptBasedFineTuning" else []
    fit(task_files[:2], masked_backbone, "first", "--model", first, "--model.lr", "1e-2", *encoding)
    fit(
        task_files[:2],
        masked_backbone,
        "then",
        "--model",
        then,
        "--model.init_from",
        "first",
        "--model.lr",
        "1e-30",
    )
    theirs, ours = (
        torch.load(f"{out}/checkpoints/best.ckpt", weights_only=True)["state_dict"]
        for out in ("first", "then")
    )
    weight = "encoder.layer.1.output.dense.weight"
    one = theirs[
        f"encoder.backbone.{weight}" if first == "MultiHead" else f"encoder.model.bert.{weight}"
    ]
    for name in (
        [f"encoders.{task}.backbone.{weight}" for task in ("mood", "same")]
        if then == "Separate"
        else [f"encoder.backbone.{weight}"]
    ):
        torch.testing.assert_close(ours[name], one, atol=1e-6, rtol=0)
    unused = caplog.text.rpartition("unused: ")[2]
    assert (
        unused.startswith("none") if then == "Separate" else "encoder.model" in unused
    )  # the masked-LM head


def test_a_shared_classifier_matches_heads_of_tasks_with_its_classes() -> None:
    def task(name: str, *classes: str) -> Task:
        return Task.read({"name": name, "texts": ["a"], "classes": list(classes)})

    shared = {"head.1.weight": torch.ones(2, 3)}
    ours = {"heads.one.1.weight": torch.zeros(2, 3)}

    def matches(target: Task, *theirs: Task) -> bool:
        return bool(match_weights(ours, shared, [target], list(theirs)).weights)

    assert matches(task("one", "no", "yes"), task("other", "no", "yes"))
    # The task was one of those that shared the classifier.
    assert matches(task("one", "no", "yes"), task("one", "no", "yes"), task("two", "bad", "good"))
    assert not matches(task("one", "no", "yes"), task("two", "bad", "good"))
    assert not matches(task("one", "no", "yes"))
