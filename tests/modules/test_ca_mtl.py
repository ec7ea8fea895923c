import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModel, BertConfig

import mtl.modules.ca_mtl as ca_mtl
from mtl.errors import UserError
from mtl.modules import ConditionalEncoder, ConditionalOptions
from mtl.modules.ca_mtl_checkpoint import load_ca_mtl_checkpoint
from mtl.modules.conditional import ConditionalAttentionBias
from tests.conftest import save_backbone
from tests.oracles import camtl as oracle

TASKS = [f"task{index}" for index in range(9)]
PARTS = ("attention_bias", "alignment", "layer_norm", "bottleneck")
GOLDEN = (
    Path(os.environ.get("MTL_SHARED", Path(__file__).parents[3] / "shared"))
    / "golden/camtl_base.npz"
)


def encoder(backbone: str, tasks: int, **options: Any) -> ConditionalEncoder:
    return ConditionalEncoder(backbone, TASKS[:tasks], ConditionalOptions(**options))


def saved(folder: Path, **shape: int) -> str:
    """Saves a random BERT of a shape and returns its folder."""
    default: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    default |= {"vocab_size": 60, "max_position_embeddings": 40}
    torch.manual_seed(0)
    AutoModel.from_config(BertConfig(**default | shape)).save_pretrained(folder)
    return str(folder)


