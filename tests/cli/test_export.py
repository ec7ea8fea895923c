import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalTokenNotFoundError
from torchjd.aggregation import PCGrad
from torchjd.scalarization import UW
from transformers import AutoModelForMaskedLM, AutoTokenizer

import mtl
import mtl.cli.export as command
from mtl.__main__ import main
from mtl.balancing import Scalarized, Surgery
from mtl.cli.export import export, whole_or_not
from mtl.errors import UserError
from mtl.export.classifier import classifier
from mtl.export.verification import batch_of
from mtl.inference.engine import Label
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
from tests.export.runs import save_run

CONFIGS = Path(__file__).parents[2] / "configs"
EVERY: list[tuple[type[MultiTaskModule], dict[str, Any]]] = [
    (CAMTL, {"max_length": 24}),
    (CAMTL, {"max_length": 24, "variant": "large", "freeze_layers": "0-0"}),
    (PALs, {}),
    (Adapters, {"per_task": True}),
    (LoRA, {"per_task": True}),
    (MultiHead, {"heads": "san", "losses": {"near": "cosine"}}),
    (MultiHead, {"pooling": "mean", "hidden_layers": 2}),
    (Separate, {}),
    (PromptBasedFineTuning, {}),
]


def words(run: Path, out: Path, *more: str) -> list[str]:
    return ["--ckpt_path", str(run), "--out", str(out), *more]


@pytest.mark.parametrize(("method", "args"), EVERY)
def test_every_method_is_read_again_without_backbone_and_pickle(
    method: type[MultiTaskModule],
    args: dict[str, Any],
    tasks: list[Task],
    backbone: str,
    masked_backbone: str,
    tmp_path: Path,
) -> None:
    own = masked_backbone if method is PromptBasedFineTuning else backbone
    run = save_run(tmp_path / "run", method, tasks, own, **args)
    export(words(run, tmp_path / "out", "--format", "mtl"))
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
        ours, theirs = (
            each.module(batch_of(each, each.tasks[task.name], texts))[task.name]
            for each in (before, after)
        )
        torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=1e-6)
    (one,), (other,) = (
        mtl.load(path, "cpu").predict(["a cat"], task="mood") for path in (run, tmp_path / "out")
    )
    assert isinstance(one, Label) and isinstance(other, Label)
    assert other.probabilities == pytest.approx(one.probabilities)


def test_scores_of_the_rows_stay_behind(tasks: list[Task], backbone: str, tmp_path: Path) -> None:
    run = save_run(
        tmp_path / "run",
        MetaFineTuning,
        tasks[:1],
        backbone,
        scores=tmp_path / "scores",
        layers=[0],
    )
    export(words(run, tmp_path / "out", "--format", "mtl"))
    assert json.loads((tmp_path / "out/mtl.json").read_text())["arguments"]["scores"] == "none"


