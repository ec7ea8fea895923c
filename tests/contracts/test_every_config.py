"""Every file in configs/ is read, and every scheme runs with every method."""

from pathlib import Path

import pytest
import yaml

import mtl.methods
from mtl.__main__ import main
from mtl.metrics import Score
from mtl.tasks import Task

# What a scheme must be told of the tasks at hand.
TOLD = {
    "annealed": ["--trainer.max_epochs", "2"],
    "uncertainty": ["--data.regression", "{near: same}"],
    "k_shot": ["--data.k", "4"],
    "leave_one_out": ["--data.k", "4", "--data.held_out", "same"],
}
# Methods that read more of a row than one pooled vector.
READING_MORE = (
    "multi_head_san",
    "separate",
    "prompt",
    "mft",
    "mft_domain_only",
    "mft_weights_only",
)
CONFIGS = Path(__file__).parents[2] / "configs"
QUICK = [
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.fast_dev_run",
    "true",
]


def files(folder: str) -> list[Path]:
    return sorted((CONFIGS / folder).glob("*.yaml"))


@pytest.mark.parametrize(
    "path", [*files("tasks"), *files("tasks/samples")], ids=lambda path: path.stem
)
def test_a_task_file_names_its_task(path: Path) -> None:
    assert Task.read(path).name == path.stem


@pytest.mark.parametrize("path", files("suites"), ids=lambda path: path.stem)
def test_a_suite_lists_tasks_that_exist(path: Path) -> None:
    suite = yaml.safe_load(path.read_text())
    assert set(suite) - {"score"} == {"tasks"}
    read = [Task.read(path.parent / task) for task in suite["tasks"]]
    assert len({task.name for task in read}) == len(read) >= 2
    if "score" in suite:
        Score(suite["score"]).check({task.name: task.metrics for task in read})


@pytest.mark.parametrize("method", files("methods"), ids=lambda path: path.stem)
@pytest.mark.parametrize("sampling", files("sampling"), ids=lambda path: path.stem)
def test_every_scheme_runs_with_every_method(
    sampling: Path,
    method: Path,
    task_files: list[Path],
    backbone: str,
    masked_backbone: str,
    in_tmp: Path,
) -> None:
    cls = getattr(mtl.methods, yaml.safe_load(method.read_text())["model"]["class_path"])
    taken = [
        str(file) for file in task_files if cls.takes_regression or not Task.read(file).regression
    ]
    Path("suite.yaml").write_text(yaml.safe_dump({"tasks": taken}))
    told = (
        TOLD.get(sampling.stem, [])
        if cls.takes_regression or sampling.stem != "uncertainty"
        else []
    )
    model = masked_backbone if method.stem == "prompt" else backbone
    scores = ["--model.scores", "none"] if method.stem.startswith("mft") else []
    main(
        [
            "fit",
            "-c",
            "suite.yaml",
            "-c",
            str(sampling),
            "-c",
            str(method),
            "--backbone",
            model,
            *told,
            *scores,
            *QUICK,
        ]
    )


@pytest.mark.parametrize("path", files("balancing"), ids=lambda path: path.stem)
def test_every_balancer_runs(
    path: Path, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    tasks = [f"--tasks+={file}" for file in task_files]
    main(
        [
            "fit",
            *tasks,
            "-c",
            str(CONFIGS / "sampling/mixed.yaml"),
            "-c",
            str(path),
            "--backbone",
            backbone,
            *QUICK,
        ]
    )


@pytest.mark.parametrize("method", files("methods"), ids=lambda path: path.stem)
@pytest.mark.parametrize("path", files("regularizers"), ids=lambda path: path.stem)
def test_every_regularizer_runs_with_every_method(
    path: Path,
    method: Path,
    task_files: list[Path],
    backbone: str,
    masked_backbone: str,
    in_tmp: Path,
) -> None:
    cls = getattr(mtl.methods, yaml.safe_load(method.read_text())["model"]["class_path"])
    if path.stem == "smart_pooled" and method.stem in READING_MORE:
        pytest.skip("its heads read more than one pooled vector")
    tasks = [
        f"--tasks+={file}"
        for file in task_files
        if cls.takes_regression or not Task.read(file).regression
    ]
    words = [
        "fit",
        *tasks,
        "-c",
        str(CONFIGS / "sampling/mixed.yaml"),
        "-c",
        str(method),
        "-c",
        str(path),
    ]
    words += ["--model.scores", "none"] if method.stem.startswith("mft") else []
    main([*words, "--backbone", masked_backbone if method.stem == "prompt" else backbone, *QUICK])


@pytest.mark.parametrize("path", [*files("trainer"), *files("papers")], ids=lambda path: path.stem)
def test_every_other_file_is_understood(
    path: Path,
    task_files: list[Path],
    backbone: str,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as done:
        main(
            [
                "fit",
                *[f"--tasks+={file}" for file in task_files],
                "--backbone",
                backbone,
                "-c",
                str(path),
                "--print_config",
            ]
        )
    assert done.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["sentiment", "acceptability", "paraphrase", "entailment", "similarity"]
)
def test_sample_tasks_are_balanced_and_leak_nothing(name: str) -> None:
    from collections import Counter

    from mtl.data.checks import checked_examples
    from mtl.data.sources import open_split

    task = Task.read(CONFIGS / "tasks" / "samples" / f"{name}.yaml")
    seen: set[str] = set()
    for split, count in (("train", 120), ("validation", 60), ("test", 60)):
        rows = list(checked_examples(task, open_split(task, split), Counter()))
        assert len(rows) == count
        if task.classes:
            assert set(Counter(row.label for row in rows).values()) == {count // len(task.classes)}
        texts = {"".join(filter(str.isalnum, text.lower())) for row in rows for text in row.texts}
        assert len(texts) == count * len(task.texts)
        assert not texts & seen
        seen |= texts
