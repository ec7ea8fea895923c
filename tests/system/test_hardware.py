from pathlib import Path
from urllib.error import URLError

import pytest

from mtl.system.hardware import free_memory, hub_error


def test_free_memory_is_limited_by_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 8000 kB\n")
    monkeypatch.setattr("mtl.system.hardware.MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr("mtl.system.hardware.CGROUP", tmp_path)
    assert free_memory(gpu=False) == 8000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("4096\n")
    assert free_memory(gpu=False) == 8000 * 1024
    (tmp_path / "memory.max").write_text("1048576\n")
    assert free_memory(gpu=False) == 1048576 - 4096


def test_hub_error_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise URLError("no route")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    assert (hub_error() or "").endswith("does not answer: no route")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub_error() == "HF_HUB_OFFLINE is set"
