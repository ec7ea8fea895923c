import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
import torchjd.aggregation as weightings
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from mtl.__main__ import main
from mtl.balancing import Surgery
from mtl.batch import Batch, collate
from mtl.data import RoundRobinDataModule, encoded_files
from mtl.data.encoding import Prompted
from mtl.data.order import Draw
from mtl.errors import UserError
from mtl.methods import PromptBasedFineTuning
from mtl.modules.backbone import load_tokenizer
from mtl.modules.prompt_losses import Interpolation
from mtl.regularizers import SMART
from mtl.tasks import Prompt, Task
from mtl.tasks.prompts import fill_template
from mtl.tasks.templates import parse_template
from tests.balancing.helpers import assert_combined, training_step
from tests.conftest import save_backbone
from tests.export.runs import export, save_run

CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def mixed(tasks: list[Task], backbone: str) -> Batch:
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, max_length=24, encoding=Prompted())
    data.setup("fit")
    parts = [
        data.train_splits[task].take(Draw(task, torch.arange(task + 2).numpy()), task + 2)
        for task in range(len(tasks))
    ]
    return collate(parts, [task.name for task in tasks], {})


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "electra", "distilbert", "deberta", "modernbert"]
)
def test_label_word_logits_equal_those_of_the_masked_lm(
    family: str, tasks: list[Task], in_tmp: Path
) -> None:
    backbone = str(save_backbone(family, in_tmp / family, masked=True))
    method = PromptBasedFineTuning(tasks=tasks, backbone=backbone).eval()
    masked_lm = AutoModelForMaskedLM.from_pretrained(backbone).eval()
    batch = mixed(tasks, backbone)
    inputs = {name: value for name, value in batch.tokens.items() if name != "mask_position"}
    if family in ("roberta", "distilbert", "modernbert"):
        inputs.pop("token_type_ids", None)
    with torch.no_grad():
        vocabulary = masked_lm(**inputs).logits
        for task, logits in method(batch).items():
            examples = next(each.examples for each in batch.segments if each.task == task)
            masks = batch.tokens["mask_position"][examples]
            expected = vocabulary[examples][torch.arange(len(masks)), masks][
                :, method.words.get_buffer(task)
            ]
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.fixture
def continued(tasks: list[Task]) -> list[Task]:
    """Two tasks whose templates end with the mask."""
    templates = {"mood": "{text} it was {mask}.", "same": "{first} and {second} was {mask}"}
    return [
        replace(task, prompt=replace(cast(Prompt, task.prompt), template=templates[task.name]))
        for task in tasks[:2]
    ]


def test_a_causal_model_predicts_the_label_word_as_the_next_token(
    continued: list[Task], in_tmp: Path
) -> None:
    backbone = str(save_backbone("qwen3", in_tmp / "qwen3"))
    method = PromptBasedFineTuning(tasks=continued, backbone=backbone).eval()
    batch = mixed(continued, backbone)
    positions, mask = batch.tokens["mask_position"], batch.tokens["attention_mask"]
    assert torch.equal(positions.long(), mask.sum(1) - 1)  # nothing follows
    full = AutoModelForCausalLM.from_pretrained(backbone).eval()
    with torch.no_grad():
        next_token = full(batch.tokens["input_ids"], attention_mask=mask).logits
        for segment in batch.segments:
            words = method.words.get_buffer(segment.task)
            rows = next_token[segment.examples]
            expected = rows[torch.arange(len(rows)), positions[segment.examples].long()][:, words]
            torch.testing.assert_close(method(batch)[segment.task], expected, atol=1e-5, rtol=1e-5)


def test_a_causal_model_is_exported_with_the_logits_of_the_run(
    continued: list[Task], in_tmp: Path
) -> None:
    backbone = save_backbone("qwen3", in_tmp / "qwen3")
    run = save_run(in_tmp / "run", PromptBasedFineTuning, continued, backbone)
    card = (export(run, in_tmp / "out", "--task", "same") / "README.md").read_text()
    assert "AutoModelForCausalLM" in card and "in double precision (6 examples)" in card


def test_a_template_that_goes_on_after_the_mask_is_refused_for_a_causal_model(
    tasks: list[Task], in_tmp: Path
) -> None:
    tokenizer = load_tokenizer(str(save_backbone("qwen3", in_tmp / "qwen3")))
    with pytest.raises(UserError, match=r"'same': prompt.template: .* put \{mask\} at the end of"):
        fill_template(tasks[1], parse_template(tasks[1]), ["good", "bad"], tokenizer, 24)


def test_losses_are_cross_entropy_over_the_label_words_and_divergence_between_two(
    tasks: list[Task], masked_backbone: str, in_tmp: Path
) -> None:
    method = PromptBasedFineTuning(tasks=tasks, backbone=masked_backbone).eval()
    batch = mixed(tasks, masked_backbone)
    logits, losses = method(batch), method.task_losses(batch)
    labels = {segment.task: segment.labels for segment in batch.segments}
    torch.testing.assert_close(losses["same"], F.cross_entropy(logits["same"], labels["same"]))
    total = 0.0
    for words, label in zip(logits["near"].tolist(), labels["near"].tolist(), strict=True):
        high = 1 / (1 + math.exp(words[0] - words[1]))
        for share, target in ((1 - high, 1 - label / 5), (high, label / 5)):
            total += target * math.log(target / share) if target else 0.0
    assert float(losses["near"].detach()) == pytest.approx(total / len(labels["near"]), rel=1e-4)


def test_a_value_is_the_second_words_probability_scaled_to_the_range() -> None:
    value = Interpolation(1.0, 5.0).outputs(torch.tensor([[0.0, math.log(3.0)]]))
    assert float(value) == pytest.approx(1 + 4 * 0.75)


