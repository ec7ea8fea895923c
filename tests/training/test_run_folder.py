import hashlib
import json
from pathlib import Path

import pytest

from mtl.errors import UserError
from mtl.training.run_folder import (
    atomic_output,
    check_fresh_folder,
    check_links,
    config_digest,
    find_checkpoint,
    run_folder_of,
    write_atomic,
)


def checkpoint(folder: Path, name: str) -> Path:
    path = folder / "checkpoints" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_folder_with_a_run_is_not_fresh(tmp_path: Path) -> None:
    check_fresh_folder(tmp_path / "new")
    checkpoint(tmp_path, "last.ckpt")
    with pytest.raises(UserError, match="interrupted run; resume it with --ckpt_path"):
        check_fresh_folder(tmp_path)
    (tmp_path / "metrics.json").touch()
    with pytest.raises(UserError, match="finished run"):
        check_fresh_folder(tmp_path)


def test_links_within_a_folder_lead_nowhere_else(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "predictions").mkdir(parents=True)
    (run / "inside").symlink_to("predictions")
    (tmp_path / "link").symlink_to(run)
    check_links(run)
    check_links(tmp_path / "link")
    check_links(tmp_path / "missing")
    for target in ("../../elsewhere", str(tmp_path), "/", "missing/../../../x"):
        link = run / "predictions" / "out"
        link.symlink_to(target)
        with pytest.raises(UserError, match=r"predictions/out is a link to /.*, outside of "):
            check_links(run)
        link.unlink()
    link.symlink_to("../../elsewhere")
    check_links(run, inside=tmp_path)


def test_a_folder_stands_for_its_last_checkpoint_to_resume_and_its_best_otherwise(
    tmp_path: Path,
) -> None:
    last = checkpoint(tmp_path, "last.ckpt")
    with pytest.raises(UserError, match=r"best.ckpt does not exist .*: last.ckpt\); give .*last"):
        find_checkpoint(str(tmp_path), None, "test")
    best = checkpoint(tmp_path, "best.ckpt")
    assert find_checkpoint(str(tmp_path), None, "fit") == last
    assert find_checkpoint(str(tmp_path), None, "test") == best
    assert find_checkpoint("last", tmp_path, "test") == last
    assert find_checkpoint(str(best), None, "fit") == best
    assert run_folder_of(best) == tmp_path
    with pytest.raises(UserError, match="name the run as well, with --out RUN"):
        find_checkpoint("best", None, "test")


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    content = {"b": [1, None], "a": {"d": 0.1, "c": "text"}}
    expected = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    reordered = {"a": {"c": "text", "d": 0.1}, "b": [1, None]}
    assert config_digest(content) == config_digest(reordered) == expected


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.txt"
    write_atomic(path, "old")
    with pytest.raises(KeyError), atomic_output(path) as temporary:
        temporary.write_text("new")
        raise KeyError
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]
