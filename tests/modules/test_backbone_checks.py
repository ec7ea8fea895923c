import json
import re
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    Gemma3Config,
    LlamaConfig,
    LlamaModel,
    ModernBertConfig,
    MPNetConfig,
    PretrainedConfig,
    RobertaConfig,
    T5Config,
)

from mtl.data import RoundRobinDataModule
from mtl.errors import UserError
from mtl.methods import MultiHead, Separate
from mtl.methods.schedules import Schedule, learning_rate_schedule
from mtl.modules import backbone as backbones
from mtl.modules.backbone import (
    load_encoder,
    load_language_model,
    load_tokenizer,
    without_weights,
)
from mtl.modules.backbone_checks import position_limit
from mtl.modules.encoder import Encoder
from mtl.tasks import Task
from mtl.training.trainer import trainer
from tests.balancing.helpers import mixed_batch, three_tasks


@pytest.fixture
def decoder(backbone: str, tmp_path: Path) -> str:
    """A random causal model with the tokenizer of the small encoder."""
    folder = tmp_path / "decoder"
    shutil.copytree(backbone, folder)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=48,
    )
    LlamaModel(config).save_pretrained(folder)
    return str(folder)


def copied(backbone: str, folder: Path) -> Path:
    return Path(shutil.copytree(backbone, folder / "copy"))


def without_tokenizer(folder: Path) -> None:
    for file in folder.glob("token*"):
        file.unlink()


def without_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if "layer.1." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def with_few_embeddings(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 7}))


def without_end(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:999])


def with_broken_json(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": ')


def with_a_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


def with_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.bias"][3] = torch.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def with_other_sizes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 7}))


def with_own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    code = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(config | code))


def as_run(folder: Path) -> None:
    (folder / "config.json").rename(folder / "config.yaml")


def as_empty_folder(folder: Path) -> None:
    (folder / "config.json").unlink()


def as_encoder_decoder(folder: Path) -> None:
    T5Config(vocab_size=64).save_pretrained(folder)


def as_model_of_images(folder: Path) -> None:
    Gemma3Config(text_config={"vocab_size": 64}).save_pretrained(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_tokenizer, "has no tokenizer|cannot be loaded"),
        (without_a_layer, r"lacks 16 weights of the model: encoder\.layer\.1\."),
        (with_few_embeddings, "the model has 7 word embeddings, but its tokenizer has token ids"),
        (without_end, "cannot be loaded: its weights are truncated or damaged"),
        (with_broken_json, "tokenizer.json is not valid JSON: Expecting value"),
        (with_a_pointer, "model.safetensors is a Git LFS pointer; fetch"),
        (with_nan, r"layer\.1\.output\.dense\.bias holds values that are not finite"),
        (with_other_sizes, "the sizes of its weights are not those that config.json describes"),
        (with_own_code, "needs code from that repository, which mtl never executes"),
        (as_run, "this is the folder of a run; .* give --model.init_from"),
        (as_empty_folder, "it has no config.json"),
        (as_encoder_decoder, "unsupported: t5 has an encoder and a decoder"),
        (as_model_of_images, "unsupported: gemma3 reads other data than text"),
    ],
)
def test_an_incomplete_backbone_is_refused_naming_what_is_missing(
    damage: Callable[[Path], None], message: str, backbone: str, tmp_path: Path
) -> None:
    folder = copied(backbone, tmp_path)
    damage(folder)
    with pytest.raises(UserError, match=message) as refused:
        load_tokenizer(str(folder))
        load_encoder(str(folder))
    assert f"--backbone {folder}: " in str(refused.value)


