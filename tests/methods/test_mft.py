import hashlib
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.nn import functional as F
from transformers import AutoModel, AutoTokenizer

from mtl.__main__ import main
from mtl.batch import Batch, collate
from mtl.data import SequentialDataModule
from mtl.data.order import Draw
from mtl.methods import DomainAdversarial, MetaFineTuning
from mtl.mft.score_files import read_scores
from mtl.tasks import Task
from tests.mft.test_prototypes import equation_1

QUICK = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
FIT = [
    *QUICK,
    "--data.batch_size",
    "8",
    "--data.max_length",
    "16",
    "--trainer.max_epochs",
    "1",
    "--trainer.enable_model_summary",
    "false",
]


@pytest.fixture
def domains(task_files: list[Path], tmp_path: Path) -> list[Path]:
    """Two domains with the classes of `mood`, 20 examples each."""
    lines = (task_files[0].parent / "mood/train.csv").read_text().splitlines()
    files = []
    for index, name in enumerate(("inside", "outside")):
        folder = tmp_path / "rows" / name
        folder.mkdir(parents=True)
        for split in ("train", "validation", "test"):
            (folder / f"{split}.csv").write_text(
                "\n".join([lines[0], *lines[1 + 20 * index : 21 + 20 * index]]) + "\n"
            )
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"{{name: {name}, texts: [text], classes: [bad, good], source: {{path: {folder}}}}}"
        )
        files.append(path)
    return files


@pytest.fixture
def domain_tasks(domains: list[Path]) -> list[Task]:
    return [Task.read(path) for path in domains]


@pytest.fixture
def batch(domain_tasks: list[Task], backbone: str, in_tmp: Path) -> Batch:
    """Three examples of one domain, four of the other."""
    data = SequentialDataModule(tasks=domain_tasks, backbone=backbone, max_length=16)
    data.setup("fit")
    parts = [
        data.train_splits[index].take(Draw(index, np.arange(3 + index)), 3 + index)
        for index in (0, 1)
    ]
    return collate(parts, [task.name for task in domain_tasks], {})


def with_scores(module: MetaFineTuning, batch: Batch, scores: list[float]) -> MetaFineTuning:
    module.scores = Path("somewhere")
    for segment in batch.segments:
        module._scores[segment.task] = torch.tensor(scores[segment.examples])
    return module.eval()


def combined_loss(module: MetaFineTuning, batch: Batch) -> torch.Tensor:
    torch.manual_seed(1)  # the same permutations
    return module.combined(batch, module.task_losses(batch))


def test_the_loss_follows_the_paper(batch: Batch, domain_tasks: list[Task], backbone: str) -> None:
    module = with_scores(
        MetaFineTuning("none", tasks=domain_tasks, backbone=backbone),
        batch,
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
    )
    loss = combined_loss(module, batch)
    output = module.encoder.backbone(**batch.tokens, output_hidden_states=True)
    mask = batch.tokens["attention_mask"].unsqueeze(-1).float()
    means = torch.stack(
        [(output.hidden_states[layer + 1] * mask).sum(1) / mask.sum(1) for layer in (0, 1)], 1
    )
    torch.manual_seed(1)
    domain = module.corruption(means, batch.task_ids).mean()
    labels = torch.cat([segment.labels for segment in batch.segments])
    label = F.cross_entropy(module.head(output.pooler_output), labels, reduction="none")
    scores = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    torch.testing.assert_close(loss, (scores * label).mean() + 0.1 * domain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("target", "effect"), [("label", 1.0), ("domain", 0.0)])
def test_a_score_scales_the_gradient_of_its_examples_loss(
    batch: Batch, domain_tasks: list[Task], backbone: str, target: Any, effect: float
) -> None:
    module = MetaFineTuning("none", weight_target=target, tasks=domain_tasks, backbone=backbone)
    head = cast(nn.Linear, module.head[-1]).weight
    gradients = []
    for score in (1.0, 2.0, 4.0):
        with_scores(module, batch, [1.0, score, 1.0, 1.0, 1.0, 1.0, 1.0])
        gradients.append(torch.autograd.grad(combined_loss(module, batch), head)[0])
    # Raising the score by 1 and by 3 raises the example's gradient in proportion.
    once, thrice = gradients[1] - gradients[0], gradients[2] - gradients[0]
    torch.testing.assert_close(thrice, 3 * once, atol=1e-6, rtol=1e-4)
    with torch.no_grad():
        vector = module.encoder.backbone(
            **{name: value[1:2] for name, value in batch.tokens.items()}
        ).pooler_output
    logits = module.head(vector)
    own = torch.autograd.grad(F.cross_entropy(logits, batch.segments[0].labels[1:2]), head)[0] / 7
    torch.testing.assert_close(once, effect * own, atol=1e-6, rtol=1e-4)


def test_without_scores_and_domain_loss_it_is_the_joint_model(
    batch: Batch, domain_tasks: list[Task], backbone: str
) -> None:
    module = MetaFineTuning("none", domain_weight=0, tasks=domain_tasks, backbone=backbone).eval()
    labels = torch.cat([segment.labels for segment in batch.segments])
    vectors = module.encoder.backbone(**batch.tokens).pooler_output
    torch.testing.assert_close(
        combined_loss(module, batch),
        F.cross_entropy(module.head(vectors), labels),
        atol=1e-5,
        rtol=1e-5,
    )


