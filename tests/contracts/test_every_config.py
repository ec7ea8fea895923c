"""Every file in configs/ is valid, and every scheme runs with every method."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from mtl.__main__ import main
from mtl.data import RoundRobinDataModule
from mtl.data.checks import checked_examples
from mtl.data.sources import open_split
from mtl.methods import MultiHead
from mtl.tasks import Task
from mtl.tasks.score import Score
from tests.contracts.configs import (
    REQUIRED_OPTIONS,
    files,
    names,
    options,
    supported,
)
from tests.methods.training import fit

# Methods whose heads read the token states, not only one pooled vector.
READ_TOKEN_STATES = (
    *("multi_head_san", "separate"),
    *("prompt", "mft", "mft_domain_only", "mft_weights_only"),
)
# Methods with one classifier for the classes of all tasks, or with label words.
HAVE_OTHER_OUTPUTS = (
    *("joint", "domain_adversarial", "prompt"),
    *("mft", "mft_domain_only", "mft_weights_only"),
)
# Methods with low-rank updates whose projection all tasks share.
SHARE_PROJECTIONS = ("lora", "mtl_lora")
# Tasks whose data are part of the project.
SAMPLES = [*files("tasks/samples"), *files("tasks/shop")]
ON_CPU = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
QUICK = [*ON_CPU, "--trainer.fast_dev_run", "true"]


def method_options(method: str, backbone: str, masked_backbone: str) -> list[str]:
    """The arguments that a method needs for the toy tasks."""
    extra = ["--model.scores", "none"] if method.startswith("mft") else []
    encoder = masked_backbone if method == "prompt" else backbone
    return [*options("methods", method), *extra, "--backbone", encoder]


@pytest.mark.parametrize("path", [*files("tasks"), *SAMPLES], ids=lambda path: path.stem)
def test_a_task_file_is_named_after_its_task(path: Path) -> None:
    names = [task.name for task in Task.read_all(path)]
    if len(names) == 1:
        assert names == [path.stem]
    assert all(name.startswith(path.stem) for name in names)


@pytest.mark.parametrize("path", files("suites"), ids=lambda path: path.stem)
def test_a_suite_lists_tasks_that_exist(path: Path) -> None:
    suite = yaml.safe_load(path.read_text())
    assert set(suite) - {"score"} == {"tasks"}
    tasks = [task for file in suite["tasks"] for task in Task.read_all(path.parent / file)]
    assert len({task.name for task in tasks}) == len(tasks) >= 2
    if "score" in suite:
        Score(suite["score"]).check({task.name: task.metrics for task in tasks})


@pytest.mark.parametrize("method", names("methods"))
@pytest.mark.parametrize("scheme", names("sampling"))
def test_every_scheme_runs_with_every_method(
    scheme: str,
    method: str,
    task_files: list[Path],
    backbone: str,
    masked_backbone: str,
    in_tmp: Path,
) -> None:
    tasks = [str(file) for file in supported(method, task_files)]
    Path("suite.yaml").write_text(yaml.safe_dump({"tasks": tasks}))
    required = REQUIRED_OPTIONS.get(scheme, [])
    if scheme == "uncertainty" and len(tasks) < len(task_files):
        required = []  # they are for the regression task, which this method does not support
    command = ["fit", "-c", "suite.yaml", *options("sampling", scheme), *required, *QUICK]
    main([*command, *method_options(method, backbone, masked_backbone)])


@pytest.mark.parametrize("balancer", names("balancing"))
def test_every_balancer_runs(
    balancer: str, task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    tasks = [f"--tasks+={file}" for file in task_files]
    command = ["fit", *tasks, *options("sampling", "mixed"), *options("balancing", balancer)]
    main([*command, "--backbone", backbone, *QUICK])


@pytest.fixture(scope="module")
def teacher(task_files: list[Path], backbone: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The checkpoint of a model of all tasks."""
    tasks = [Task.read(file) for file in task_files]
    folder = tmp_path_factory.mktemp("teacher")
    data = RoundRobinDataModule(tasks=tasks, backbone=backbone, cache=folder)
    trainer = fit(MultiHead(tasks=tasks, backbone=backbone), data, max_steps=1)
    trainer.save_checkpoint(folder / "teacher.ckpt")
    return str(folder / "teacher.ckpt")


@pytest.mark.parametrize("method", names("methods"))
@pytest.mark.parametrize("regularizer", names("regularizers"))
def test_every_regularizer_runs_with_every_method(
    regularizer: str,
    method: str,
    task_files: list[Path],
    backbone: str,
    masked_backbone: str,
    teacher: str,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if regularizer == "smart_pooled" and method in READ_TOKEN_STATES:
        pytest.skip("its heads read the token states")
    tasks = [f"--tasks+={file}" for file in supported(method, task_files)]
    command = ["fit", *tasks, *options("sampling", "mixed"), *QUICK]
    command += method_options(method, backbone, masked_backbone)
    command += options("regularizers", regularizer)
    if regularizer == "distillation":
        command += ["--model.regularizer.init_args.teachers", json.dumps([teacher])]
        if method in HAVE_OTHER_OUTPUTS:
            with pytest.raises(SystemExit):
                main(command)
            assert re.search("give a teacher of the same|in another form", capsys.readouterr().err)
            return
    if regularizer == "align_lora" and method not in SHARE_PROJECTIONS:
        with pytest.raises(SystemExit):
            main(command)
        assert "has no low-rank updates" in capsys.readouterr().err
        return
    main(command)


@pytest.mark.parametrize("path", [*files("trainer"), *files("papers")], ids=lambda path: path.stem)
def test_every_other_configuration_is_valid(
    path: Path,
    task_files: list[Path],
    backbone: str,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks = [f"--tasks+={file}" for file in task_files]
    with pytest.raises(SystemExit) as done:
        main(["fit", *tasks, "--backbone", backbone, "-c", str(path), "--print_config"])
    assert done.value.code == 0, capsys.readouterr().err


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_tasks_are_balanced_and_leak_nothing(path: Path) -> None:
    task = Task.read(path)
    seen: set[str] = set()
    # The first line of the file says how many examples there are.
    (sizes,) = re.findall(r"(\d+) / (\d+) / (\d+) examples, ", path.read_text(encoding="utf-8"))
    for split, count in zip(("train", "validation", "test"), map(int, sizes), strict=True):
        examples = list(checked_examples(task, open_split(task, split), Counter()))
        assert len(examples) == count
        if task.kind.has_class_probabilities:
            assert set(Counter(example.label for example in examples).values()) == {
                count // len(task.classes)
            }
        texts = {
            "".join(filter(str.isalnum, text.lower()))
            for example in examples
            for text in example.texts
        }
        assert len(texts) == count * len(task.texts)
        assert not texts & seen
        seen |= texts