def test_layers_that_a_backbone_does_not_use_are_reported(backbone: str, tmp_path: Path) -> None:
    folder = copied(backbone, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    with pytest.warns(UserWarning, match="16 weights of its checkpoint are not used"):
        load_encoder(str(folder))


def test_the_end_of_text_token_pads_if_there_is_no_padding_token(
    backbone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = copied(backbone, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(folder)
    with pytest.raises(UserError, match="neither a padding token nor an end-of-text token"):
        load_tokenizer(str(folder))
    tokenizer.eos_token = "[SEP]"
    tokenizer.save_pretrained(folder)
    with caplog.at_level("INFO"):
        assert load_tokenizer(str(folder)).pad_token_id == 3
    assert "the end-of-text token, pads" in caplog.text


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (BertConfig(max_position_embeddings=64), 64),
        (RobertaConfig(max_position_embeddings=66, pad_token_id=1), 64),
        (MPNetConfig(max_position_embeddings=514, pad_token_id=1), 512),
        (ModernBertConfig(), None),
        (LlamaConfig(), None),
        (DebertaV2Config(relative_attention=True, position_biased_input=False), None),
        (DebertaV2Config(max_position_embeddings=64), 64),
    ],
    ids=lambda value: getattr(value, "model_type", value),
)
def test_the_longest_input_is_what_the_position_embeddings_allow(
    config: PretrainedConfig, limit: int | None
) -> None:
    assert position_limit(config) == limit


def test_examples_longer_than_the_positions_are_refused_before_training(
    backbone: str, tmp_path: Path, in_tmp: Path
) -> None:
    for split, words in (("train", 90), ("validation", 3), ("test", 3)):
        (tmp_path / f"{split}.csv").write_text(f"text,label\n{'dog ' * words},a\ncat,b\n")
    task = Task.read(
        {"name": "k", "texts": ["text"], "classes": ["a", "b"], "source": {"path": str(tmp_path)}}
    )
    data = RoundRobinDataModule(tasks=[task], backbone=backbone, max_length=100)
    message = r"--data.max_length 100: the backbone has 64 positions, but .*train.csv has examples"
    with pytest.raises(UserError, match=message):
        data.train_split(task)
    truncated = RoundRobinDataModule(tasks=[task], backbone=backbone, max_length=64)
    assert truncated.train_split(task).lengths.max() == 64


def test_a_causal_model_pools_the_last_token_that_is_not_padding(decoder: str) -> None:
    encoder = Encoder(decoder)
    assert encoder.pooling == "last"
    states = torch.arange(24.0).view(2, 4, 3)
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])
    assert torch.equal(encoder.pool(states, mask), torch.stack([states[0, 1], states[1, 3]]))


def test_weights_saved_in_bf16_are_trained_in_fp32(decoder: str, tmp_path: Path) -> None:
    folder = str(copied(decoder, tmp_path))
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    for skip in (nullcontext(), without_weights()):
        with skip:
            for model in (Encoder(folder), load_language_model(folder)):
                assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    logits = MultiHead(tasks=three_tasks(), backbone=folder)(mixed_batch(types=False))
    assert {each.dtype for each in logits.values()} == {torch.float32}


@pytest.mark.parametrize("pooling", ["cls", "pooler"])
def test_the_first_token_of_a_causal_model_is_no_pooling(decoder: str, pooling: str) -> None:
    with pytest.raises(UserError, match=r"choose --model.pooling last or mean"):
        Encoder(decoder, pooling)  # type: ignore[arg-type]


def test_an_unreachable_hub_is_reported_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "cached_hub_error", lambda: "https://hub.test does not answer")
    message = "it is not in the Hub's cache, and https://hub.test does not answer. Give a name"
    with pytest.raises(UserError, match=re.escape(message)):
        load_tokenizer("no-such/model")


@pytest.mark.parametrize("method", [MultiHead, Separate])
def test_backbone_is_the_encoder_module(
    method: type[MultiHead | Separate], tasks: list[Task], backbone: str
) -> None:
    module = method(tasks=tasks, backbone=backbone)
    assert module.backbone_name == backbone
    assert isinstance(module.backbone, nn.Module)
    assert any(name.startswith("encoder") for name, _ in module.named_parameters())


def test_backbone_finetuning_freezes_then_trains_the_encoder(
    tasks: list[Task], backbone: str, in_tmp: Path
) -> None:
    module = MultiHead(tasks=tasks, backbone=backbone, lr=1e-2)
    before = {name: value.clone() for name, value in module.backbone.named_parameters()}
    unchanged: list[bool] = []

    class Watch(BackboneFinetuning):
        def on_train_epoch_end(self, _: object, pl_module: object) -> None:
            current = module.backbone.named_parameters()
            unchanged.append(all(torch.equal(before[name], value) for name, value in current))

    callback = Watch(unfreeze_backbone_at_epoch=1)
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone)
    trainer(in_tmp / "run", max_epochs=2, callbacks=[callback]).fit(module, data)
    assert unchanged == [True, False]


def test_a_group_that_a_callback_adds_keeps_its_own_learning_rate() -> None:
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([first], lr=1.0)
    schedule = learning_rate_schedule(Schedule(), optimizer, 0, 4)
    optimizer.add_param_group({"params": [second], "lr": 0.125})
    optimizer.step()
    schedule.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.75, 0.125]
