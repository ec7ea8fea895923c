from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torchjd.aggregation as rules
from torch import Tensor
from torch.nn import functional as F

from mtl.balancing import Sum, Surgery
from mtl.batch import Batch
from mtl.errors import UserError
from mtl.methods import CAMTL, Joint, MultiHead, Separate
from mtl.regularizers import SMART
from tests.balancing.test_surgery import assert_combined, mixed, step
from tests.balancing.test_surgery import made as plainly_made

Norm = Literal["inf", "l2", "l1"]


def made(*args: Any, **more: Any) -> Any:
    method = plainly_made(*args, **more)
    method.regularizer.on_fit_start(method)
    return method


def alone(batch: Batch) -> Batch:
    """The first task's rows, which pass through the encoder at once."""
    rows = batch.segments[0].examples
    length = batch.segments[0].length
    tokens = {name: value[rows, :length] for name, value in batch.tokens.items()}
    return batch._replace(tokens=tokens, task_ids=batch.task_ids[rows], segments=batch.segments[:1])


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Mean over rows of sum_c P_c log(P_c / Q_c), of logits."""
    p, q = p.softmax(-1), q.softmax(-1)
    return (p * (p / q).log()).sum(-1).mean()


def smoothness(
    method: Any, batch: Batch, noise: Tensor, steps: int, size: float, norm: Norm, level: str
) -> Tensor:
    """The formula of the specification, section C.4, with transformers' own way in for embeddings."""
    backbone, mask = method.encoder.backbone, batch.tokens["attention_mask"]
    words = backbone.get_input_embeddings()(batch.tokens["input_ids"])

    def logits(embedded: Tensor) -> Tensor:
        types = batch.tokens["token_type_ids"]
        states = backbone(
            inputs_embeds=embedded, attention_mask=mask, token_type_ids=types
        ).last_hidden_state
        return method.heads["mood"](states[:, 0])

    clean = logits(words)
    for _ in range(steps):
        noise = noise.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(kl(clean.detach(), logits(words + noise)), noise)
        moved = noise.detach() + size * gradient
        axes = -1 if level == "token" else (-2, -1)
        largest = {
            "inf": moved.abs().amax(axes, keepdim=True),
            "l2": (moved**2).sum(axes, keepdim=True).sqrt(),
        }
        noise = moved.sign() if norm == "l1" else moved / (largest[norm] + 1e-6)
    there = logits(words + noise)
    return kl(clean.detach(), there) + kl(there.detach(), clean)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("norm", ["inf", "l2", "l1"])
