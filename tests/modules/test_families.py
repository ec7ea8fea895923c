"""Every method works with every family of models, or refuses it by name."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torchjd.aggregation as aggregation
from transformers import AutoModel
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from experiments import families
from mtl.balancing import Sum, Surgery
from mtl.batch import Batch, Segment
from mtl.errors import UserError
from mtl.methods import (
    CAMTL,
    Adapters,
    DomainAdversarial,
    Joint,
    LoRA,
    MetaFineTuning,
    MTLLoRA,
    MultiHead,
    PALs,
    Separate,
    TaskLayers,
    separate,
)
from mtl.modules import ca_mtl as conditional_encoders
from mtl.modules import encoder as encoders
from mtl.modules import masked_lm
from mtl.modules.backbone import language_model_class, load_language_model
from mtl.modules.backbone_checks import is_causal
from mtl.modules.families import family, supports
from mtl.modules.family_table import FAMILIES
from mtl.regularizers.perturbation import embedding_blocks
from tests.balancing.helpers import (
    assert_combined,
    make_method,
    mixed_batch,
    training_step,
)
from tests.families import small_config

METHODS: list[tuple[Any, dict[str, Any]]] = [
    (MultiHead, {}),
    (Separate, {}),
    (Joint, {}),
    (DomainAdversarial, {}),
    (MetaFineTuning, {"scores": "none", "layers": [0, 1], "pooling": "mean"}),
    (LoRA, {"per_task": True}),
    (MTLLoRA, {}),
    (Adapters, {"placement": "houlsby", "per_task": True}),
    (Adapters, {"placement": "pfeiffer"}),
    (Adapters, {"placement": "after_layer", "per_task": True}),
    (PALs, {"variant": "tied"}),
    (PALs, {"variant": "low_rank"}),
    (PALs, {"variant": "shared_and_task"}),
    (TaskLayers, {}),
    (CAMTL, {}),
]


@pytest.fixture(scope="module")
def models() -> dict[tuple[str, bool], Any]:
    return {}


@pytest.fixture
def tiny(models: dict[tuple[str, bool], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a family is a backbone: a random model with two layers, built once."""

    def load(backbone: str, pretrained: bool = True, pooler: bool = False, **_: Any) -> Any:
        if (backbone, pooler) not in models:
            torch.manual_seed(0)
            options = {"add_pooling_layer": pooler} if FAMILIES[backbone].pooler else {}
            models[backbone, pooler] = AutoModel.from_config(small_config(backbone), **options)
        return copy.deepcopy(models[backbone, pooler]).train(), []

    for module in (encoders, conditional_encoders):
        monkeypatch.setattr(module, "load_encoder", load)
    for module in (separate, conditional_encoders):
        monkeypatch.setattr(module, "load_config", small_config)


def alone(batch: Batch, segment: Segment) -> Batch:
    """The examples of one segment as a batch of their own, without the padding of longer ones."""
    examples, length = segment.examples, segment.length
    return batch._replace(
        tokens={name: value[examples, :length] for name, value in batch.tokens.items()},
        task_ids=batch.task_ids[examples],
        segments=(segment._replace(examples=slice(0, examples.stop - examples.start)),),
    )


def near_lengths() -> Batch:
    """Tasks of similar lengths: one encoder pass, in which most examples are padded."""
    return mixed_batch(lengths=(10, 9, 12), types=False)


