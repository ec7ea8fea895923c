import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.errors import LocalTokenNotFoundError
from torchjd.aggregation import PCGrad
from torchjd.scalarization import UW
from transformers import AutoModelForMaskedLM, AutoTokenizer

import mtl
import mtl.cli.export as command
import mtl.export.transformers_format as transformers_format
from mtl.__main__ import main
from mtl.balancing import Scalarized, Surgery
from mtl.errors import UserError
from mtl.export.classifier import build_classifier
from mtl.export.directory import complete_or_absent
from mtl.export.verification import sample_batch
from mtl.inference.predictor import Predictor
from mtl.methods import (
    CAMTL,
    Adapters,
    LoRA,
    MetaFineTuning,
    MultiHead,
    MultiTaskModule,
    PALs,
    PromptBasedFineTuning,
    Separate,
)
from mtl.regularizers import SMART
from mtl.tasks import Task
from tests.export.hub import hub
from tests.export.runs import SAN_HEADS, export, hidden_layers, save_run

CONFIGS = Path(__file__).parents[2] / "configs"
EVERY: list[tuple[type[MultiTaskModule], dict[str, Any]]] = [
    (CAMTL, {"max_length": 24}),
    (CAMTL, {"max_length": 24, "variant": "large", "freeze_layers": "0-0"}),
    (PALs, {}),
    (Adapters, {"per_task": True}),
    (LoRA, {"per_task": True}),
    (MultiHead, {**SAN_HEADS, "losses": {"near": "cosine"}}),
    (MultiHead, {"pooling": "mean", **hidden_layers(2)}),
    (Separate, {}),
    (PromptBasedFineTuning, {}),
]


@pytest.mark.parametrize(("method", "args"), EVERY)
def test_the_native_format_of_every_method_loads_without_backbone_and_pickle(
    method: type[MultiTaskModule],
    args: dict[str, Any],
    tasks: list[Task],
    backbone: str,
    masked_backbone: str,
    tmp_path: Path,
) -> None:
    name = masked_backbone if method is PromptBasedFineTuning else backbone
    run = save_run(tmp_path / "run", method, tasks, name, **args)
    export(run, tmp_path / "out", "--format", "mtl")
    assert not [
        path for path in (tmp_path / "out").rglob("*") if path.suffix in (".ckpt", ".bin", ".pt")
    ]
    assert str(tmp_path) not in "".join(
        path.read_text() for path in (tmp_path / "out").rglob("*.json")
    )
    before, after = Predictor(run, device="cpu"), Predictor(tmp_path / "out", device="cpu")
    assert after.metrics["test"] == before.metrics["test"]
    assert list(after.tasks) == ["mood", "same", "near"]
    for task in tasks:
        texts = [
            ("the cat", "a dog sees it")[: len(task.texts)],
            ("quick slow train", "food")[: len(task.texts)],
        ]
        trained, exported = (
            each.module(sample_batch(each, each.tasks[task.name], texts))[task.name]
            for each in (before, after)
        )
        torch.testing.assert_close(exported, trained, rtol=1e-6, atol=1e-6)
    (prediction,), (reloaded,) = (
        mtl.load(path, "cpu").predict(["a cat"], task="mood") for path in (run, tmp_path / "out")
    )
    assert reloaded.probabilities == pytest.approx(prediction.probabilities)


