"""Where the files that ship with the package are: configurations, tables and schemas.

An installed package contains them; in a checkout configurations and tables are next to the package.
"""

from pathlib import Path

from mtl.errors import UserError, did_you_mean

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
    files = (file.relative_to(CONFIGS) for file in CONFIGS.rglob("*.yaml"))
    return sorted(file.with_suffix("").as_posix() for file in files)


def find_config(name: str, folder: Path | None = None) -> Path:
    """The file that a name stands for: a local file, or a configuration that ships.

    Args:
        name: A path, or the name of a shipped configuration, such as `methods/pals`. A local file
            of that path, also without its suffix `.yaml`, has precedence.
        folder: The folder that a relative path refers to. Default: the current folder.

    Raises:
        UserError: If there is no such file.
    """
    for candidate in (Path(name), Path(f"{name}.yaml")):
        if (local := (folder or Path()) / candidate).is_file():
            return local
    names = config_names()
    stem = name.removesuffix(".yaml").removeprefix("configs/")
    if name in names:
        return CONFIGS / f"{name}.yaml"
    if stem in names:
        hint = f" Did you mean {stem!r}?"
    else:
        hint = did_you_mean(stem, names) or did_you_mean(f"methods/{stem}", names)
    raise UserError(
        f"{name}: no such file, and no configuration of that name ships with mtl.{hint}"
    )
