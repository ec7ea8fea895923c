"""Runs on a real SLURM cluster of one node, on the loopback interface."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mtl.compare import slurm_executor
from mtl.compare.jobs import Job, read_results, run_job
from mtl.compare.scheduler import run_graph
from mtl.compare.slurm_executor import SlurmExecutor

TOOLS = ("sbatch", "slurmctld", "slurmd", "munged")
missing = [tool for tool in TOOLS if not shutil.which(tool)]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(missing),
        reason=f"not installed: {', '.join(missing)}; install slurmctld, slurmd and munge",
    ),
    pytest.mark.skipif(
        hasattr(os, "geteuid") and os.geteuid() != 0, reason="setting up SLURM needs root"
    ),
]
SCRIPT = Path(__file__).parent / "slurm.sh"
RESOURCES = "{cpus_per_task: 1, mem_gb: 2, timeout_min: 10, slurm_signal_delay_s: 30}"


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "slurm"
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    # The package that the workers import, independent of the working directory.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    (tmp_path / "resources.yaml").write_text(RESOURCES)
    try:
        subprocess.run(["sh", str(SCRIPT), "start", str(folder)], check=True, timeout=60)
        for _ in range(100):
            if (
                "idle"
                in subprocess.run(
                    ["sinfo", "-h", "-o", "%T"], capture_output=True, text=True
                ).stdout
            ):
                break
            time.sleep(0.2)
        else:
            raise AssertionError((folder / "slurmd.log").read_text()[-2000:])
        yield tmp_path
    finally:
        subprocess.run(["sh", str(SCRIPT), "stop", str(folder)], check=True)


def job(task: Path, backbone: str, out: Path, *extra: str) -> Job:
    options = (
        f"--tasks+={task}",
        "--backbone",
        backbone,
        "--trainer.accelerator",
        "cpu",
        "--data.cache",
        str(out.parent / "cache"),
    )
    return Job(out, (*options, "--data.batch_size", "4", "--data.max_length", "16", *extra))


def keeping_its_checkpoint(run: Job) -> Job:
    """A job that tests its last checkpoint, so that the checkpoint is not deleted."""
    return run._replace(test=("--ckpt_path", str(run.out / "checkpoints/last.ckpt")))


def test_a_failed_run_of_an_array_does_not_stop_the_others(
    task_files: list[Path], backbone: str, cluster: Path
) -> None:
    jobs = {
        "one": job(task_files[0], backbone, cluster / "runs/one", "--trainer.max_epochs", "1"),
        "bad": job(task_files[0], backbone, cluster / "runs/bad", "--trainer.max_epochs", "no"),
        "two": job(task_files[1], backbone, cluster / "runs/two", "--trainer.max_epochs", "1"),
    }
    machine = SlurmExecutor(cluster / "resources.yaml", cluster / "submitit", every=0.5)
    failed = run_graph(list(jobs), lambda _: (), jobs.__getitem__, machine)
    assert failed == {"bad": str(cluster / "runs/bad.log")}
    assert "max_epochs" in (cluster / "runs/bad.log").read_text()
    assert all("test" in read_results(cluster / "runs" / name) for name in ("one", "two"))


def test_a_run_uses_all_tasks_of_its_job(
    task_files: list[Path], backbone: str, cluster: Path
) -> None:
    both = ("--trainer.devices", "2", "--trainer.max_epochs", "1")
    wide = job(task_files[0], backbone, cluster / "runs/wide", *both)._replace(
        resources={"tasks_per_node": 2}
    )
    assert (
        run_graph(
            ["wide"],
            lambda _: (),
            lambda _: wide,
            SlurmExecutor(cluster / "resources.yaml", cluster / "submitit", 0.5),
        )
        == {}
    )
    results = read_results(wide.out)
    assert results["processes"] == 2
    alone = job(task_files[0], backbone, cluster / "runs/alone", "--trainer.max_epochs", "1")
    run_job(alone)
    assert (
        results["test"]["tasks"]["mood"]["examples"]
        == read_results(alone.out)["test"]["tasks"]["mood"]["examples"]
    )


def test_an_interrupted_command_finds_its_runs_in_the_queue(
    task_files: list[Path], backbone: str, cluster: Path
) -> None:
    run = job(task_files[0], backbone, cluster / "runs/long", "--trainer.max_epochs", "20")
    machines = [
        SlurmExecutor(cluster / "resources.yaml", cluster / "submitit", 0.5) for _ in range(2)
    ]
    machines[0].submit([run])
    machines[0].close()
    [future] = machines[1].submit([run])
    queued = subprocess.run(
        ["squeue", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(queued) == 1
    future.result(timeout=120)
    assert run.finished


def test_a_cancelled_job_fails(
    task_files: list[Path], backbone: str, cluster: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_executor, "LOST", 1.0)
    machine = SlurmExecutor(cluster / "resources.yaml", cluster / "submitit", 0.5)
    [future] = machine.submit(
        [job(task_files[0], backbone, cluster / "runs/gone", "--trainer.max_epochs", "1000")]
    )
    time.sleep(3)
    subprocess.run(["scancel", "--user", "root"], check=True)
    with pytest.raises(RuntimeError):
        future.result(timeout=60)


def test_a_preempted_run_is_queued_again_and_ends_with_the_same_weights(
    task_files: list[Path], backbone: str, cluster: Path
) -> None:
    long = ("--trainer.max_epochs", "60", "--save_every", "1")
    whole, cut = (
        keeping_its_checkpoint(job(task_files[0], backbone, cluster / f"runs/{name}", *long))
        for name in ("whole", "cut")
    )
    run_job(whole)
    machine = SlurmExecutor(cluster / "resources.yaml", cluster / "submitit", every=0.5)
    [future] = machine.submit([cut])
    last = cut.out / "checkpoints/last.ckpt"
    for _ in range(600):
        if last.exists():
            break
        time.sleep(0.1)
    number = subprocess.run(
        ["squeue", "-h", "-o", "%A"], capture_output=True, text=True, check=True
    ).stdout.split()[0]
    # The signals that SLURM sends to a preempted run.
    subprocess.run(["scancel", "--signal=USR2", "--batch", number], check=True)
    subprocess.run(["scancel", "--signal=USR2", number], check=False)
    future.result(timeout=300)
    machine.close()
    restarts = "\n".join(path.read_text() for path in (cluster / "submitit").glob("*_log.err"))
    assert "requeu" in restarts.lower()
    one, two = (
        torch.load(run.out / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (whole, cut)
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
