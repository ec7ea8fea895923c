"""A crash while a checkpoint is written leaves a complete one."""

import os
import warnings
from pathlib import Path

import pytest
import torch

from mtl.errors import UserError
from mtl.training.checkpoint_io import AtomicCheckpointIO
from mtl.training.checkpoints import read_checkpoint
from mtl.training.run_folder import find_checkpoint, is_complete, remove_unfinished

IO = AtomicCheckpointIO()


def value(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["step"])


@pytest.fixture
def last(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    for step in (1, 2):
        IO.save_checkpoint({"step": torch.tensor(step)}, path)
    return path


def test_the_checkpoint_before_the_last_one_is_kept(last: Path) -> None:
    assert (value(last), value(last.with_name("previous.ckpt"))) == (2, 1)
    assert len(list(last.parent.iterdir())) == 2


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_last_checkpoint_is_not_chosen_but_the_previous_one(
    share: float, last: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    os.truncate(last, int(last.stat().st_size * share))
    assert not is_complete(last)
    for _ in range(2):  # reported once
        assert value(find_checkpoint(str(last.parent.parent), None, "fit")) == 1
    report = capsys.readouterr().err
    assert report.startswith(f"mtl: {last} is truncated or missing") and report.count("\n") == 1
    # The next save must not replace the good one by the truncated one.
    IO.save_checkpoint({"step": torch.tensor(3)}, last)
    assert (value(last), value(last.with_name("previous.ckpt"))) == (3, 1)


def test_a_crash_between_keeping_and_replacing_leaves_no_other_file(last: Path) -> None:
    previous = last.with_name("previous.ckpt")
    previous.unlink()
    os.link(last, previous)
    IO.save_checkpoint({"step": torch.tensor(3)}, last)
    assert (value(last), value(previous)) == (3, 2)
    assert sorted(path.name for path in last.parent.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_a_full_disk_leaves_the_last_checkpoint_and_names_the_remedy(
    last: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(checkpoint: object, path: Path) -> None:
        path.write_bytes(b"PK")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(UserError, match=r"last.ckpt: .*No space left.*resume with --ckpt_path"):
        IO.save_checkpoint({"step": torch.tensor(3)}, last)
    assert value(last) == 2
    assert len(list(last.parent.iterdir())) == 2


def test_a_killed_write_is_removed_when_the_run_goes_on(last: Path) -> None:
    part = last.with_name("last.ckpt.1.part")
    part.touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_checkpoint(str(last.parent.parent), None, "fit") == last
    remove_unfinished(last.parent.parent)
    assert not part.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(1), "does not name its method"),
        ({"state_dict": {"w": torch.zeros(1)}}, "does not name its method"),
        ({"hyper_parameters": None, "state_dict": {}}, "does not name its method"),
        ({"hyper_parameters": {"_class_path": "MultiHead"}}, "does not name its method"),
        ({"hyper_parameters": {"_class_path": "MultiHead", "tasks": []}}, "has no weights"),
    ],
)
def test_a_checkpoint_of_another_tool_is_refused(
    content: object, message: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=f"other.ckpt: not a checkpoint of mtl: it {message}"):
        read_checkpoint(tmp_path / "other.ckpt")


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_folder_that_is_no_run_is_refused(command: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").touch()
    with pytest.raises(UserError, match="not the folder of a run: it has no checkpoints/"):
        find_checkpoint(str(tmp_path), None, command)
