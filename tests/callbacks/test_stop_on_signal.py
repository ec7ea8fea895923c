"""A run that a signal stops is resumed to the results of an uninterrupted run."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from mtl.__main__ import main

SPY = f"--trainer.callbacks+={__name__}.Signals"


class Signals(Callback):
    """Sends signals to its own process at one place of a training.

    Set by the environment: `SIGNALS`, the signals; `AT`, the hook; `NUMBER`, the call of the hook;
    `RANK_HIT`, the process that gets them.
    """

    def __init__(self) -> None:
        self.left = int(os.environ.get("NUMBER", -1))

    def _called(self, hook: str, trainer: Any) -> None:
        if hook != os.environ.get("AT") or (trainer.sanity_checking and "sanity" not in hook):
            return
        self.left -= 1
        if self.left == 0 and str(trainer.global_rank) == os.environ.get("RANK_HIT", "0"):
            for name in os.environ["SIGNALS"].split():
                os.kill(os.getpid(), signal.Signals[name])

    def on_sanity_check_start(self, trainer: Any, pl_module: Any) -> None:
        self._called("on_sanity_check_start", trainer)

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        self._called("on_train_batch_start", trainer)

    def on_validation_batch_start(self, trainer: Any, *_: Any) -> None:
        self._called("on_validation_batch_start", trainer)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        self._called("on_fit_end", trainer)


@pytest.fixture
def command(task_files: list[Path], backbone: str, in_tmp: Path) -> list[str]:
    return [
        *("fit", *[f"--tasks+={file}" for file in task_files], "--backbone", backbone, SPY),
        *("--data.batch_size", "8", "--data.max_length", "16", "--trainer.accelerator", "cpu"),
        *("--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false"),
        *("--trainer.max_epochs", "2", "--model.lr", "1e-3"),
    ]


def check_same(one: str, two: str) -> None:
    for name in ("best", "last"):
        expected, actual = (
            torch.load(f"{out}/checkpoints/{name}.ckpt", weights_only=True)["state_dict"]
            for out in (one, two)
        )
        assert all(torch.equal(expected[key], actual[key]) for key in expected), name
    results = [json.loads(Path(out, "metrics.json").read_text()) for out in (one, two)]
    for result in results:
        del result["seconds"], result["memory"]
    assert results[0] == results[1]


def resume_arguments(stderr: str) -> list[str]:
    """The arguments of the one command that a stopped run prints."""
    (line,) = [line for line in stderr.splitlines() if line.startswith("Resume with:")]
    return shlex.split(line.removeprefix("Resume with:  mtl "))


@pytest.mark.parametrize("accumulate", ["1", "4"])
@pytest.mark.parametrize(
    ("hook", "number"),
    [("on_train_batch_start", 5), ("on_train_batch_start", 20), ("on_validation_batch_start", 2)],
)
def test_a_stopped_run_is_resumed_exactly(
    hook: str,
    number: int,
    accumulate: str,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command += ["--trainer.accumulate_grad_batches", accumulate]
    main([*command, "--out", "whole"])
    for name, value in {"SIGNALS": "SIGTERM", "AT": hook, "NUMBER": str(number)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as exit:
        main([*command, "--out", "a b"])
    assert exit.value.code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert not Path("a b/metrics.json").exists()
    assert not Path("a b/run.lock").exists()
    resume = resume_arguments(capsys.readouterr().err)
    monkeypatch.delenv("AT")
    main(resume)
    check_same("whole", "a b")


@pytest.mark.parametrize(
    ("hook", "signals", "code"),
    [
        ("on_train_batch_start", "SIGINT", 130),
        ("on_train_batch_start", "SIGINT SIGINT", 130),
        ("on_validation_batch_start", "SIGTERM SIGINT", 130),
        ("on_sanity_check_start", "SIGTERM", 143),
        ("on_fit_end", "SIGTERM SIGTERM", 0),
    ],
)
def test_exit_status_and_checkpoint(
    hook: str, signals: str, code: int, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SIGNALS": signals, "AT": hook, "NUMBER": "1"}.items():
        monkeypatch.setenv(name, value)
    status: Any = 0
    try:
        main([*command, "--out", "run"])
    except SystemExit as exit:
        status = exit.code
    assert status == code
    # Saved after the first of several signals only if the second one does not stop it.
    saved = code == 0 or (signals == "SIGINT")
    assert Path("run/checkpoints/last.ckpt").exists() == saved
    assert Path("run/metrics.json").exists() == (code == 0)
    assert list(Path("run").rglob("*.part")) == []


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize("hook", ["on_train_batch_start", "on_validation_batch_start"])
def test_two_processes_stop_together_whichever_gets_the_signal(
    hook: str, rank: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command += ["--trainer.devices", "2"]
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root}
    run = [sys.executable, "-m", "mtl"]
    subprocess.run([*run, *command, "--out", "whole"], env=environment, check=True, timeout=200)
    hit = {"SIGNALS": "SIGTERM", "AT": hook, "NUMBER": "3", "RANK_HIT": rank}
    stopped = subprocess.run(
        [*run, *command, "--out", "cut"],
        env=environment | hit,
        timeout=200,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert stopped.returncode == 143
    resume = [*run, *resume_arguments(stopped.stderr)]
    subprocess.run(resume, env=environment, check=True, timeout=200)
    check_same("whole", "cut")