def test_gradient_reversal_affects_the_encoder_only(
    batch: Batch, domain_tasks: list[Task], backbone: str
) -> None:
    module = DomainAdversarial(tasks=domain_tasks, backbone=backbone).eval()
    weight = module.encoder.backbone.get_parameter("encoder.layer.1.output.dense.weight")
    inside = cast(nn.Linear, module.domain_classifier.head[-1]).weight

    def gradients(strength: float) -> tuple[torch.Tensor, ...]:
        module.strength = strength
        return torch.autograd.grad(
            module.combined(batch, module.task_losses(batch)), (weight, inside)
        )

    (zero, classifier), (half, same), (full, _) = gradients(0.0), gradients(0.5), gradients(1.0)
    torch.testing.assert_close(classifier, same)
    torch.testing.assert_close(full - zero, 2 * (half - zero), atol=1e-7, rtol=1e-4)
    states = module.encoder(batch)
    domain = F.cross_entropy(module.domain_classifier.head(states), batch.task_ids)
    torch.testing.assert_close(
        full - zero, -torch.autograd.grad(domain, weight)[0], atol=1e-7, rtol=1e-4
    )


def run(domains: list[Path], backbone: str, *options: str) -> None:
    main(
        [
            "fit",
            *[f"--tasks+={file}" for file in domains],
            "--backbone",
            backbone,
            "--data",
            "SequentialDataModule",
            *FIT,
            *options,
        ]
    )


def score(domains: list[Path], backbone: str, out: str, *options: str) -> None:
    tasks = [f"--tasks+={file}" for file in domains]
    main(
        [
            "score-prototypes",
            *tasks,
            "--backbone",
            backbone,
            "--data.max_length",
            "16",
            "--out",
            out,
            *QUICK,
            *options,
        ]
    )


