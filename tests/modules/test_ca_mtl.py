import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel, BertConfig, PretrainedConfig

import mtl.modules.ca_mtl as parts
from mtl.errors import UserError
from mtl.modules import ConditionalEncoder
from mtl.modules.ca_mtl_checkpoint import load_ca_mtl_checkpoint
from mtl.modules.conditional import ConditionalAttentionBias
from mtl.modules.families import BERT_LAYOUT
from tests.conftest import FAMILIES, save_backbone
from tests.oracles import camtl as oracle

TASKS = [f"task{place}" for place in range(9)]
GOLDEN = (
    Path(os.environ.get("MTL_SHARED", Path(__file__).parents[3] / "shared"))
    / "golden/camtl_base.npz"
)


def saved(folder: Path, **shape: int) -> str:
    usual: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 48,
    }
    usual |= {"vocab_size": 60, "max_position_embeddings": 40}
    torch.manual_seed(0)
    AutoModel.from_config(BertConfig(**usual | shape)).save_pretrained(folder)
    return str(folder)


def perturbed(encoder: ConditionalEncoder) -> ConditionalEncoder:
    """Every parameter moved, so that each part matters."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return encoder.eval()


def tokens(lengths: list[int], vocabulary: int = 60) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(2)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, vocabulary, mask.shape, generator=chance) * mask
    types = torch.randint(0, 2, mask.shape, generator=chance) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


@pytest.mark.skipif(
    not GOLDEN.exists(), reason="the recorded outputs of the authors' code are not here"
)
def test_the_authors_weights_give_the_authors_outputs(tmp_path: Path) -> None:
    kept = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}
    backbone = saved(
        tmp_path, hidden_size=48, num_hidden_layers=4, intermediate_size=96, vocab_size=99
    )
    encoder = ConditionalEncoder(backbone, TASKS[:3], "base", 24).eval()
    load_ca_mtl_checkpoint(
        encoder,
        {name.removeprefix("w/"): value for name, value in kept.items() if name.startswith("w/")},
    )
    with torch.no_grad():
        states = encoder.states(
            {name: kept[name] for name in ("input_ids", "attention_mask", "token_type_ids")},
            kept["task_id"],
        )
        pooled = encoder.backbone.pooler(states)
    torch.testing.assert_close(states, kept["last_hidden"], atol=1e-5, rtol=0)
    torch.testing.assert_close(pooled, kept["pooled"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("variant", ["base", "large"])
@pytest.mark.parametrize(("depth", "length"), [(3, 16), (4, 10), (2, 32), (5, 40)])
def test_mixed_and_padded_rows_equal_the_formulas_row_by_row(
    variant: Any, depth: int, length: int, tmp_path: Path
) -> None:
    backbone = saved(tmp_path, num_hidden_layers=depth)
    encoder = perturbed(ConditionalEncoder(backbone, TASKS[:3], variant, length))
    lengths, tasks = [9, 4, 10, 1, 7], [2, 0, 1, 1, 2]
    given = tokens(lengths)
    weights = {name: value.detach() for name, value in encoder.state_dict().items()}
    with torch.no_grad():
        found = encoder.states(given, torch.tensor(tasks))
        for row, (count, task) in enumerate(zip(lengths, tasks, strict=True)):
            ids, types = (given[name][row, :count] for name in ("input_ids", "token_type_ids"))
            expected = oracle.states(
                weights, encoder.backbone.config, variant, length, ids, types, task
            )
            torch.testing.assert_close(found[row, :count], expected, atol=1e-4, rtol=1e-4)


def test_blocks_of_22_and_a_last_one_of_18_at_the_published_size() -> None:
    bias = ConditionalAttentionBias(768, 128)
    assert bias.matrix.shape == (128, 22)
    spread = bias.spread(torch.ones(1, 128, 22), 128)[0]
    expected = torch.block_diag(*[torch.ones(22, 22)] * 5, torch.ones(18, 18))
    assert torch.equal(spread, expected)


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_with_all_parts_off_it_is_the_plain_backbone(family: str, tmp_path: Path) -> None:
    backbone = str(save_backbone(family, tmp_path))
    off = dict.fromkeys(("attention_bias", "alignment", "layer_norm", "bottleneck"), False)
    encoder = ConditionalEncoder(backbone, TASKS[:3], **off).eval()  # type: ignore[arg-type]
    given = tokens([9, 4, 12], 20)
    plain = {
        name: value
        for name, value in given.items()
        if name != "token_type_ids" or family != "roberta"
    }
    with torch.no_grad():
        expected = AutoModel.from_pretrained(backbone).eval()(**plain).last_hidden_state
        found = encoder.states(plain, torch.tensor([0, 1, 2]))
    for row, length in enumerate([9, 4, 12]):
        torch.testing.assert_close(found[row, :length], expected[row, :length], atol=1e-5, rtol=0)


@pytest.mark.parametrize("part", ["attention_bias", "alignment", "layer_norm", "bottleneck"])
@pytest.mark.parametrize("variant", ["base", "large"])
def test_each_part_alone_makes_tasks_differ(part: str, variant: Any, tmp_path: Path) -> None:
    chosen = {
        name: name == part for name in ("attention_bias", "alignment", "layer_norm", "bottleneck")
    }
    encoder = perturbed(ConditionalEncoder(saved(tmp_path), TASKS[:2], variant, 16, **chosen))  # type: ignore[arg-type]
    given = {name: value.expand(2, -1) for name, value in tokens([9]).items()}
    with torch.no_grad():
        first, second = encoder.states(given, torch.tensor([0, 1]))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize("variant", ["base", "large"])
def test_checkpointing_gives_the_same_gradients(variant: Any, tmp_path: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(3)
        encoder = ConditionalEncoder(
            saved(tmp_path), TASKS[:2], variant, 16, checkpointing=checkpointing
        )
        torch.manual_seed(4)
        encoder.states(tokens([9, 5]), torch.tensor([0, 1])).square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in encoder.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize("variant", ["base", "large"])
def test_bf16_products_stay_close(variant: Any, tmp_path: Path) -> None:
    encoder = perturbed(ConditionalEncoder(saved(tmp_path), TASKS[:2], variant, 16))
    given, tasks = tokens([9, 5]), torch.tensor([0, 1])
    with torch.no_grad():
        exact = encoder.states(given, tasks)
        with torch.autocast("cpu", torch.bfloat16):
            rough = encoder.states(given, tasks)
    assert (rough.float() - exact).abs().mean() < 0.03 * exact.abs().mean()


def test_rows_longer_than_the_bias_are_refused(tmp_path: Path) -> None:
    encoder = ConditionalEncoder(saved(tmp_path), TASKS[:2], "base", 8)
    with pytest.raises(UserError, match=r"9 tokens, and CA-MTL was made for 8.*--data.max_length"):
        encoder.states(tokens([9]), torch.tensor([0]))


@pytest.mark.parametrize("family", ["distilbert", "deberta", "modernbert"])
def test_other_layouts_are_refused_and_those_that_work_are_listed(
    family: str, tmp_path: Path
) -> None:
    with pytest.raises(
        UserError, match="works with bert, camembert, electra, roberta, xlm-roberta, not with"
    ):
        ConditionalEncoder(str(save_backbone(family, tmp_path)), TASKS[:2])


def test_frozen_layers_train_what_is_conditional_in_them(tmp_path: Path) -> None:
    encoder = ConditionalEncoder(
        saved(tmp_path, num_hidden_layers=4), TASKS[:2], "base", 16, freeze=(0, 2)
    )
    trained = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    for name in [name for name, _ in encoder.named_parameters()]:
        in_backbone = name.startswith(
            ("backbone.embeddings.", *(f"backbone.encoder.layer.{layer}." for layer in range(3)))
        )
        assert (name in trained) == (not in_backbone or ".film." in name), name
    with pytest.raises(UserError, match="the backbone's layers are 0-3"):
        ConditionalEncoder(saved(tmp_path / "again", num_hidden_layers=4), TASKS[:2], freeze=(2, 4))


def test_a_top_layer_from_scratch_keeps_nothing_of_the_pretrained_one(tmp_path: Path) -> None:
    backbone = saved(tmp_path)
    kept, anew = (
        ConditionalEncoder(backbone, TASKS[:2], top_layer=start).backbone.encoder.layer
        for start in ("pretrained", "scratch")
    )  # type: ignore[arg-type]
    assert torch.equal(kept[1].output.dense.weight, anew[1].output.dense.weight)
    for name in (
        "attention.self.query",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    ):
        assert not torch.equal(
            kept[2].get_submodule(name).weight, anew[2].get_submodule(name).weight
        )


@pytest.mark.parametrize(
    ("variant", "shape", "added", "trained"),
    [
        # The published totals: the backbone, and what the conditional parts add, for 9 tasks and rows of 128.
        ("base", (768, 12, 12, 3072), 19_741_456, 69_777_972 + 5 * (768 * 44 + 44)),
        ("large", (1024, 24, 16, 4096), 146_739_960, 298_550_648 + 12 * (1024 * 32 + 32)),
    ],
)
def test_parameters_of_the_published_sizes(
    variant: Any, shape: tuple[int, ...], added: int, trained: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The release leaves the attention bias's projection of frozen layers at its random start; ours trains it, hence the
    # second summand.
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    sizes: dict[str, Any] = dict(zip(names, shape, strict=True))
    config = BertConfig(vocab_size=28996, **sizes)

    def made(backbone: str, **_: Any) -> Any:
        return AutoModel.from_config(config)

    monkeypatch.setattr(parts, "load_config", lambda backbone: config)
    monkeypatch.setattr(parts, "load_encoder", made)
    with torch.device("meta"):
        encoder = ConditionalEncoder(
            "any", TASKS[:9], variant, 128, freeze=(0, 4 if variant == "base" else 11)
        )
        plain = sum(parameter.numel() for parameter in AutoModel.from_config(config).parameters())
    assert plain == {"base": 108_310_272, "large": 333_579_264}[variant]
    assert sum(parameter.numel() for parameter in encoder.parameters()) == plain + added
    assert (
        sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad)
        == trained
    )


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    encoder = ConditionalEncoder(saved(tmp_path), TASKS[:2], "base", 16)
    with pytest.raises(UserError, match="no tensor for"):
        load_ca_mtl_checkpoint(encoder, {})
    with pytest.raises(UserError, match=r"no place for \['decoders"):
        load_ca_mtl_checkpoint(encoder, {"decoders.0.weight": torch.zeros(1)})


def test_families_share_one_layout() -> None:
    known = {AutoConfig.for_model(name).model_type for name in BERT_LAYOUT}
    assert known == set(BERT_LAYOUT)
    assert {"bert", "roberta", "electra"} <= known & FAMILIES.keys()
    assert all(isinstance(AutoConfig.for_model(name), PretrainedConfig) for name in known)