@pytest.mark.parametrize("level", ["token", "sentence"])
def test_smoothness_is_the_formula_written_out(
    steps: int, norm: Norm, level: Any, backbone: str
) -> None:
    smart = SMART(
        weight=3.0,
        steps=steps,
        step_size=0.5,
        noise=0.1,
        epsilon=1e-6,
        norm=norm,
        level=level,
        proximal=0.0,
    )
    method = made(MultiHead, backbone, Sum(), regularizer=smart)
    batch = alone(mixed())
    smart.on_step_start()
    logits = method.training_logits(batch)
    torch.manual_seed(3)
    got = smart(method, batch, logits)["mood"].mean()
    torch.manual_seed(3)
    noise = 0.1 * torch.randn(*batch.tokens["input_ids"].shape, method.encoder.width)
    expected = 3.0 * smoothness(method, batch, noise, steps, 0.5, norm, level)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    parameters = [
        p
        for name, p in method.named_parameters()
        if "heads.same" not in name and "heads.kind" not in name
    ]
    ours, theirs = (
        torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        for value in (got, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        if other is not None:
            assert one is not None
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_the_loss_is_the_tasks_own_and_the_smoothness(backbone: str) -> None:
    smart = SMART(weight=2.0, noise=0.1, proximal=0.0)
    method = made(MultiHead, backbone, Sum(), regularizer=smart)
    batch = mixed()
    torch.manual_seed(1)
    losses = method.task_losses(batch)
    torch.manual_seed(1)
    smart.on_step_start()
    added = smart(method, batch, method.training_logits(batch))
    logits = method(batch)
    for segment in batch.segments:
        own = F.cross_entropy(logits[segment.task], segment.labels)
        torch.testing.assert_close(losses[segment.task], own + added[segment.task].mean())
        torch.testing.assert_close(method.added[segment.task], added[segment.task].mean())


def test_values_are_drawn_together_by_their_squared_difference(tasks: Any, backbone: str) -> None:
    smart = SMART(noise=0.5, proximal=0.0)
    method = MultiHead(tasks=tasks[2:], backbone=backbone, regularizer=smart).eval()
    smart.on_fit_start(method)
    smart.on_step_start()
    batch = alone(mixed())
    segment = batch.segments[0]._replace(task="near", labels=torch.rand(3))
    batch = batch._replace(segments=(segment,))
    seen: list[Tensor] = []
    method.heads["near"].register_forward_hook(lambda module, args, output: seen.append(output))
    logits = method.training_logits(batch)
    got = smart(method, batch, logits)["near"]
    torch.testing.assert_close(got, ((logits["near"] - seen[-1]) ** 2)[:, 0])
    assert got.max() > 0


def test_ascent_asks_for_no_weights_gradient(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    whole = torch.autograd.grad

    def spy(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(list(inputs))
        return whole(outputs, inputs, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", spy)
    method = made(MultiHead, backbone, Sum(), regularizer=SMART(proximal=0.0, steps=2))
    method.task_losses(mixed())
    weights = {id(parameter) for parameter in method.parameters()}
    assert len(asked) == 2
    assert not any(id(tensor) in weights for inputs in asked for tensor in inputs)
    assert all(parameter.grad is None for parameter in method.parameters())


@pytest.mark.parametrize("cls", [MultiHead, CAMTL, Joint, Separate])
def test_every_method_takes_it_and_is_left_as_it_was(cls: Any, backbone: str) -> None:
    method = made(cls, backbone, Sum(), regularizer=SMART())
    batch = mixed()
    before = {task: rows.detach() for task, rows in method(batch).items()}
    sum(method.task_losses(batch).values()).backward()
    assert any(parameter.grad is not None for parameter in method.parameters())
    for task, rows in method(batch).items():
        assert torch.equal(rows, before[task])


def test_the_light_variant_computes_the_heads_alone_anew(backbone: str) -> None:
    method = made(
        MultiHead, backbone, Sum(), regularizer=SMART(target="pooled", noise=0.1, proximal=0.0)
    )
    passes: list[int] = []
    method.encoder.backbone.register_forward_hook(lambda *_: passes.append(1))
    batch = alone(mixed())
    losses = method.task_losses(batch)
    assert len(passes) == 1
    losses["mood"].backward()
    assert method.added["mood"] > 0


def test_the_light_variant_refuses_heads_that_read_more(tasks: Any, backbone: str) -> None:
    method = MultiHead(
        tasks=tasks[1:2], backbone=backbone, regularizer=SMART(target="pooled"), heads="san"
    )
    with pytest.raises(UserError, match="read more than a pooled vector"):
        method.regularizer.on_fit_start(method)  # type: ignore[union-attr]


def test_the_proximal_term_is_zero_at_first_and_then_the_symmetric_divergence_from_the_average(
    backbone: str,
) -> None:
    smart = SMART(weight=0.0, proximal=1.5)
    method = made(MultiHead, backbone, Sum(), regularizer=smart)
    batch = alone(mixed())
    assert smart(method, batch, method.training_logits(batch))["mood"].abs().max() < 1e-6
    start = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    smart.on_step_end(method, done=0.05)
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(smart.average[name], 0.99 * start[name] + 0.01 * parameter)
    now = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    smart.on_step_end(method, done=0.5)
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(
            smart.average[name], 0.999 * (0.99 * start[name] + 0.01 * now[name]) + 0.001 * parameter
        )
    logits = method.training_logits(batch)
    got = smart(method, batch, logits)["mood"].mean()
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            parameter.copy_(smart.average[name])
        before = method.training_logits(batch)["mood"]
    torch.testing.assert_close(
        got, 1.5 * (kl(logits["mood"], before) + kl(before, logits["mood"])), atol=1e-6, rtol=1e-4
    )


def test_the_average_goes_on_from_a_checkpoint(backbone: str, in_tmp: Path) -> None:
    one, two = (made(MultiHead, backbone, Sum(), regularizer=SMART()) for _ in range(2))
    one.regularizer.on_step_end(one, 0.0)
    torch.save(one.state_dict(), "state.pt")
    two.load_state_dict(torch.load("state.pt", weights_only=True))
    for name, value in one.regularizer.average.items():
        assert torch.equal(two.regularizer.average[name], value)


@pytest.mark.parametrize("mode", ["stored", "two_pass"])
def test_surgery_sees_each_tasks_regularised_gradient(mode: Any, backbone: str) -> None:
    method = made(
        MultiHead,
        backbone,
        Surgery(rules.UPGrad, mode=mode),
        regularizer=SMART(noise=0.1, proximal=0.0),
    )
    method.balancer.on_fit_start(method, {})
    batch = mixed()
    torch.manual_seed(4)
    step(method, batch)
    torch.manual_seed(4)
    assert_combined(method, batch)