def test_scores_of_training_examples_are_not_exported(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(
        tmp_path / "run",
        MetaFineTuning,
        tasks[:1],
        backbone,
        scores=tmp_path / "scores",
        layers=[0],
    )
    export(run, tmp_path / "out", "--format", "mtl")
    assert json.loads((tmp_path / "out/mtl.json").read_text())["arguments"]["scores"] == "none"


def test_a_method_with_a_task_specific_encoder_is_exported_in_the_native_format(
    tasks: list[Task], backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run(tmp_path / "run", PALs, tasks, backbone)
    with pytest.raises(
        UserError,
        match="PALs cannot be exported for transformers: .*; export it with --format mtl",
    ):
        export(run, tmp_path / "out", "--format", "transformers", "--task", "mood")
    export(run, tmp_path / "out")
    assert "for mtl.load" in capsys.readouterr().out
    assert (tmp_path / "out/mtl.json").is_file()


@pytest.mark.parametrize("new_head", [False, True])
def test_a_prompt_based_method_is_exported_as_a_masked_language_model(
    new_head: bool, tasks: list[Task], masked_backbone: str, tmp_path: Path
) -> None:
    run = save_run(
        tmp_path / "run", PromptBasedFineTuning, tasks, masked_backbone, new_head=new_head
    )
    export(run, tmp_path / "out", "--task", "mood")
    predictor = Predictor(run, device="cpu")
    batch = sample_batch(predictor, predictor.tasks["mood"], [("the cat likes food",)])
    trained = predictor.module(batch)["mood"][0]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    tokens = tokenizer("the cat likes food it was [MASK].", return_tensors="pt")
    logits = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")(**tokens).logits[0]
    mask = tokens["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    exported = logits[mask, tokenizer.convert_tokens_to_ids(["slow", "quick"])]
    torch.testing.assert_close(exported, trained, rtol=1e-6, atol=2e-6)
    card = (tmp_path / "out/README.md").read_text()
    assert "`{text} it was {mask}.`" in card and "bad: `slow`, good: `quick`" in card


def test_the_model_card_describes_the_task_the_scores_and_the_training(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    export(run, tmp_path / "out", "--task", "same")
    card = (tmp_path / "out/README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n")
    assert (
        "| same | test | 7 | accuracy 0.6250 |" in card
        and "mood" not in card.partition("```yaml")[0]
    )
    for part in (
        "| seed | 3 |",
        "| sampling | RoundRobinDataModule |",
        "mtl 0.1.0",
        "no, maybe, yes",
        "not for further training",
    ):
        assert part in card
    assert str(tmp_path) not in card
    # As the hub reads it.
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    (result,) = data.eval_results or []
    assert (result.task_type, result.task_name) == ("text-classification", "same")
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.625)
    assert (result.dataset_name, result.dataset_split) == ("same (local files)", "test")


def test_an_export_whose_logits_differ_is_deleted(
    tasks: list[Task], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)

    def wrong(*args: Any) -> Any:
        model: Any = build_classifier(*args)
        model.classifier.bias.data += 1e-3
        return model

    monkeypatch.setattr(transformers_format, "build_classifier", wrong)
    with pytest.raises(
        UserError,
        match="differ from those of the trained model by up to 1.0e-03; nothing was written",
    ):
        export(run, tmp_path / "out", "--task", "mood")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), complete_or_absent(tmp_path / "out") as temporary:
        (temporary / "half").write_text("")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with complete_or_absent(tmp_path / "out") as temporary:
        (temporary / "all").write_text("")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["all"]


def test_options_that_cannot_succeed_are_rejected_before_the_export(
    tasks: list[Task], backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    for options, message in (
        ((), "choose one with --task mood or same or near"),
        (("--task", "moot"), "Choose from: mood, same, near. Did you mean 'mood'?"),
        (("--task", "mood", "--push", "a/b/c"), "--push a/b/c: Repo id must be"),
    ):
        with pytest.raises(SystemExit):
            main(["export", "--ckpt_path", str(run), "--out", str(tmp_path / "out"), *options])
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="already exists and is not an empty folder"):
        export(run, run)


@pytest.mark.parametrize(
    "args",
    [
        {"balancer": Surgery(PCGrad)},
        {"balancer": Scalarized(UW), "regularizer": SMART()},
        {"regularizer": SMART(target="pooled", proximal=0.0)},
    ],
)
def test_arguments_that_matter_in_training_only_are_not_exported(
    args: dict[str, Any], tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone, **args)
    predictions = mtl.load(run).predict(["good film"], task="mood")
    export(run, tmp_path / "plain", "--task", "mood")
    export(run, tmp_path / "native", "--format", "mtl")
    assert mtl.load(tmp_path / "native").predict(["good film"], task="mood") == predictions


def test_the_model_card_has_the_configuration_of_the_run(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    configs = [
        argument
        for name in ("sampling/mixed", "balancing/pcgrad")
        for argument in ("-c", str(CONFIGS / f"{name}.yaml"))
    ]
    tasks = [f"--tasks+={file}" for file in task_files[:2]]
    quick = [
        "--trainer.accelerator",
        "cpu",
        "--trainer.max_epochs",
        "1",
        "--data.batch_size",
        "4",
        "--data.max_length",
        "24",
    ]
    main(["fit", *tasks, "--backbone", backbone, *configs, *quick, "--out", "run"])
    export(Path("run"), Path("out"), "--task", "mood")
    card = Path("out/README.md").read_text()
    configuration = yaml.safe_load(card.partition("```yaml\n")[2].partition("```")[0])
    assert (
        configuration["tasks"] == ["mood", "same"]
        and configuration["data"]["batch_size"] == 4
        and configuration["data"]["mixed"] is True
    )
    assert (
        configuration["model"]["balancer"]["init_args"]["weighting"] == "torchjd.aggregation.PCGrad"
    )
    assert str(in_tmp) not in card and backbone not in card


def test_onnx_without_its_libraries_is_rejected_with_the_command_that_installs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "onnxscript" else name)
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.ckpt").touch()
    with pytest.raises(UserError, match=r"--onnx needs onnxscript: pip install 'mtl-text\[onnx\]'"):
        export(tmp_path / "run", tmp_path / "out", "--onnx")


def test_a_push_uploads_the_complete_directory(
    tasks: list[Task],
    backbone: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_OFFLINE", False
    )  # `mtl doctor` sets it if it cannot reach the hub
    with hub() as server:
        monkeypatch.setattr(
            "mtl.export.hub_upload.HfApi", partial(HfApi, endpoint=server.address, token="hf_mine")
        )
        export(run, tmp_path / "out", "--task", "mood", "--push", "me/mood")
    assert server.files["me/mood"] == {
        path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()
    }
    assert "model.safetensors" in server.files["me/mood"] and server.messages == ["mtl export: out"]
    assert set(server.tokens) == {"Bearer hf_mine"}
    assert f"pushed: {server.address}/me/mood" in capsys.readouterr().out


def test_a_push_that_fails_keeps_the_directory(
    tasks: list[Task], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise LocalTokenNotFoundError("no token")

    monkeypatch.setattr(HfApi, "create_repo", refuse)
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    with pytest.raises(
        UserError, match=re.escape("--push me/mood: no token (log in with `hf auth login`)")
    ):
        export(run, tmp_path / "out", "--task", "mood", "--push", "me/mood")
    assert (tmp_path / "out/model.safetensors").is_file()


def test_an_incomplete_directory_is_rejected(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    export(run, tmp_path / "out", "--format", "mtl")
    (tmp_path / "out/model.safetensors").unlink()
    with pytest.raises(
        UserError, match="model.safetensors is missing; copy the complete directory"
    ):
        Predictor(tmp_path / "out")
    manifest = tmp_path / "out/mtl.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(
        UserError,
        match="format 9 is not supported, this version of mtl reads format 1; install a newer",
    ):
        Predictor(tmp_path / "out")
