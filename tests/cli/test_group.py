"""`mtl group` on tiny runs: what it writes, and what it refuses."""

import json
from pathlib import Path

import pytest
import yaml

from mtl.__main__ import main
from mtl.compare.definition import Experiment
from mtl.compare.plan import Plan
from mtl.tasks import Task
from tests.compare.helpers import SequentialExecutor, done

OPTIONS = [
    *("--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"),
    *("--data.max_length", "16", "--data.batch_size", "12", "--model.lr", "1e-3"),
    *("--data.max_examples", "{mood: 24, same: 24, near: 12}", "--trainer.max_epochs", "2"),
]


@pytest.fixture(scope="module")
def proposed(
    task_files: list[Path], backbone: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What `mtl group` has written for three tasks and two encoders."""
    folder = tmp_path_factory.mktemp("groups")
    tasks = [f"--tasks+={file}" for file in task_files]
    cache = ["--data.cache", str(folder / "cache"), "--encoders", "2", "--out", str(folder / "out")]
    main(["group", *tasks, "--backbone", backbone, *OPTIONS, *cache])
    return folder / "out"


def test_the_comparison_has_each_task_alone_all_in_one_and_the_groups(
    proposed: Path, tasks: list[Task]
) -> None:
    table = Experiment.read(str(proposed / "groups.yaml"))
    assert list(table.rows)[:2] == ["single", "all in one"]
    assert {name: Task.read(file) for name, file in table.task_files.items()} == {
        task.name: task for task in tasks
    }
    contents = json.loads((proposed / "groups.json").read_text())
    assert set(contents) == {"gradients", "affinity"}
    for estimate in contents.values():
        assert len(estimate["gains"]) == 2**3 - 1
        assert 1 <= len(estimate["groups"]) <= 2
        answered = [task for group in estimate["groups"] for task in group["answered"]]
        assert sorted(answered) == ["mood", "near", "same"]
    proposals = [row.groups for row in table.rows.values() if row.groups]
    assert all(len(groups) <= 2 for groups in proposals)
    plan = Plan(table, "mini")
    assert plan.seeds == (1, 2, 3, 4, 5)
    assert plan.size.options["data.max_examples"] == {"mood": 24, "same": 24, "near": 12}


def test_the_comparison_trains_with_the_settings_of_the_joint_run(proposed: Path) -> None:
    results = done(proposed / "groups.yaml", SequentialExecutor(), seeds=(1,))
    assert results.complete and not results.failed
    joint, together = (
        yaml.safe_load((folder / "config.yaml").read_text())
        for folder in (
            proposed / "joint",
            next(folder for run, folder in results.folders.items() if run.row == "all in one"),
        )
    )
    assert joint["model"] == together["model"] and joint["tasks"] == together["tasks"]
    assert joint["trainer"]["max_epochs"] == together["trainer"]["max_epochs"] == 2
    assert not together["trainer"]["callbacks"]


def test_a_finished_run_is_read_and_the_joint_run_is_not_trained_again(
    proposed: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joint = proposed / "joint"
    before = (joint / "metrics.json").stat().st_mtime_ns
    main(["group", str(joint), str(joint), "--encoders", "3", "--out", "again"])
    assert "mtl compare again/groups.yaml" in capsys.readouterr().out
    assert (joint / "metrics.json").stat().st_mtime_ns == before
    # Two runs with the same estimates have the same mean.
    for estimate in ("gradients", "affinity"):
        one, other = (
            json.loads((folder / "groups.json").read_text())[estimate]["gains"]
            for folder in (proposed, Path("again"))
        )
        for a, b in zip(one, other, strict=True):
            assert a["group"] == b["group"] and a["gain"] == pytest.approx(b["gain"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{joint}", "--encoders", "0"], "'0' is not a number of encoders"),
        (["{joint}", "--encoders", "2", "--model.lr", "1"], "unknown option --model.lr"),
        (["--encoders", "2"], "give the folder of a run of all tasks, or --tasks+="),
        (["nowhere", "--encoders", "2"], "nowhere: not the folder of a finished run"),
        (["--tasks+=nothing", "--encoders", "2"], "nothing: there is no such task file"),
    ],
)
def test_what_cannot_be_grouped_is_refused(
    proposed: Path,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    words = [word.replace("{joint}", str(proposed / "joint")) for word in words]
    with pytest.raises(SystemExit):
        main(["group", *words, "--out", "out"])
    assert message in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_run_that_measured_nothing_is_refused_with_the_callbacks_that_it_needs(
    proposed: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run").mkdir()
    for name in ("config.yaml", "metrics.json"):
        Path("run", name).write_bytes((proposed / "joint" / name).read_bytes())
    with pytest.raises(SystemExit):
        main(["group", "run", "--encoders", "2", "--out", "out"])
    error = capsys.readouterr().err
    assert "run: no gradients were stored" in error
    assert "--trainer.callbacks+=GradientSnapshots --trainer.callbacks+=TaskAffinity" in error
