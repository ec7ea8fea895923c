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
from mtl.modules.pair_heads import CosineHead, text_masks
from mtl.modules.san import MTBertSANHead, SANHead
from mtl.modules.task_losses import make_loss
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


@pytest.mark.parametrize(
    ("special_tokens", "first_text", "second_text"),
    [(False, [1, 2], [5]), (True, [0, 1, 2, 3], [4, 5, 6])],
)
def test_text_masks_include_special_tokens_if_asked_and_never_padding(
    special_tokens: bool, first_text: list[int], second_text: list[int]
) -> None:
    # [CLS] a b [SEP] [SEP] c [SEP] padding, as RoBERTa writes a pair
    ids = torch.tensor([[2, 7, 8, 3, 3, 9, 3, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 1, 0]])
    first, second = text_masks(ids, mask, separator=3, special_tokens=special_tokens)
    assert first[0].nonzero().flatten().tolist() == first_text
    assert second[0].nonzero().flatten().tolist() == second_text


@pytest.mark.parametrize("seed", range(3))
def test_a_network_attends_to_the_segments_that_the_tokenizer_writes(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first_size, second_size = (int(torch.randint(1, 6, (), generator=generator)) for _ in range(2))
    # [CLS] first [SEP] second [SEP] padding, as BERT writes a pair.
    ids = torch.tensor([[2, *[7] * first_size, 3, *[9] * second_size, 3, 0, 0]])
    segments = torch.tensor([[0] * (first_size + 2) + [1] * (second_size + 1) + [0, 0]])
    first, second = text_masks(ids, ids.ne(0).long(), separator=3, special_tokens=True)
    assert torch.equal(second, segments.bool())
    assert torch.equal(first, ids.ne(0) & ~segments.bool())


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
