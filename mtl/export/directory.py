"""Write a directory that is either complete or absent."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def complete_or_absent(folder: Path) -> Iterator[Path]:
    """Context manager: a temporary folder that is renamed on success and deleted on failure.

    Args:
        folder: The final name. It must not exist, or be an empty folder.
    """
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        mode = temporary.stat().st_mode
        for file in temporary.rglob("*"):  # safetensors writes files that only their owner can read
            file.chmod(mode if file.is_dir() else mode & 0o666)
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