def test_the_written_scores_follow_the_formula(
    domains: list[Path], backbone: str, in_tmp: Path
) -> None:
    """The reference embeds one example at a time, without padding, and scores in numpy."""
    score(domains, backbone, "scores", "--data.eval_batch_size", "7")
    model, tokenizer = (
        AutoModel.from_pretrained(backbone).eval(),
        AutoTokenizer.from_pretrained(backbone),
    )
    vectors, classes, domain_ids = [], [], []
    for domain, file in enumerate(domains):
        for line in (in_tmp / "rows" / file.stem / "train.csv").read_text().splitlines()[1:]:
            text, label = line.split(",")
            with torch.no_grad():
                states = model(
                    **tokenizer(text, truncation=True, max_length=16, return_tensors="pt")
                ).last_hidden_state
            vectors.append(states[0].mean(0).numpy())
            classes.append(["bad", "good"].index(label))
            domain_ids.append(domain)
    expected = equation_1(
        np.array(vectors, np.float64),
        np.array(classes),
        np.array(domain_ids),
        0.5,
        "mean_prototype",
    )
    lines = [json.loads(line) for line in Path("scores/scores.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([line["score"] for line in lines], expected, atol=1e-6)


def overwrite_scores(folder: str, lines: str) -> None:
    """Replaces the lines of a folder of scores, and updates the digest in its manifest."""
    Path(folder, "scores.jsonl").write_text(lines)
    manifest = json.loads(Path(folder, "scores.json").read_text())
    manifest["sha256"] = hashlib.sha256(lines.encode()).hexdigest()
    Path(folder, "scores.json").write_text(json.dumps(manifest))


def test_a_score_weights_the_example_of_its_line(
    domains: list[Path], backbone: str, in_tmp: Path
) -> None:
    score(domains, backbone, "scores")
    task_list = [Task.read(path) for path in domains]
    before = read_scores(Path("scores"), task_list)
    lines = [json.loads(line) for line in Path("scores/scores.jsonl").read_text().splitlines()]
    lines[23]["score"] /= 2  # example 3 of the second domain
    overwrite_scores("scores", "".join(json.dumps(line) + "\n" for line in lines))
    data = SequentialDataModule(tasks=task_list, backbone=backbone, max_length=16)
    module = MetaFineTuning(Path("scores"), tasks=task_list, backbone=backbone)
    Trainer(fast_dev_run=True, accelerator="cpu", logger=False, enable_progress_bar=False).fit(
        module, data
    )
    for name, scored in before.items():
        expected = torch.from_numpy(scored.scores).float()
        if name == "outside":
            expected[3] /= 2
        torch.testing.assert_close(module._scores[name], expected)


def test_the_three_stages_end_to_end(
    domains: list[Path],
    backbone: str,
    in_tmp: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    score(domains, backbone, "scores")
    lines = [json.loads(line) for line in Path("scores/scores.jsonl").read_text().splitlines()]
    assert [(line["domain"], line["row"]) for line in lines] == [
        (name, row) for name in ("inside", "outside") for row in range(20)
    ]
    assert {line["class"] for line in lines} == {"bad", "good"}
    assert Path("scores/histogram.png").stat().st_size > 1000
    assert "prototypical scores" in capsys.readouterr().out
    run(domains, backbone, "--model", "MetaFineTuning", "--model.scores", "scores", "--out", "meta")
    assert "scores: weights of 40 examples" in caplog.text
    run(
        domains[:1],
        backbone,
        "--model.init_from",
        "meta",
        "--model.pooling",
        "pooler",
        "--model.lr",
        "1e-30",
        "--out",
        "one",
    )
    # The head of this domain is initialized with the classifier that both domains share.
    assert "newly initialized: none" in caplog.text
    shared = torch.load("meta/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    ours = torch.load("one/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    torch.testing.assert_close(
        ours["heads.inside.1.weight"], shared["head.1.weight"], atol=1e-6, rtol=0
    )
    main(["test", "--ckpt_path", "meta", *QUICK])


def test_scores_that_do_not_fit_are_rejected(
    domains: list[Path],
    backbone: str,
    masked_backbone: str,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def error_of(*options: str) -> str:
        with pytest.raises(SystemExit):
            run(domains, backbone, "--model", "MetaFineTuning", *options)
        return capsys.readouterr().err

    assert "there is no nowhere/scores.json" in error_of("--model.scores", "nowhere")
    score(domains, masked_backbone, "other")
    assert f"computed with other weights ({masked_backbone}) than this run's" in error_of(
        "--model.scores", "other"
    )
    score(domains, backbone, "few", "--data.max_examples", "12")
    assert (
        "of task 'inside' 12 examples were scored, but this run trains on 20, and 8 are only in one"
        in error_of("--model.scores", "few")
    )
    score(domains, backbone, "scores")
    file = in_tmp / "rows/inside/train.csv"
    content = file.read_text()
    file.write_text(content + "the dog,good\n")
    assert "task 'inside' was scored with other data" in error_of("--model.scores", "scores")
    file.write_text(content)
    lines = Path("scores/scores.jsonl").read_text()
    Path("scores/scores.jsonl").write_text(lines.replace("0.", "0.1", 1))
    assert "scores.jsonl is missing or was changed" in error_of("--model.scores", "scores")
    with pytest.raises(SystemExit):
        score(domains, backbone, "few")
    assert "few already holds scores" in capsys.readouterr().err


def test_scores_must_be_given_or_set_to_none(
    domains: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(domains, backbone, "--model", "MetaFineTuning")
    assert "--model.scores none" in capsys.readouterr().err
    run(domains, backbone, "--model", "MetaFineTuning", "--model.scores", "none", "--out", "meta")


def test_negative_scores_are_rejected_unless_they_are_rescaled(
    domains: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(domains, backbone, "scores")
    overwrite_scores(
        "scores", Path("scores/scores.jsonl").read_text().replace('"score": 0', '"score": -0', 1)
    )
    with pytest.raises(SystemExit):
        run(domains, backbone, "--model", "MetaFineTuning", "--model.scores", "scores")
    assert "rescale with --model.rescale minmax or rank" in capsys.readouterr().err
    run(
        domains,
        backbone,
        "--model",
        "MetaFineTuning",
        "--model.scores",
        "scores",
        "--model.rescale",
        "minmax",
        "--out",
        "meta",
    )


def test_a_run_is_resumed_with_the_same_scores_only(
    domains: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(domains, backbone, "scores")
    run(domains, backbone, "--model", "MetaFineTuning", "--model.scores", "scores", "--out", "meta")
    main(["fit", "--ckpt_path", "meta", "--trainer.max_epochs", "2", *QUICK])
    Path("scores").rename("old")
    score(domains, backbone, "scores", "--alpha", "0.9")
    with pytest.raises(SystemExit):
        main(["fit", "--ckpt_path", "meta", "--trainer.max_epochs", "3", *QUICK])
    assert "the run was started with other scores" in capsys.readouterr().err


def test_scores_work_with_every_scheme_and_with_augmentation(
    domains: list[Path], backbone: str, in_tmp: Path
) -> None:
    k_shot = ["--data", "KShotDataModule", "--data.k", "5"]
    score(domains, backbone, "few", *k_shot)
    meta = ["--model", "MetaFineTuning", "--model.scores"]
    tasks = [f"--tasks+={file}" for file in domains]
    main(["fit", *tasks, "--backbone", backbone, *FIT, *meta, "few", "--out", "few_run", *k_shot])
    aside = ["--data.holdout", "0.2", "--data.max_examples", "9"]
    score(domains, backbone, "scores", *aside)
    Path("synonyms.tsv").write_text("dog\tcat\nred\tgreen\n")
    augment = ["--data.augment", "{inside: {synonyms: synonyms.tsv, share: 0.5}}"]
    run(domains, backbone, *meta, "scores", "--out", "run", *aside, *augment)


def test_domains_with_different_classes_cannot_be_scored(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        score(task_files[:2], backbone, "scores")
    message = "all domains need the same number of classes, but mood has 2, same has 3"
    assert message in capsys.readouterr().err