@pytest.mark.parametrize(("cls", "args"), METHODS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("name", FAMILIES)
def test_a_method_works_with_a_family_or_refuses_it_by_name(
    name: str, cls: Any, args: dict[str, Any], tiny: None
) -> None:
    """A task's logits do not depend on the other tasks' examples; all parameters are trained."""
    if not supports(cls.__name__, FAMILIES[name]):
        with pytest.raises(
            UserError, match=f"{cls.__name__}: unsupported backbone family: {name}. Supp"
        ):
            make_method(cls, name, Sum(), **args)
        return
    method, batch = make_method(cls, name, Sum(), **args), near_lengths()
    logits = method(batch)
    for segment in batch.segments:
        expected = method(alone(batch, segment))[segment.task]
        torch.testing.assert_close(logits[segment.task], expected, atol=2e-5, rtol=1e-4)
    sum(method.train().task_losses(batch).values()).backward()
    for parameter_name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, parameter_name


@pytest.mark.parametrize("name", FAMILIES)
def test_the_embedding_block_of_a_family_computes_the_input_of_its_first_layer(name: str) -> None:
    model: Any = AutoModel.from_config(small_config(name)).eval()
    (block,) = embedding_blocks(model)
    outputs: dict[str, torch.Tensor] = {}
    block.register_forward_hook(lambda module, args, output: outputs.update(block=output))
    states = model(torch.tensor([[2, 5, 6, 3]]), output_hidden_states=True).hidden_states[0]
    project = getattr(model, "embeddings_project", None)  # ELECTRA
    if name == "albert":
        project = model.encoder.embedding_hidden_mapping_in
    embedded = outputs["block"] if project is None else project(outputs["block"])
    torch.testing.assert_close(embedded, states)


@pytest.mark.parametrize("method", ["PALs", "LoRA without targets"])
def test_a_family_that_is_not_in_the_table_is_refused(method: str) -> None:
    with pytest.raises(UserError, match=f"{method}: unsupported backbone family: xlnet. Supported"):
        family("xlnet", method)


def test_the_page_about_families_is_up_to_date() -> None:
    page = families.PAGE.read_text(encoding="utf-8")
    assert f"{families.START}\n\n{families.tables()}\n{families.END}" in page, "make families"


def test_pals_refuse_attention_heads_that_do_not_have_the_width_of_the_states(
    tiny: None, models: dict[tuple[str, bool], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("qwen3", head_dim=4)
    monkeypatch.setitem(models, ("qwen3", False), AutoModel.from_config(config))
    with pytest.raises(UserError, match="have 8 outputs, but its hidden states have 16; choose va"):
        make_method(PALs, "qwen3", Sum(), variant="shared_and_task")


@pytest.mark.parametrize("cls", [MultiHead, LoRA])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_task_gradients_of_a_family_equal_one_backward_pass_per_task(
    name: str, cls: Any, tiny: None, recwarn: pytest.WarningsRecorder
) -> None:
    method, batch = make_method(cls, name, Surgery(aggregation.UPGrad)), near_lengths()
    method.balancer.on_fit_start(method, {})
    training_step(method, batch)
    several_passes = any("a backward pass for each task" in str(each.message) for each in recwarn)
    assert several_passes == (cls is MultiHead and not FAMILIES[name].one_pass)
    assert_combined(method, batch)


@pytest.mark.parametrize("mode", ["stored", "two_pass"])
@pytest.mark.parametrize("name", ["gpt2", "gemma"])
def test_both_modes_of_surgery_are_exact_for_the_layers_of_decoders(
    name: str, mode: Any, tiny: None
) -> None:
    """GPT-2's transposed linear layers; Gemma's norms and scaled embeddings."""
    method = make_method(MultiHead, name, Surgery(aggregation.UPGrad, mode=mode))
    method.balancer.on_fit_start(method, {})
    training_step(method, near_lengths())
    assert_combined(method, near_lengths())


def test_a_decoder_learns_to_tell_examples_apart(tiny: None) -> None:
    """Its pooled token has seen the text: the loss of random labels falls, and answers differ."""
    method, batch = make_method(MultiHead, "qwen3", Sum()), near_lengths()
    optimizer = torch.optim.Adam(method.parameters(), 3e-2)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = sum(method.task_losses(batch).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    answers = torch.cat([logits.argmax(-1) for logits in method(batch).values()])
    labels = torch.cat([segment.labels for segment in batch.segments])
    assert len(labels.unique()) > 1 and torch.equal(answers, labels)


LANGUAGE_MODELS = [
    name
    for name in FAMILIES
    if name in MODEL_FOR_MASKED_LM_MAPPING_NAMES or is_causal(small_config(name))
]


@pytest.mark.parametrize("name", [name for name in LANGUAGE_MODELS if name != "gemma2"])
def test_label_words_have_the_logits_of_the_language_model(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So have their gradients, which tied word embeddings get from the head and from the text."""
    torch.manual_seed(0)
    config = small_config(name)
    full = language_model_class(config).from_config(config).eval()
    monkeypatch.setattr(masked_lm, "load_language_model", lambda *_: copy.deepcopy(full))
    model, batch = masked_lm.MaskedLM(name), near_lengths()
    words, positions = torch.tensor([7, 30]), torch.arange(len(batch.task_ids)) % 8
    tokens = {name: batch.tokens[name] for name in ("input_ids", "attention_mask")}
    expected = full(**tokens).logits[torch.arange(len(positions)), positions][:, words]
    hidden = model(batch._replace(tokens=batch.tokens | {"mask_position": positions}))
    scores = [model.scores(hidden, words, batch, segment) for segment in batch.segments]
    torch.testing.assert_close(torch.cat(scores), expected, atol=2e-6, rtol=1e-4)
    torch.cat(scores).sum().backward()
    expected.sum().backward()
    ours, theirs = model.model.get_input_embeddings(), full.get_input_embeddings()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, atol=1e-5, rtol=1e-3)


def test_a_head_that_bounds_its_logits_is_refused(tmp_path: Path) -> None:
    small_config("gemma2").save_pretrained(tmp_path)
    with pytest.raises(UserError, match="unsupported language-model head: gemma2 bounds its"):
        load_language_model(str(tmp_path))
