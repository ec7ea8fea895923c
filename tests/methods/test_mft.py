import hashlib
import json
from pathlib import Path
from typing import cast

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
from tests.mft.test_prototypes import equation_1 as by_hand

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
    """Two domains with the classes of `mood`: its rows, and those of a second file."""
    lines = (task_files[0].parent / "mood/train.csv").read_text().splitlines()
    files = []
    for name, keep in (("inside", 0), ("outside", 1)):
        folder = tmp_path / "rows" / name
        folder.mkdir(parents=True)
        for split in ("train", "validation", "test"):
            (folder / f"{split}.csv").write_text(
                "\n".join([lines[0], *lines[1 + 20 * keep : 21 + 20 * keep]]) + "\n"
            )
        path = tmp_path / f"{name}.yaml"
        path.write_text(
            f"{{name: {name}, texts: [text], classes: [bad, good], source: {{path: {folder}}}}}"
        )
        files.append(path)
    return files


@pytest.fixture
def tasks_of(domains: list[Path]) -> list[Task]:
    return [Task.read(path) for path in domains]


@pytest.fixture
def batch(tasks_of: list[Task], backbone: str, in_tmp: Path) -> Batch:
    """Three rows of one domain, four of the other."""
    data = SequentialDataModule(tasks=tasks_of, backbone=backbone, max_length=16)
    data.setup("fit")
    parts = [
        data.train_tables[place].take(Draw(place, np.arange(3 + place)), 3 + place)
        for place in (0, 1)
    ]
    return collate(parts, [task.name for task in tasks_of], {})


def with_scores(module: MetaFineTuning, batch: Batch, scores: list[float]) -> MetaFineTuning:
    module.scores = Path("somewhere")
    for segment in batch.segments:
        module._scores[segment.task] = torch.tensor(scores[segment.examples])
    return module.eval()


def loss_of(module: MetaFineTuning, batch: Batch) -> torch.Tensor:
    torch.manual_seed(1)  # the same permutations
    return module.combined(batch, module.task_losses(batch))


def test_the_loss_is_the_papers(batch: Batch, tasks_of: list[Task], backbone: str) -> None:
    module = with_scores(
        MetaFineTuning("none", tasks=tasks_of, backbone=backbone),
        batch,
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
    )
    found = loss_of(module, batch)
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
    torch.testing.assert_close(found, (scores * label).mean() + 0.1 * domain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("target", "moved"), [("label", 1.0), ("domain", 0.0)])
def test_a_rows_score_scales_the_gradient_of_its_own_loss(
    batch: Batch, tasks_of: list[Task], backbone: str, target: str, moved: float
) -> None:
    module = MetaFineTuning("none", weight_target=target, tasks=tasks_of, backbone=backbone)  # type: ignore[arg-type]
    head = cast(nn.Linear, module.head[-1]).weight
    gradients = []
    for score in (1.0, 2.0, 4.0):
        with_scores(module, batch, [1.0, score, 1.0, 1.0, 1.0, 1.0, 1.0])
        gradients.append(torch.autograd.grad(loss_of(module, batch), head)[0])
    once, thrice = gradients[1] - gradients[0], gradients[2] - gradients[0]
    torch.testing.assert_close(
        thrice, 3 * once, atol=1e-6, rtol=1e-4
    )  # what one row adds grows in proportion
    with torch.no_grad():
        vector = module.encoder.backbone(
            **{name: value[1:2] for name, value in batch.tokens.items()}
        ).pooler_output
    logits = module.head(vector)
    own = torch.autograd.grad(F.cross_entropy(logits, batch.segments[0].labels[1:2]), head)[0] / 7
    torch.testing.assert_close(once, moved * own, atol=1e-6, rtol=1e-4)


