import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torchjd.aggregation as aggregation
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, BertConfig

import mtl.modules.encoder as encoders
from mtl.balancing import Sum, Surgery
from mtl.batch import Batch
from mtl.errors import UserError
from mtl.methods import Adapters, LoRA, MTLLoRA, MultiHead, PALs
from mtl.modules.multi_task_lora import MultiTaskLowRank
from mtl.modules.pals import SmallAttention
from mtl.modules.task_context import one_example_per_task
from tests.balancing.helpers import (
    assert_combined,
    make_method,
    mixed_batch,
    three_tasks,
    training_step,
)

CONFIGURATIONS: list[tuple[Any, dict[str, Any]]] = [
    (PALs, {}),
    (PALs, {"variant": "low_rank"}),
    (PALs, {"variant": "shared_and_task"}),
    (Adapters, {}),
    (Adapters, {"placement": "houlsby", "per_task": True}),
    (LoRA, {}),
    (LoRA, {"per_task": True}),
    (MTLLoRA, {"rank": 4, "alpha": 4.0, "temperature": 1.0}),
]


def label(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else "-".join(map(str, value.values()))


every = pytest.mark.parametrize(("cls", "args"), CONFIGURATIONS, ids=label)


def on_bert_base(monkeypatch: pytest.MonkeyPatch, cls: Any, tasks: int, **args: Any) -> nn.Module:
    """A method with a BERT-base on the meta device."""
    config = BertConfig()

    def load(backbone: str, **_: Any) -> Any:
        with torch.device("meta"):
            return AutoModel.from_config(config, add_pooling_layer=False), []

    monkeypatch.setattr(encoders, "load_encoder", load)
    many = [replace(three_tasks()[0], name=f"task{index}") for index in range(tasks)]
    with torch.device("meta"):
        return cls(tasks=many, backbone="any", **args)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_as_many_as_published(monkeypatch: pytest.MonkeyPatch) -> None:
    pals: Any = on_bert_base(monkeypatch, PALs, 8)
    new = count(pals.projections) + count(pals.pals)
    assert round(new / 8 / 1e6, 2) == 1.82
    assert round(new / 1e6, 1) == 14.6
    low: Any = on_bert_base(monkeypatch, PALs, 8, variant="low_rank")
    assert round(count(low.pals) / 8 / 1e6, 2) == 1.85
    both: Any = on_bert_base(monkeypatch, PALs, 3, variant="shared_and_task")
    assert count(both.pals) + count(both.shared) == 4 * 12 * 256_320
    adapters: Any = on_bert_base(monkeypatch, Adapters, 3)
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
    for task, logits in method(mixed_batch()).items():
        torch.testing.assert_close(logits, plain(mixed_batch())[task], atol=1e-6, rtol=1e-5)


@every
def test_a_mixed_batch_equals_separate_batches(
    cls: Any, args: dict[str, Any], backbone: str
) -> None:
    method = make_method(cls, backbone, Sum(), **args)
    batch = mixed_batch()
    mixed_logits = method(batch)
    for segment in batch.segments:
        examples, length = segment.examples, segment.length
        tokens = {name: value[examples, :length] for name, value in batch.tokens.items()}
        only = segment._replace(examples=slice(0, examples.stop - examples.start))
        logits = method(
            batch._replace(tokens=tokens, task_ids=batch.task_ids[examples], segments=(only,))
        )
        torch.testing.assert_close(
            mixed_logits[segment.task], logits[segment.task], atol=1e-5, rtol=1e-5
        )


def small_attention(module: Any, states: Tensor) -> Tensor:
    """The attention of one unpadded example, head by head."""
    q, k, v = (layer(states) for layer in (module.query, module.key, module.value))
    size = q.shape[-1] // module.heads
    outputs = []
    for head in range(module.heads):
        columns = slice(head * size, (head + 1) * size)
        scores = q[:, columns] @ k[:, columns].t() / size**0.5
        outputs.append(scores.softmax(-1) @ v[:, columns])
    return torch.cat(outputs, -1)


def unpadded(batch: Batch, example: int) -> tuple[Tensor, Tensor]:
    """Token ids and token types of one example without padding, each of shape (1, length)."""
    mask = batch.tokens["attention_mask"][example].bool()
    ids, types = (batch.tokens[name][example][mask] for name in ("input_ids", "token_type_ids"))
    return ids[None], types[None]


@pytest.mark.parametrize("variant", ["tied", "low_rank", "shared_and_task"])
def test_pals_equal_their_formulas_for_each_example(variant: Any, backbone: str) -> None:
    method = make_method(PALs, backbone, Sum(), variant=variant)
    batch = mixed_batch()
    logits = method(batch)
    bert = method.encoder.backbone
    for segment in batch.segments:
        for example in range(segment.examples.start, segment.examples.stop):
            ids, types = unpadded(batch, example)
            h = bert.embeddings(input_ids=ids, token_type_ids=types)[0]
            for index, layer in enumerate(bert.encoder.layer):
                pal = method.pals[index][segment.task]
                a = plain_attention(layer.attention.self, h)
                if variant == "shared_and_task":
                    for module in (method.shared[index], pal):
                        down = module.projections.down(h)
                        a = a + module.projections.up(small_attention(module.attention, down))
                dense = layer.attention.output.dense
                sa = layer.attention.output.LayerNorm(F.linear(a, dense.weight, dense.bias) + h)
                fed = layer.output.dense(F.gelu(layer.intermediate.dense(sa)))
                added = torch.zeros_like(h)
                if variant == "tied":
                    projections = method.projections[segment.task]
                    added = F.gelu(projections.up(small_attention(pal, projections.down(h))))
                if variant == "low_rank":
                    added = pal.up(F.gelu(pal.down(h)))
                h = layer.output.LayerNorm(fed + sa + added)
            expected = method.heads[segment.task](h[:1])[0]
            torch.testing.assert_close(
                logits[segment.task][example - segment.examples.start],
                expected,
                atol=1e-5,
                rtol=1e-4,
            )


def plain_attention(attention: Any, states: Tensor) -> Tensor:
    heads = attention.num_attention_heads
    q, k, v = (
        layer(states).unflatten(-1, (heads, -1)).transpose(0, 1)
        for layer in (attention.query, attention.key, attention.value)
    )
    attended = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1) @ v
    return attended.transpose(0, 1).flatten(1)


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
def test_adapters_equal_their_formulas(placement: Any, per_task: bool, backbone: str) -> None:
    method = make_method(Adapters, backbone, Sum(), placement=placement, per_task=per_task)
    batch = mixed_batch()
    logits = method(batch)
    bert, adapters = method.encoder.backbone, list(method.adapters)
    segment = batch.segments[1]
    ids, types = unpadded(batch, segment.examples.start + 1)

    def adapted(adapter: Any, x: Tensor) -> Tensor:
        bottleneck = adapter[segment.task] if per_task else adapter
        return x + bottleneck.up(F.relu(bottleneck.down(x)))

    h = bert.embeddings(input_ids=ids, token_type_ids=types)[0]
    for index, layer in enumerate(bert.encoder.layer):
        a = layer.attention.output.dense(plain_attention(layer.attention.self, h))
        if placement == "houlsby":
            a = adapted(adapters[2 * index], a)
        sa = layer.attention.output.LayerNorm(a + h)
        fed = layer.output.dense(F.gelu(layer.intermediate.dense(sa)))
        if placement == "houlsby":
            fed = adapted(adapters[2 * index + 1], fed)
        norm = layer.output.LayerNorm
        h = F.layer_norm(fed + sa, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        if placement == "after_layer":
            h = adapted(adapters[index], h)
        if placement == "pfeiffer":
            summed = adapted(adapters[index], h) - h + fed + sa
            h = F.layer_norm(summed, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
    torch.testing.assert_close(
        logits[segment.task][1], method.heads[segment.task](h[:1])[0], atol=1e-5, rtol=1e-4
    )


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")  # of peft 0.21
@pytest.mark.parametrize("rslora", [False, True])
def test_lora_equals_peft(rslora: bool, backbone: str) -> None:
    from peft import LoraConfig, get_peft_model

    ranks = {"value": 3, r"layer\.0.*query": 2}
    method = make_method(
        LoRA, backbone, Sum(), rank=4, alpha=8.0, rslora=rslora, rank_pattern=ranks
    )
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["query", "value"],
        lora_dropout=0.0,
        use_rslora=rslora,
        rank_pattern=ranks,
    )
    peft_model: Any = get_peft_model(
        copy.deepcopy(AutoModel.from_pretrained(backbone, add_pooling_layer=False)), config
    ).eval()
    with torch.no_grad():
        for name, parameter in peft_model.base_model.model.named_parameters():
            if "lora_" in name:
                layer, _, matrix = name.partition(".lora_")
                update = method.changes[layer.replace(".", "/")]
                parameter.copy_(update.a.weight if matrix.startswith("A") else update.b.weight)
            else:
                parameter.copy_(
                    method.encoder.backbone.get_parameter(name.replace(".base_layer", ""))
                )
    batch = mixed_batch()
    mask = batch.tokens["attention_mask"]
    with torch.no_grad():
        expected = peft_model(**batch.tokens).last_hidden_state
        states = torch.cat(
            [method.encoder.states(batch, s.examples, s.length)[:, 0] for s in batch.segments]
        )
    torch.testing.assert_close(states, expected[:, 0], atol=1e-5, rtol=1e-5)
    assert mask.shape == expected.shape[:2]
    update = method.changes["encoder/layer/0/attention/self/query"]
    scale = 8 / 2**0.5 if rslora else 8 / 2
    torch.testing.assert_close(update.merged(), scale * update.b.weight @ update.a.weight)


def test_mtl_lora_equals_its_formula() -> None:
    torch.manual_seed(0)
    names = [task.name for task in three_tasks()]
    update = MultiTaskLowRank(three_tasks(), 5, 7, 2, 6.0, 0.0, count=3, temperature=0.1)
    with torch.no_grad():
        for parameter in update.parameters():
            parameter.normal_()
    states = torch.randn(3, 4, 5)
    with one_example_per_task(names):
        actual = update(states).detach().double().numpy()
    a = update.a.weight.detach().double().numpy()
    matrices = [weight.detach().double().numpy() for weight in update.b.parameters()]
    for index, name in enumerate(names):
        mix = update.mixes[name]
        weights = np.exp(mix.weights.detach().double().numpy() / 0.1)
        weights /= weights.sum()
        b = sum(weight * matrix for weight, matrix in zip(weights, matrices, strict=True))
        matrix = 6 / 2 * b @ mix.transform.weight.detach().double().numpy() @ a
        expected = states[index].double().numpy() @ matrix.T
        np.testing.assert_allclose(actual[index], expected, rtol=1e-4, atol=1e-4)
        merged = update.merged(name).detach().numpy()
        np.testing.assert_allclose(merged, matrix, rtol=1e-4, atol=1e-4)


@every
def test_exactly_the_trainable_parameters_get_gradients(
    cls: Any, args: dict[str, Any], backbone: str
) -> None:
    method = make_method(cls, backbone, Sum(), **args, freeze=True)
    batch = mixed_batch()
    sum(method.task_losses(batch).values()).backward()
    trained = {name for name, parameter in method.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith("encoder.") for name in trained)
    assert trained == {
        name for name, parameter in method.named_parameters() if parameter.requires_grad
    }


@every
def test_a_task_missing_in_the_batch_trains_nothing(
    cls: Any, args: dict[str, Any], backbone: str
) -> None:
    method = make_method(cls, backbone, Sum(), **args)
    batch = mixed_batch()
    pair = batch._replace(
        segments=batch.segments[:2],
        task_ids=batch.task_ids[:7],
        tokens={n: v[:7] for n, v in batch.tokens.items()},
    )
    sum(method.task_losses(pair).values()).backward()
    assert all(
        parameter.grad is None for name, parameter in method.named_parameters() if ".kind." in name
    )


@every
def test_checkpointed_layers_give_the_same_gradients(
    cls: Any, args: dict[str, Any], backbone: str
) -> None:
    gradients = []
    for checkpointing in (False, True):
        method = make_method(
            cls, backbone, Sum(), **args, gradient_checkpointing=checkpointing
        ).train()
        for module in method.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout") and type(module).__name__.endswith("SelfAttention"):
                module.dropout.p = 0.0
        sum(method.task_losses(mixed_batch()).values()).backward()
        gradients.append(
            {
                name: parameter.grad
                for name, parameter in method.named_parameters()
                if parameter.grad is not None
            }
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


@pytest.mark.parametrize("mode", ["stored", "two_pass"])
@every
def test_surgery_is_exact(
    cls: Any, args: dict[str, Any], mode: Any, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if args.get("per_task"):
        args = args | {"freeze": False}
    method = make_method(cls, backbone, Surgery(aggregation.UPGrad, mode=mode), **args)
    method.balancer.on_fit_start(method, {})
    monkeypatch.setattr(
        "mtl.balancing.surgery.slow_task_gradients", lambda *_: pytest.fail("a pass for each task")
    )
    training_step(method, mixed_batch())
    assert_combined(method, mixed_batch())


def test_per_task_modules_outside_a_task_context_are_refused(backbone: str) -> None:
    method = make_method(Adapters, backbone, Sum(), per_task=True)
    with pytest.raises(RuntimeError, match="is unknown: no task context"):
        method.encoder.backbone(**mixed_batch().tokens)


def test_targets_and_ranks_are_chosen_by_patterns(backbone: str) -> None:
    method: Any = LoRA(
        tasks=three_tasks(),
        backbone=backbone,
        targets=r"encoder\.layer\.1\.(attention.*key|output\.dense)",
        rank_pattern={"dense": 3},
    )
    ranks = {name: update.a.out_features for name, update in method.changes.items()}
    layer = "encoder/layer/1"
    assert ranks == {f"{layer}/attention/self/key": 8, f"{layer}/output/dense": 3}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"targets": "query"}, "targets: the name of no linear layer matches 'query'"),
        ({"rank_pattern": {"key": 4}}, "no name of an updated layer ends with 'key'. The names: "),
    ],
)
def test_a_pattern_without_a_match_is_refused(
    args: dict[str, Any], message: str, backbone: str
) -> None:
    with pytest.raises(UserError, match=message):
        LoRA(tasks=three_tasks(), backbone=backbone, **args)


