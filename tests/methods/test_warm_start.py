from pathlib import Path

import pytest
import torch

from mtl.__main__ import main
from mtl.methods.warm_start import start_of
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
    words = [
        "fit",
        *[f"--tasks+={file}" for file in files],
        "--backbone",
        backbone,
        "--out",
        out,
        "--data.batch_size",
        "8",
    ]
    main([*words, "--data.max_length", "16", "--trainer.max_epochs", "1", *QUICK, *more])


def weights(out: str) -> dict[str, torch.Tensor]:
    return torch.load(f"{out}/checkpoints/last.ckpt", weights_only=True)["state_dict"]


def test_the_second_stage_starts_from_the_shared_model(
    task_files: list[Path], backbone: str, in_tmp: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(task_files, backbone, "shared", "--model.lr", "1e-2")
    # Without a step to speak of, what was loaded is what is saved.
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
    assert "starting anew: head.1" in caplog.text


def test_a_resumed_or_tested_run_needs_no_other(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit(task_files, backbone, "shared")
    fit(task_files[:1], backbone, "one", "--model.init_from", "shared")
    Path("shared").rename("gone")
    main(["test", "--ckpt_path", "one", *QUICK])
    main(["fit", "--ckpt_path", "one", "--trainer.max_epochs", "2", *QUICK])


def test_a_checkpoint_of_another_backbone_is_refused(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    torch.save({"state_dict": {"encoder.other": torch.zeros(1)}}, "run/checkpoints/best.ckpt")
    with pytest.raises(SystemExit):
        fit(task_files, backbone, "one", "--model.init_from", "run")
    assert (
        "no weight of run/checkpoints/best.ckpt fits this model's encoder"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("first", "then"), [("MultiHead", "Separate"), ("PromptBasedFineTuning", "MultiHead")]
)
def test_the_backbone_is_the_same_part_in_every_method_that_has_it_whole(
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
    left = caplog.text.rpartition("left there: ")[2]
    assert (
        left.startswith("nothing") if then == "Separate" else "encoder.model" in left
    )  # the masked-LM head


def test_a_head_is_taken_where_the_classes_are_those_that_were_shared() -> None:
    def task(name: str, *classes: str) -> Task:
        return Task.read({"name": name, "texts": ["a"], "classes": list(classes)})

    shared = {"head.1.weight": torch.ones(2, 3)}
    ours = {"heads.one.1.weight": torch.zeros(2, 3)}

    def taken(own: Task, *theirs: Task) -> bool:
        return bool(start_of(ours, shared, [own], list(theirs)).taken)

    assert taken(task("one", "no", "yes"), task("other", "no", "yes"))
    assert taken(
        task("one", "no", "yes"), task("one", "no", "yes"), task("two", "bad", "good")
    )  # it was among them
    assert not taken(task("one", "no", "yes"), task("two", "bad", "good"))
    assert not taken(task("one", "no", "yes"))