def test_without_scores_and_domain_loss_it_is_the_joint_model(
    batch: Batch, tasks_of: list[Task], backbone: str
) -> None:
    module = MetaFineTuning("none", domain_weight=0, tasks=tasks_of, backbone=backbone).eval()
    labels = torch.cat([segment.labels for segment in batch.segments])
    vectors = module.encoder.backbone(**batch.tokens).pooler_output
    torch.testing.assert_close(
        loss_of(module, batch), F.cross_entropy(module.head(vectors), labels), atol=1e-5, rtol=1e-5
    )


def test_the_adversary_hides_the_domain_from_the_encoder_alone(
    batch: Batch, tasks_of: list[Task], backbone: str
) -> None:
    module = DomainAdversarial(tasks=tasks_of, backbone=backbone).eval()
    weight = module.encoder.backbone.get_parameter("encoder.layer.1.output.dense.weight")
    inside = cast(nn.Linear, module.domain_classifier.head[-1]).weight

    def gradients(strength: float) -> tuple[torch.Tensor, torch.Tensor]:
        module.strength = strength
        return torch.autograd.grad(
            module.combined(batch, module.task_losses(batch)), (weight, inside)
        )  # type: ignore[return-value,unused-ignore]

    (none, classifier), (some, same), (twice, _) = gradients(0.0), gradients(0.5), gradients(1.0)
    torch.testing.assert_close(classifier, same)
    torch.testing.assert_close(twice - none, 2 * (some - none), atol=1e-7, rtol=1e-4)
    states = module.encoder(batch)
    domain = F.cross_entropy(module.domain_classifier.head(states), batch.task_ids)
    torch.testing.assert_close(
        twice - none, -torch.autograd.grad(domain, weight)[0], atol=1e-7, rtol=1e-4
    )


def run(domains: list[Path], backbone: str, *more: str) -> None:
    main(
        [
            "fit",
            *[f"--tasks+={file}" for file in domains],
            "--backbone",
            backbone,
            "--data",
            "SequentialDataModule",
            *FIT,
            *more,
        ]
    )


def score(domains: list[Path], backbone: str, out: str, *more: str) -> None:
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
            *more,
        ]
    )


def test_the_files_scores_are_the_formula_on_rows_one_by_one(
    domains: list[Path], backbone: str, in_tmp: Path
) -> None:
    """Embedded without a batch and without padding, in the files' order, and scored in numpy."""
    score(domains, backbone, "scores", "--data.eval_batch_size", "7")
    model, tokenizer = (
        AutoModel.from_pretrained(backbone).eval(),
        AutoTokenizer.from_pretrained(backbone),
    )
    vectors, kinds, places = [], [], []
    for place, file in enumerate(domains):
        for line in (in_tmp / "rows" / file.stem / "train.csv").read_text().splitlines()[1:]:
            text, label = line.split(",")
            with torch.no_grad():
                states = model(
                    **tokenizer(text, truncation=True, max_length=16, return_tensors="pt")
                ).last_hidden_state
            vectors.append(states[0].mean(0).numpy())
            kinds.append(["bad", "good"].index(label))
            places.append(place)
    expected = by_hand(
        np.array(vectors, np.float64), np.array(kinds), np.array(places), 0.5, "mean_prototype"
    )
    lines = [json.loads(line) for line in Path("scores/scores.jsonl").read_text().splitlines()]
    np.testing.assert_allclose([line["score"] for line in lines], expected, atol=1e-6)


def rewritten(folder: str, lines: str) -> None:
    """Puts other lines in a folder of scores, as if they had been written so."""
    Path(folder, "scores.jsonl").write_text(lines)
    manifest = json.loads(Path(folder, "scores.json").read_text())
    manifest["sha256"] = hashlib.sha256(lines.encode()).hexdigest()
    Path(folder, "scores.json").write_text(json.dumps(manifest))