def test_an_unknown_target_is_refused_and_the_layers_are_listed(backbone: str) -> None:
    with pytest.raises(
        UserError,
        match="no linear layer named querry. Choose from: dense, key, query, value.",
    ):
        LoRA(tasks=three_tasks(), backbone=backbone, targets=["querry"])


@pytest.mark.parametrize("variant", ["tied", "shared_and_task"])
def test_pals_drop_attention_probabilities_in_training_only(
    variant: str, backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    probabilities: list[float] = []
    attention = F.scaled_dot_product_attention

    def spy(*args: Any, **kwargs: Any) -> Tensor:
        probabilities.append(args[4])
        return attention(*args, **kwargs)

    method = make_method(PALs, backbone, Sum(), variant=variant)
    method.encoder.backbone.config._attn_implementation = "eager"
    for module in method.modules():
        if isinstance(module, SmallAttention):
            assert module.dropout == method.encoder.backbone.config.attention_probs_dropout_prob
            module.dropout = 0.25
    monkeypatch.setattr("mtl.modules.pals.F.scaled_dot_product_attention", spy)
    method.train()(mixed_batch())
    assert set(probabilities) == {0.25}
    probabilities.clear()
    method.eval()(mixed_batch())
    assert set(probabilities) == {0.0}


def test_the_published_attention_dropout_of_pals_is_the_encoders() -> None:
    assert BertConfig().attention_probs_dropout_prob == 0.1
