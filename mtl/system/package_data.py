"""Where the files that ship with the package are: configurations, tables and schemas.

An installed package contains them; in a checkout configurations and tables are next to the package.
"""

import difflib
from functools import cache
from pathlib import Path

from mtl.errors import UserError, did_you_mean
from mtl.user_files import expand_path

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parent


def _first_folder(*candidates: Path) -> Path:
    """The first folder that exists."""
    return next((folder for folder in candidates if folder.is_dir()), candidates[0])


CONFIGS = _first_folder(_PACKAGE / "configs", _CHECKOUT / "configs")
TABLES = _first_folder(_PACKAGE / "tables", _CHECKOUT / "experiments" / "tables")


def schema_file(name: str) -> Path:
    """The JSON schema of task files (`task`) or of comparisons (`comparison`)."""
    return _PACKAGE / "schemas" / f"{name}.schema.json"


def editor_line(name: str) -> str:
    """The first line of a YAML file, from which editors know its schema."""
    return f"# yaml-language-server: $schema={schema_file(name)}\n"


def config_names() -> list[str]:
    """The names of the configurations that ship with the package, such as `methods/pals`."""
    return list(_config_names())


@cache
def _config_names() -> tuple[str, ...]:
    files = (file.relative_to(CONFIGS) for file in CONFIGS.rglob("*.yaml"))
    return tuple(sorted(file.with_suffix("").as_posix() for file in files))


def find_config(name: str, folder: Path | None = None) -> Path:
    """The file that a name stands for: a local file, or a configuration that ships.

    Args:
        name: A path, or the name of a shipped configuration, such as `methods/pals`. A local file
            of that path, also without its suffix `.yaml`, has precedence.
        folder: The folder that a relative path refers to. Default: the current folder.

    Raises:
        UserError: If there is no such file.
    """
    path = expand_path(name)
    for candidate in (path, path.parent / f"{path.name}.yaml"):
        if (local := (folder or Path()) / candidate).is_file():
            return local
    if name in _config_names():
        return CONFIGS / f"{name}.yaml"
    if ((folder or Path()) / path).is_dir():
        raise UserError(f"{name}: that is a folder; give a file in it")
    raise UserError(
        f"{name}: no such file, and no configuration of that name ships with mtl."
        f"{_nearest_file(name, folder or Path())}"
    )


def _nearest_file(name: str, folder: Path) -> str:
    """A sentence that suggests the nearest local file or shipped configuration, if any is near."""
    path = Path(name)
    siblings = (folder / path.parent).glob("*.y*ml") if (folder / path.parent).is_dir() else ()
    local = did_you_mean(path.name, [file.name for file in siblings])
    if local:
        return local if path.parent == Path() else f"{local[:-1]} in {path.parent}?"
    stem = name.removesuffix(".yaml").removeprefix("configs/")
    shipped = {each.rpartition("/")[2]: each for each in config_names()}
    if stem in shipped or stem in shipped.values():
        return f" Did you mean {shipped.get(stem, stem)!r}?"
    return did_you_mean(stem, shipped.values()) if "/" in stem else _by_last_part(stem, shipped)


def _by_last_part(stem: str, shipped: dict[str, str]) -> str:
    near = difflib.get_close_matches(stem, shipped, n=1, cutoff=0.75)
    return f" Did you mean {shipped[near[0]]!r}?" if near else ""