@pytest.mark.parametrize("mode", ["stored", "two_pass"])
def test_surgery_is_exact(
    mode: Any,
    tasks: list[Task],
    masked_backbone: str,
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    method = PromptBasedFineTuning(
        tasks=tasks, backbone=masked_backbone, balancer=Surgery(weightings.UPGrad, mode=mode)
    ).eval()
    method.balancer.on_fit_start(method, {})
    monkeypatch.setattr(
        "mtl.balancing.surgery.slow_task_gradients", lambda *_: pytest.fail("one pass per task")
    )
    batch = mixed(tasks, masked_backbone)
    training_step(method, batch)
    assert_combined(method, batch)


def test_a_backbone_without_a_masked_lm_head_is_rejected(tasks: list[Task], backbone: str) -> None:
    with pytest.raises(UserError, match="language-model head .* --model.new_head true"):
        PromptBasedFineTuning(tasks=tasks, backbone=backbone)
    PromptBasedFineTuning(tasks=tasks, backbone=backbone, new_head=True)


def test_examples_without_prompts_are_rejected(
    tasks: list[Task], masked_backbone: str, in_tmp: Path
) -> None:
    data = RoundRobinDataModule(tasks=tasks, backbone=masked_backbone, max_length=24)
    data.setup("fit")
    batch = collate(
        [data.train_splits[0].take(Draw(0, torch.arange(2).numpy()), 2)],
        [task.name for task in tasks],
        {},
    )
    with pytest.raises(UserError, match="reads `mask_position`; add `--data.encoding Prompted`"):
        PromptBasedFineTuning(tasks=tasks, backbone=masked_backbone)(batch)


def fit(task_files: list[Path], backbone: str, out: str, *options: str) -> dict[str, Any]:
    configs = Path(__file__).parents[2] / "configs"
    arguments = [
        "fit",
        *[f"--tasks+={file}" for file in task_files],
        "--backbone",
        backbone,
        "--out",
        out,
        *CPU,
    ]
    main(
        [
            *arguments,
            "-c",
            str(configs / "sampling/leave_one_out.yaml"),
            "-c",
            str(configs / "methods/prompt.yaml"),
            *options,
        ]
    )
    return json.loads((Path(out) / "metrics.json").read_text())


def test_a_held_out_task_is_tested_and_its_labels_are_never_opened(
    task_files: list[Path], masked_backbone: str, in_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [
        "--data.k",
        "4",
        "--data.held_out",
        "same",
        "--trainer.max_epochs",
        "1",
        "--data.steps",
        "5",
        "--model.lr",
        "1e-3",
    ]
    options += ["--data.regression", "true"]
    opened: list[str] = []
    encode = encoded_files.encode

    def spy(task: Task, *args: Any, **kwargs: Any) -> Any:
        opened.append(task.name)
        return encode(task, *args, **kwargs)

    monkeypatch.setattr("mtl.data.splits.encode", spy)
    metrics = fit(task_files, masked_backbone, "run", *options)
    assert set(opened) == {"mood", "near"}
    assert set(metrics["validation"]["tasks"]) == {"mood", "near"}
    main(["test", "--ckpt_path", "run", *CPU])
    tested = json.loads(Path("run/metrics.json").read_text())["test"]["tasks"]
    assert list(tested) == ["same"]
    assert tested["same"]["examples"] == 15


def test_a_task_is_tested_without_training(
    task_files: list[Path], masked_backbone: str, in_tmp: Path
) -> None:
    arguments = [
        "test",
        f"--tasks+={task_files[0]}",
        "--backbone",
        masked_backbone,
        "--model",
        "PromptBasedFineTuning",
    ]
    main([*arguments, "--data.encoding", "Prompted", "--out", "zero", *CPU])
    assert (
        json.loads(Path("zero/metrics.json").read_text())["test"]["tasks"]["mood"]["examples"] == 15
    )


def test_a_text_that_spells_the_mask_adds_no_second_mask(
    masked_backbone: str, in_tmp: Path
) -> None:
    tokenizer = load_tokenizer(masked_backbone)
    prompt = {"template": "{text} it was {mask}.", "words": {"bad": "slow", "good": "quick"}}
    task = Task.read(
        {"name": "mood", "texts": ["text"], "classes": ["bad", "good"], "prompt": prompt}
    )
    ids, _, mask, _ = fill_template(
        task, parse_template(task), ["the [MASK] film [SEP]"], tokenizer, 32
    )
    assert ids.count(tokenizer.mask_token_id) == 1 and ids[mask] == tokenizer.mask_token_id
    assert ids.count(tokenizer.sep_token_id) == 1


def test_smart_perturbs_the_inputs_but_not_the_label_words(
    tasks: list[Task], masked_backbone: str, in_tmp: Path
) -> None:
    method = PromptBasedFineTuning(
        tasks=tasks[:2], backbone=masked_backbone, regularizer=SMART(weight=1.0)
    ).eval()
    data = RoundRobinDataModule(
        tasks=tasks[:2], backbone=masked_backbone, max_length=24, encoding=Prompted()
    )
    data.setup("fit")
    parts = [
        data.train_splits[index].take(Draw(index, torch.arange(2).numpy()), 2) for index in (0, 1)
    ]
    batch = collate(parts, [task.name for task in tasks[:2]], {})
    method.balancer.on_fit_start(method, {})
    assert method.regularizer is not None
    method.regularizer.on_fit_start(method, {})
    method.regularizer.on_step_start(batch, seed=0)
    method(batch)
    outputs = cast(SMART, method.regularizer)._recorded.outputs
    assert sum(len(output) for output in outputs) == 4  # the examples' embeddings, once each
    assert all(output.ndim == 3 for output in outputs)
