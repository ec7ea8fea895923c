"""Where the files that ship with the package are: configurations and tables.

An installed package contains them; in a checkout they are next to the package.
"""

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parent


def _first_folder(*candidates: Path) -> Path:
    """The first folder that exists."""
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])


CONFIGS = _first_folder(_PACKAGE / "configs", _CHECKOUT / "configs")
TABLES = _first_folder(_PACKAGE / "tables", _CHECKOUT / "experiments" / "tables")
