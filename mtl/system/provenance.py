"""The library versions and the code that a result was computed with."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mtl._version import __version__

LIBRARIES = ("torch", "lightning", "transformers", "datasets", "torchmetrics")


def provenance() -> dict[str, Any]:
    """Returns the versions of the libraries, and a digest of the package's code."""
    libraries = {name: version(name) for name in LIBRARIES}
    return {
        "versions": {"mtl": __version__, "python": platform.python_version()} | libraries,
        "code": code_digest(),
    }


@cache
def code_digest() -> str:
    """Returns a digest of the package's source files."""
    digest = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for file in sorted(folder.rglob("*.py")):
        digest.update(str(file.relative_to(folder)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
