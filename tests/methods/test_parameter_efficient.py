import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchjd.aggregation as rules
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, BertConfig

import mtl.modules.encoder as encoders
from mtl.balancing import Sum, Surgery
from mtl.errors import UserError
from mtl.methods import Adapters, LoRA, MultiHead, PALs
from tests.balancing.test_surgery import assert_combined, made, mixed, step, three_tasks
from tests.conftest import save_backbone

EVERY: list[tuple[Any, dict[str, Any]]] = [
    (PALs, {}),
    (PALs, {"variant": "low_rank"}),
    (PALs, {"variant": "shared_and_task"}),
    (Adapters, {}),
    (Adapters, {"placement": "houlsby", "per_task": True}),
    (LoRA, {}),
    (LoRA, {"per_task": True}),
]


def named(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else "-".join(map(str, value.values()))


every = pytest.mark.parametrize(("cls", "args"), EVERY, ids=named)


def base(monkeypatch: pytest.MonkeyPatch, cls: Any, tasks: int, **args: Any) -> nn.Module:
    """A method with a BERT-base that has shapes and no memory."""
    config = BertConfig()

    def loaded(backbone: str, **_: Any) -> Any:
        with torch.device("meta"):
            return AutoModel.from_config(config, add_pooling_layer=False)

    monkeypatch.setattr(encoders, "load_encoder", loaded)
    many = [replace(three_tasks()[0], name=f"task{place}") for place in range(tasks)]
    with torch.device("meta"):
        return cls(tasks=many, backbone="any", **args)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_as_many_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    pals: Any = base(monkeypatch, PALs, 8)
    new = count(pals.projections) + count(pals.pals)
    assert round(new / 8 / 1e6, 2) == 1.82
    assert round(new / 1e6, 1) == 14.6
    low: Any = base(monkeypatch, PALs, 8, variant="low_rank")
    assert round(count(low.pals) / 8 / 1e6, 2) == 1.85
    both: Any = base(monkeypatch, PALs, 3, variant="shared_and_task")
    assert count(both.pals) + count(both.shared) == 4 * 12 * 256_320
    adapters: Any = base(monkeypatch, Adapters, 3)
    assert round(count(adapters.adapters) / 1e6, 2) == 2.44
    assert all(not parameter.requires_grad for parameter in adapters.encoder.parameters())


@every
def test_training_starts_from_the_plain_encoder(
    cls: Any, args: dict[str, Any], backbone: str
) -> None:
    torch.manual_seed(0)
    plain = MultiHead(tasks=three_tasks(), backbone=backbone).eval()
    method = cls(tasks=three_tasks(), backbone=backbone, **args).eval()
    method.heads.load_state_dict(plain.heads.state_dict())
    for task, logits in method(mixed()).items():
        torch.testing.assert_close(logits, plain(mixed())[task], atol=1e-6, rtol=1e-5)


@every
def test_a_mixed_batch_equals_its_tasks_alone(
    cls: Any, args: dict[str, Any], backbone: str
) -> None:
    method = made(cls, backbone, Sum(), **args)
    batch = mixed()
    together = method(batch)
    for segment in batch.segments:
        rows, length = segment.examples, segment.length
        tokens = {name: value[rows, :length] for name, value in batch.tokens.items()}
        own = segment._replace(examples=slice(0, rows.stop - rows.start))
        alone = method(
            batch._replace(tokens=tokens, task_ids=batch.task_ids[rows], segments=(own,))
        )
        torch.testing.assert_close(
            together[segment.task], alone[segment.task], atol=1e-5, rtol=1e-5
        )


def attended(part: Any, states: Tensor, real: int) -> Tensor:
    """A row's attention among its real tokens, head by head."""
    q, k, v = (layer(states) for layer in (part.query, part.key, part.value))
    size = q.shape[-1] // part.heads
    found = []
    for head in range(part.heads):
        own = slice(head * size, (head + 1) * size)
        scores = q[:, own] @ k[:real, own].t() / size**0.5
        found.append(scores.softmax(-1) @ v[:real, own])
    return torch.cat(found, -1)


@pytest.mark.parametrize("variant", ["tied", "low_rank", "shared_and_task"])
def test_pals_are_their_formulas_row_by_row(variant: Any, backbone: str) -> None:
    method = made(PALs, backbone, Sum(), variant=variant)
    batch = mixed()
    logits = method(batch)
    bert = method.encoder.backbone
    for segment in batch.segments:
        for row in range(segment.examples.start, segment.examples.stop):
            mask = batch.tokens["attention_mask"][row].bool()
            ids, types = (
                batch.tokens[name][row][mask][None] for name in ("input_ids", "token_type_ids")
            )
            real = int(mask.sum())
            h = bert.embeddings(input_ids=ids, token_type_ids=types)[0]
            for place, layer in enumerate(bert.encoder.layer):
                part = method.pals[place]
                a = plain_attention(layer.attention.self, h)
                if variant == "shared_and_task":
                    for own in (method.shared[place], part[segment.task]):
                        down = own.projections.down(h)
                        a = a + own.projections.up(attended(own.attention, down, real))
                sa = layer.attention.output.LayerNorm(layer.attention.output.dense(a) + h)
                fed = layer.output.dense(F.gelu(layer.intermediate.dense(sa)))
                beside = torch.zeros_like(h)
                if variant == "tied":
                    both = method.projections[segment.task]
                    beside = F.gelu(both.up(attended(part[segment.task], both.down(h), real)))
                if variant == "low_rank":
                    beside = part[segment.task].up(F.gelu(part[segment.task].down(h)))
                h = layer.output.LayerNorm(fed + sa + beside)
            expected = method.heads[segment.task](h[:1])[0]
            torch.testing.assert_close(
                logits[segment.task][row - segment.examples.start], expected, atol=1e-5, rtol=1e-4
            )


def plain_attention(part: Any, states: Tensor) -> Tensor:
    heads = part.num_attention_heads
    q, k, v = (
        layer(states).unflatten(-1, (heads, -1)).transpose(0, 1)
        for layer in (part.query, part.key, part.value)
    )
    found = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v
    return found.transpose(0, 1).flatten(1)


@pytest.mark.parametrize(
    ("placement", "per_task"),
    [
        ("houlsby", False),
        ("houlsby", True),
        ("pfeiffer", False),
        ("pfeiffer", True),
        ("after_layer", False),
    ],
)
def test_adapters_are_their_formulas_row_by_row(
    placement: Any, per_task: bool, backbone: str
) -> None:
    method = made(Adapters, backbone, Sum(), placement=placement, per_task=per_task)
    batch = mixed()
    logits = method(batch)
    bert, parts = method.encoder.backbone, list(method.adapters)

    def adapted(part: Any, task: str, x: Tensor) -> Tensor:
        own = part[task] if per_task else part
        return x + own.up(F.relu(own.down(x)))

    segment = batch.segments[1]
    row = segment.examples.start + 1
    mask = batch.tokens["attention_mask"][row].bool()
    ids, types = (batch.tokens[name][row][mask][None] for name in ("input_ids", "token_type_ids"))
    h = bert.embeddings(input_ids=ids, token_type_ids=types)[0]
    for place, layer in enumerate(bert.encoder.layer):
        a = layer.attention.output.dense(plain_attention(layer.attention.self, h))
        if placement == "houlsby":
            a = adapted(parts[2 * place], segment.task, a)
        sa = layer.attention.output.LayerNorm(a + h)
        fed = layer.output.dense(F.gelu(layer.intermediate.dense(sa)))
        if placement == "houlsby":
            fed = adapted(parts[2 * place + 1], segment.task, fed)
        norm = layer.output.LayerNorm
        h = F.layer_norm(fed + sa, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        if placement == "after_layer":
            h = adapted(parts[place], segment.task, h)
        if placement == "pfeiffer":
            again = adapted(parts[place], segment.task, h) - h + fed + sa
            h = F.layer_norm(again, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    torch.testing.assert_close(
        logits[segment.task][1], method.heads[segment.task](h[:1])[0], atol=1e-5, rtol=1e-4
    )


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # peft 0.21's
def test_lora_is_pefts(backbone: str) -> None:
    from peft import LoraConfig, get_peft_model

    method = made(LoRA, backbone, Sum(), rank=4, alpha=8.0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], lora_dropout=0.0)
    theirs: Any = get_peft_model(
        copy.deepcopy(AutoModel.from_pretrained(backbone, add_pooling_layer=False)), config
    ).eval()
    with torch.no_grad():
        for name, parameter in theirs.base_model.model.named_parameters():
            if "lora_" in name:
                place, _, kind = name.partition(".lora_")
                change = method.changes[place.replace(".", "/")]
                parameter.copy_(change.a.weight if kind.startswith("A") else change.b.weight)
            else:
                parameter.copy_(
                    method.encoder.backbone.get_parameter(name.replace(".base_layer", ""))
                )
    batch = mixed()
    mask = batch.tokens["attention_mask"]
    with torch.no_grad():
        expected = theirs(**batch.tokens).last_hidden_state
        got = torch.cat(
            [method.encoder.states(batch, s.examples, s.length)[:, 0] for s in batch.segments]
        )
    torch.testing.assert_close(got, expected[:, 0], atol=1e-5, rtol=1e-5)
    assert mask.shape == expected.shape[:2]
    part: Any = method.changes["encoder/layer/0/attention/self/query"]
    torch.testing.assert_close(part.merged(), 8 / 4 * part.b.weight @ part.a.weight)


@every
def test_gradients_reach_what_shall_be_trained_and_nothing_else(
    cls: Any, args: dict[str, Any], backbone: str
) -> None:
    method = made(cls, backbone, Sum(), **args, freeze=True)
    batch = mixed()
    sum(method.task_losses(batch).values()).backward()
    trained = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith("encoder.") for name in trained)
    assert trained == {
        name for name, parameter in method.named_parameters() if parameter.requires_grad
    }


@every
def test_an_absent_task_trains_nothing_of_its_own(
    cls: Any, args: dict[str, Any], backbone: str
) -> None:
    method = made(cls, backbone, Sum(), **args)
    batch = mixed()
    part = batch._replace(
        segments=batch.segments[:2],
        task_ids=batch.task_ids[:7],
        tokens={n: v[:7] for n, v in batch.tokens.items()},
    )
    sum(method.task_losses(part).values()).backward()
    assert all(
        parameter.grad is None for name, parameter in method.named_parameters() if ".kind." in name
    )


@every
def test_checkpointed_layers_give_the_same_gradients(
    cls: Any, args: dict[str, Any], backbone: str
) -> None:
    found = []
    for checkpointing in (False, True):
        method = made(cls, backbone, Sum(), **args, gradient_checkpointing=checkpointing).train()
        for module in method.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout") and type(module).__name__.endswith("SelfAttention"):
                module.dropout.p = 0.0
        sum(method.task_losses(mixed()).values()).backward()
        found.append(
            {
                name: parameter.grad
                for name, parameter in method.named_parameters()
                if parameter.grad is not None
            }
        )
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


@pytest.mark.parametrize("mode", ["stored", "two_pass"])
@every
def test_surgery_is_exact(
    cls: Any, args: dict[str, Any], mode: Any, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if args.get("per_task"):
        args = args | {"freeze": False}
    method = made(cls, backbone, Surgery(rules.UPGrad, mode=mode), **args)
    method.balancer.on_fit_start(method, {})
    monkeypatch.setattr(
        "mtl.balancing.surgery.slow_task_gradients", lambda *_: pytest.fail("a pass for each task")
    )
    step(method, mixed())
    assert_combined(method, mixed())


def test_parts_outside_of_a_pass_say_so(backbone: str) -> None:
    method = made(Adapters, backbone, Sum(), per_task=True)
    with pytest.raises(RuntimeError, match="whose rows these are is not known"):
        method.encoder.backbone(**mixed().tokens)


@pytest.mark.parametrize("cls", [PALs, Adapters])
def test_other_layouts_are_refused(cls: Any, in_tmp: Path) -> None:
    with pytest.raises(
        UserError, match="unsupported backbone family: distilbert. Supported: bert, "
    ):
        cls(tasks=three_tasks(), backbone=str(save_backbone("distilbert", in_tmp)))


@pytest.mark.parametrize(
    "family", ["bert", "roberta", "electra", "deberta", "distilbert", "modernbert"]
)
def test_lora_knows_queries_and_values_of_every_family(family: str, in_tmp: Path) -> None:
    method = LoRA(tasks=three_tasks(), backbone=str(save_backbone(family, in_tmp)))
    assert len(method.changes) == (2 if family == "modernbert" else 4)


def test_lora_names_the_maps_there_are(backbone: str) -> None:
    with pytest.raises(
        UserError,
        match="no linear layer named querry. Choose from: dense, key, query, value.",
    ):
        LoRA(tasks=three_tasks(), backbone=backbone, targets=["querry"])
