from pathlib import Path

import pytest
import torch

from mtl.__main__ import main
from mtl.errors import UserError
from mtl.modules.heads import (
    SAN,
    Cosine,
    HeadShape,
    Linear,
    LinearHead,
    MTBertSAN,
    choose_head,
)
from mtl.modules.losses import make_loss
from mtl.modules.pair_heads import CosineHead, text_masks
from mtl.modules.san import MTBertSANHead, SANHead
from mtl.tasks import Task

SHAPE = HeadShape(width=8, outputs=3, dropout=0.2, encoder_layers=2)
CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def test_a_loss_that_compares_texts_has_a_cosine_head_and_pair_classes_the_pair_head(
    tasks: list[Task],
) -> None:
    head, pair_head = Linear(), SAN()
    chosen = {task.name: choose_head(task, make_loss(task), head, pair_head) for task in tasks}
    assert chosen == {"mood": head, "same": pair_head, "near": head}
    near = tasks[2]
    assert isinstance(choose_head(near, make_loss(near, "cosine"), head, pair_head), Cosine)


def test_factories_make_their_heads(tasks: list[Task]) -> None:
    mood, same, near = tasks
    linear = Linear(hidden_layers=1).make(mood, SHAPE)
    assert isinstance(linear, LinearHead)
    assert [type(layer).__name__ for layer in linear] == [
        "Dropout",
        "Linear",
        "ReLU",
        "Dropout",
        "Linear",
    ]
    san = SAN(steps=4).make(same, SHAPE)
    assert isinstance(san, SANHead) and san.steps == 4
    mt_bert = MTBertSAN().make(same, SHAPE)
    assert isinstance(mt_bert, MTBertSANHead) and mt_bert.steps == SHAPE.encoder_layers
    cosine = Cosine().make(near, SHAPE)
    assert isinstance(cosine, CosineHead) and (cosine.low, cosine.high) == (0.0, 5.0)


def test_a_cosine_head_is_rejected_for_classes(tasks: list[Task]) -> None:
    message = "Cosine predicts a number, but 'same' is a classification task"
    with pytest.raises(UserError, match=message):
        Cosine().make(tasks[1], SHAPE)


def test_text_masks_exclude_special_tokens_and_padding() -> None:
    # [CLS] a b [SEP] [SEP] c [SEP] padding, as RoBERTa writes a pair
    ids = torch.tensor([[2, 7, 8, 3, 3, 9, 3, 0]])
    first, second = text_masks(ids, torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0]]), separator=3)
    assert first[0].nonzero().flatten().tolist() == [1, 2]
    assert second[0].nonzero().flatten().tolist() == [5]


def test_the_command_line_takes_a_head_by_its_short_name_and_restores_it(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    options = [f"--tasks+={file}" for file in task_files]
    options += ["--backbone", backbone, "--model", "MultiHead", "--model.pair_head", "SAN"]
    options += ["--model.pair_head.steps", "3", "--model.head", "Linear"]
    main(
        [
            "fit",
            *options,
            "--model.head.hidden_layers=1",
            *CPU,
            "--out=run",
            "--trainer.max_epochs=1",
        ]
    )
    checkpoint = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["pair_head"] == {
        "class_path": "mtl.modules.heads.SAN",
        "init_args": {"steps": 3},
    }
    assert checkpoint["hyper_parameters"]["head"]["init_args"] == {"hidden_layers": 1}
    main(["test", "--ckpt_path", "run", *CPU])