def test_a_changed_line_of_the_file_changes_that_rows_weight_alone(
    domains: list[Path], backbone: str, in_tmp: Path
) -> None:
    score(domains, backbone, "scores")
    task_list = [Task.read(path) for path in domains]
    before = read_scores(Path("scores"), task_list)
    lines = [json.loads(line) for line in Path("scores/scores.jsonl").read_text().splitlines()]
    lines[23]["score"] /= 2  # row 3 of the second domain
    rewritten("scores", "".join(json.dumps(line) + "\n" for line in lines))
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
    assert "scores: 40 rows weigh" in caplog.text
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
    assert (
        "starting anew: nothing" in caplog.text
    )  # the shared head of both domains is the start of this domain's
    theirs = torch.load("meta/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    ours = torch.load("one/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    torch.testing.assert_close(
        ours["heads.inside.1.weight"], theirs["head.1.weight"], atol=1e-6, rtol=0
    )
    main(["test", "--ckpt_path", "meta", *QUICK])


def test_scores_that_do_not_fit_are_refused(
    domains: list[Path],
    backbone: str,
    masked_backbone: str,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(*more: str) -> str:
        with pytest.raises(SystemExit):
            run(domains, backbone, "--model", "MetaFineTuning", *more)
        return capsys.readouterr().err

    assert "there is no nowhere/scores.json" in refused("--model.scores", "nowhere")
    score(domains, masked_backbone, "other")
    assert f"made with other weights ({masked_backbone}) than this run's" in refused(
        "--model.scores", "other"
    )
    score(domains, backbone, "few", "--data.max_examples", "12")
    assert (
        "12 rows of 'inside' were scored and 20 are trained on; 8 of them are not the same"
        in refused("--model.scores", "few")
    )
    score(domains, backbone, "scores")
    file = in_tmp / "rows/inside/train.csv"
    rows = file.read_text()
    file.write_text(rows + "the dog,good\n")
    assert "'inside' was scored from other rows" in refused("--model.scores", "scores")
    file.write_text(rows)
    lines = Path("scores/scores.jsonl").read_text()
    Path("scores/scores.jsonl").write_text(lines.replace("0.", "0.1", 1))
    assert "scores.jsonl is missing or was changed" in refused("--model.scores", "scores")
    with pytest.raises(SystemExit):
        score(domains, backbone, "few")
    assert "few holds scores already" in capsys.readouterr().err


def test_scores_must_be_given_or_declined(
    domains: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(domains, backbone, "--model", "MetaFineTuning")
    assert "--model.scores none" in capsys.readouterr().err
    run(domains, backbone, "--model", "MetaFineTuning", "--model.scores", "none", "--out", "meta")


def test_a_negative_score_would_train_a_row_to_be_wrong(
    domains: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(domains, backbone, "scores")
    rewritten(
        "scores", Path("scores/scores.jsonl").read_text().replace('"score": 0', '"score": -0', 1)
    )
    with pytest.raises(SystemExit):
        run(domains, backbone, "--model", "MetaFineTuning", "--model.scores", "scores")
    assert "spread them with --model.rescale minmax or rank" in capsys.readouterr().err
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


def test_a_run_goes_on_with_its_own_scores_alone(
    domains: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(domains, backbone, "scores")
    run(domains, backbone, "--model", "MetaFineTuning", "--model.scores", "scores", "--out", "meta")
    main(["fit", "--ckpt_path", "meta", "--trainer.max_epochs", "2", *QUICK])
    Path("scores").rename("old")
    score(domains, backbone, "scores", "--alpha", "0.9")
    with pytest.raises(SystemExit):
        main(["fit", "--ckpt_path", "meta", "--trainer.max_epochs", "3", *QUICK])
    assert "not the scores that the run was begun with" in capsys.readouterr().err


def test_scores_serve_every_scheme_and_what_augmentation_makes(
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


def test_domains_that_do_not_share_their_classes_have_no_prototypes(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        score(task_files[:2], backbone, "scores")
    assert "theirs differ in number: {'mood': 2, 'same': 3}" in capsys.readouterr().err