def perturbed(module: ConditionalEncoder) -> ConditionalEncoder:
    """Changes every parameter, so that each part has an effect."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def tokens(lengths: list[int], vocabulary: int = 60) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, vocabulary, mask.shape, generator=generator) * mask
    types = torch.randint(0, 2, mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


@pytest.mark.skipif(
    not GOLDEN.exists(), reason="the recorded outputs of the authors' code are not available"
)
def test_the_authors_weights_give_the_authors_outputs(tmp_path: Path) -> None:
    golden = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}
    backbone = saved(
        tmp_path, hidden_size=48, num_hidden_layers=4, intermediate_size=96, vocab_size=99
    )
    module = encoder(backbone, 3, length=24).eval()
    weights = {
        name.removeprefix("w/"): value for name, value in golden.items() if name.startswith("w/")
    }
    load_ca_mtl_checkpoint(module, weights)
    inputs = {name: golden[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        states = module.states(inputs, golden["task_id"])
        pooled = module.backbone.pooler(states)
    torch.testing.assert_close(states, golden["last_hidden"], atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, golden["pooled"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["base", "large"])
@pytest.mark.parametrize(("depth", "length"), [(3, 16), (4, 10), (2, 32), (5, 40)])
def test_a_padded_mixed_batch_equals_the_formulas_for_each_example(
    variant: str, depth: int, length: int, tmp_path: Path
) -> None:
    backbone = saved(tmp_path, num_hidden_layers=depth)
    module = perturbed(encoder(backbone, 3, variant=variant, length=length))
    lengths, tasks = [9, 4, 10, 1, 7], [2, 0, 1, 1, 2]
    inputs = tokens(lengths)
    weights = {name: value.detach() for name, value in module.state_dict().items()}
    with torch.no_grad():
        states = module.states(inputs, torch.tensor(tasks))
        for example, (count, task) in enumerate(zip(lengths, tasks, strict=True)):
            ids, types = (inputs[name][example, :count] for name in ("input_ids", "token_type_ids"))
            expected = oracle.states(
                weights, module.backbone.config, variant, length, ids, types, task
            )
            torch.testing.assert_close(states[example, :count], expected, atol=1e-4, rtol=1e-4)


def test_at_the_published_size_blocks_have_size_22_and_the_last_one_18() -> None:
    bias = ConditionalAttentionBias(768, 128)
    assert bias.matrix.shape == (128, 22)
    matrix = bias.block_diagonal(torch.ones(1, 128, 22), 128)[0]
    expected = torch.block_diag(*[torch.ones(22, 22)] * 5, torch.ones(18, 18))
    assert torch.equal(matrix, expected)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_without_conditional_parts_it_equals_the_plain_backbone(
    family: str, tmp_path: Path
) -> None:
    backbone = str(save_backbone(family, tmp_path))
    module = encoder(backbone, 3, **dict.fromkeys(PARTS, False)).eval()
    inputs = tokens([9, 4, 12], 20)
    if family == "roberta":
        del inputs["token_type_ids"]
    with torch.no_grad():
        expected = AutoModel.from_pretrained(backbone).eval()(**inputs).last_hidden_state
        states = module.states(inputs, torch.tensor([0, 1, 2]))
    for example, length in enumerate([9, 4, 12]):
        torch.testing.assert_close(
            states[example, :length], expected[example, :length], atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("variant", ["base", "large"])
def test_each_part_alone_makes_tasks_differ(part: str, variant: str, tmp_path: Path) -> None:
    parts = {name: name == part for name in PARTS}
    module = perturbed(encoder(saved(tmp_path), 2, variant=variant, length=16, **parts))
    inputs = {name: value.expand(2, -1) for name, value in tokens([9]).items()}
    with torch.no_grad():
        first, second = module.states(inputs, torch.tensor([0, 1]))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["base", "large"])
def test_checkpointing_gives_the_same_gradients(variant: str, tmp_path: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(3)
        module = encoder(
            saved(tmp_path), 2, variant=variant, length=16, checkpointing=checkpointing
        )
        torch.manual_seed(4)
        module.states(tokens([9, 5]), torch.tensor([0, 1])).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in module.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize("variant", ["base", "large"])
def test_bf16_autocast_stays_close(variant: str, tmp_path: Path) -> None:
    module = perturbed(encoder(saved(tmp_path), 2, variant=variant, length=16))
    inputs, tasks = tokens([9, 5]), torch.tensor([0, 1])
    with torch.no_grad():
        exact = module.states(inputs, tasks)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = module.states(inputs, tasks)
    assert (rounded.float() - exact).abs().mean() < 0.03 * exact.abs().mean()


def test_examples_longer_than_the_bias_are_refused(tmp_path: Path) -> None:
    module = encoder(saved(tmp_path), 2, length=8)
    with pytest.raises(UserError, match=r"an example has 9 tokens.* at most 8; set --data"):
        module.states(tokens([9]), torch.tensor([0]))


@pytest.mark.parametrize("family", ["distilbert", "deberta", "modernbert"])
def test_other_layouts_are_refused_and_supported_ones_listed(family: str, tmp_path: Path) -> None:
    supported = "Supported: bert, camembert, data2vec-text, electra, ernie, roberta, xlm-roberta."
    with pytest.raises(UserError, match=f"CAMTL: unsupported backbone family: .*{supported}"):
        encoder(str(save_backbone(family, tmp_path)), 2)


def test_conditional_parameters_of_frozen_layers_are_trained(tmp_path: Path) -> None:
    module = encoder(saved(tmp_path, num_hidden_layers=4), 2, length=16, freeze=(0, 2))
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    for name in [name for name, _ in module.named_parameters()]:
        frozen = name.startswith(
            ("backbone.embeddings.", *(f"backbone.encoder.layer.{layer}." for layer in range(3)))
        )
        assert (name in trained) == (not frozen or ".film." in name), name
    with pytest.raises(UserError, match="--model.freeze_layers 2-4: the backbone's layers are 0-3"):
        encoder(saved(tmp_path / "again", num_hidden_layers=4), 2, freeze=(2, 4))


def test_a_top_layer_from_scratch_has_no_pretrained_weight(tmp_path: Path) -> None:
    backbone = saved(tmp_path)
    pretrained, scratch = (
        encoder(backbone, 2, top_layer=start).backbone.encoder.layer
        for start in ("pretrained", "scratch")
    )
    assert torch.equal(pretrained[1].output.dense.weight, scratch[1].output.dense.weight)
    for name in (
        "attention.self.query",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ):
        assert not torch.equal(
            pretrained[2].get_submodule(name).weight, scratch[2].get_submodule(name).weight
        )


@pytest.mark.parametrize(
    ("variant", "shape", "added", "trained"),
    [
        # Published totals for 9 tasks and examples of 128 tokens: the conditional parts, and all
        # trained parameters.
        ("base", (768, 12, 12, 3072), 19_741_456, 69_777_972 + 5 * (768 * 44 + 44)),
        ("large", (1024, 24, 16, 4096), 146_739_960, 298_550_648 + 12 * (1024 * 32 + 32)),
    ],
)
def test_parameters_are_as_many_as_published(
    variant: Any, shape: tuple[int, ...], added: int, trained: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The release does not train the projection of the attention bias in frozen layers, which keeps
    # its random initialization. Ours is trained, hence the second summand.
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    sizes: dict[str, Any] = dict(zip(names, shape, strict=True))
    config = BertConfig(vocab_size=28996, **sizes)
    monkeypatch.setattr(ca_mtl, "load_config", lambda backbone: config)
    monkeypatch.setattr(
        ca_mtl, "load_encoder", lambda backbone, **_: (AutoModel.from_config(config), [])
    )
    with torch.device("meta"):
        module = encoder("any", 9, variant=variant, freeze=(0, 4 if variant == "base" else 11))
        plain = sum(parameter.numel() for parameter in AutoModel.from_config(config).parameters())
    assert plain == {"base": 108_310_272, "large": 333_579_264}[variant]
    assert sum(parameter.numel() for parameter in module.parameters()) == plain + added
    assert sum(p.numel() for p in module.parameters() if p.requires_grad) == trained


def test_a_checkpoint_with_other_tensors_is_refused(tmp_path: Path) -> None:
    module = encoder(saved(tmp_path), 2, length=16)
    with pytest.raises(UserError, match="missing tensors"):
        load_ca_mtl_checkpoint(module, {})
    with pytest.raises(UserError, match=r"unknown tensors \['decoders"):
        load_ca_mtl_checkpoint(module, {"decoders.0.weight": torch.zeros(1)})