def test_a_conditional_method_becomes_a_directory_of_ours(
    tasks: list[Task], backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run(tmp_path / "run", PALs, tasks, backbone)
    with pytest.raises(
        UserError,
        match="PALs has parts that no class of transformers has; export it with --format mtl",
    ):
        export(words(run, tmp_path / "out", "--format", "transformers", "--task", "mood"))
    export(words(run, tmp_path / "out"))
    assert "for mtl.load" in capsys.readouterr().out
    assert (tmp_path / "out/mtl.json").is_file()


@pytest.mark.parametrize("new_head", [False, True])
def test_prompts_become_a_masked_language_model(
    new_head: bool, tasks: list[Task], masked_backbone: str, tmp_path: Path
) -> None:
    run = save_run(
        tmp_path / "run", PromptBasedFineTuning, tasks, masked_backbone, new_head=new_head
    )
    export(words(run, tmp_path / "out", "--task", "mood"))
    trained = Predictor(run, device="cpu")
    ours = trained.module(batch_of(trained, trained.tasks["mood"], [("the cat likes food",)]))[
        "mood"
    ][0]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    tokens = tokenizer("the cat likes food it was [MASK].", return_tensors="pt")
    logits = AutoModelForMaskedLM.from_pretrained(tmp_path / "out")(**tokens).logits[0]
    mask = tokens["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    theirs = logits[mask, tokenizer.convert_tokens_to_ids(["slow", "quick"])]
    torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=2e-6)
    said = (tmp_path / "out/README.md").read_text()
    assert "`{text} it was {mask}.`" in said and "bad: `slow`, good: `quick`" in said


def test_the_card_says_what_it_is_and_how_it_was_made(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    export(words(run, tmp_path / "out", "--task", "same"))
    said = (tmp_path / "out/README.md").read_text()
    assert said.startswith("---\nlibrary_name: transformers\npipeline_tag: text-classification\n")
    assert (
        "| same | test | 7 | accuracy 0.6250 |" in said
        and "mood" not in said.partition("```yaml")[0]
    )
    for part in (
        "| seed | 3 |",
        "| sampling | RoundRobinDataModule |",
        "mtl 0.1.0",
        "no, maybe, yes",
        "not for further training",
    ):
        assert part in said
    assert str(tmp_path) not in said


def test_nothing_is_left_of_an_export_that_differs(
    tasks: list[Task], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)

    def wrong(*args: Any) -> Any:
        model: Any = classifier(*args)
        model.classifier.bias.data += 1e-3
        return model

    monkeypatch.setattr(command, "classifier", wrong)
    with pytest.raises(UserError, match="differ from the run's by up to 1.0e-03; nothing is kept"):
        export(words(run, tmp_path / "out", "--task", "mood"))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part/old").write_text("of a run that was killed")
    with pytest.raises(KeyboardInterrupt), whole_or_not(tmp_path / "out") as part:
        (part / "half").write_text("")
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with whole_or_not(tmp_path / "out") as part:
        (part / "all").write_text("")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["all"]


def test_what_cannot_be_done_is_said_before_the_work(
    tasks: list[Task], backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    for more, message in (
        ((), "say which, --task mood or same or near"),
        (("--task", "moot"), "has mood, same, near. Did you mean 'mood'?"),
        (("--task", "mood", "--push", "a/b/c"), "--push a/b/c: Repo id must be"),
    ):
        with pytest.raises(SystemExit):
            main(["export", *words(run, tmp_path / "out", *more)])
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="is there already"):
        export(words(run, run))


@pytest.mark.parametrize(
    "args",
    [
        {"balancer": Surgery(PCGrad)},
        {"balancer": Scalarized(UW), "regularizer": SMART()},
        {"regularizer": SMART(target="pooled", proximal=0.0)},
    ],
)
def test_what_mattered_in_training_alone_is_left_behind(
    args: dict[str, Any], tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone, **args)
    answers = mtl.load(run).predict(["good film"], task="mood")
    export(words(run, tmp_path / "plain", "--task", "mood"))
    export(words(run, tmp_path / "own", "--format", "mtl"))
    assert mtl.load(tmp_path / "own").predict(["good film"], task="mood") == answers


def test_the_card_says_how_the_model_was_trained(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    configs = [
        word
        for name in ("sampling/mixed", "balancing/pcgrad")
        for word in ("-c", str(CONFIGS / f"{name}.yaml"))
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
    export(words(Path("run"), Path("out"), "--task", "mood"))
    card = Path("out/README.md").read_text()
    made = yaml.safe_load(card.partition("```yaml\n")[2].partition("```")[0])
    assert (
        made["tasks"] == ["mood", "same"]
        and made["data"]["batch_size"] == 4
        and made["data"]["mixed"] is True
    )
    assert made["model"]["balancer"]["init_args"]["weighting"] == "torchjd.aggregation.PCGrad"
    assert str(in_tmp) not in card and backbone not in card


def test_onnx_asks_for_its_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UserError, match=r"--onnx needs onnxscript: pip install 'mtl\[onnx\]'"):
        export(words(tmp_path / "run", tmp_path / "out", "--onnx"))


def test_a_push_uploads_the_whole_directory(
    tasks: list[Task],
    backbone: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    monkeypatch.setattr(
        "huggingface_hub.constants.HF_HUB_OFFLINE", False
    )  # `mtl doctor` turns it on where no hub answers
    with hub() as there:
        monkeypatch.setattr(
            "mtl.export.hub_upload.HfApi", partial(HfApi, endpoint=there.address, token="hf_mine")
        )
        export(words(run, tmp_path / "out", "--task", "mood", "--push", "me/mood"))
    assert there.files["me/mood"] == {
        path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()
    }
    assert "model.safetensors" in there.files["me/mood"] and there.messages == ["mtl export: out"]
    assert set(there.tokens) == {"Bearer hf_mine"}
    assert f"pushed: {there.address}/me/mood" in capsys.readouterr().out


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
        export(words(run, tmp_path / "out", "--task", "mood", "--push", "me/mood"))
    assert (tmp_path / "out/model.safetensors").is_file()


def test_a_directory_that_is_not_whole_is_refused(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    export(words(run, tmp_path / "out", "--format", "mtl"))
    (tmp_path / "out/model.safetensors").unlink()
    with pytest.raises(UserError, match="model.safetensors is missing; copy the whole directory"):
        Predictor(tmp_path / "out")
    made = tmp_path / "out/mtl.json"
    made.write_text(made.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(UserError, match="format 9, and this mtl reads 1; install a newer one"):
        Predictor(tmp_path / "out")
