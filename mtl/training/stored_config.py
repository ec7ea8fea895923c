"""What a stored configuration may name; it may come from someone else.

The configuration in a checkpoint, an export or a run's `config.yaml` is checked here before
anything in it is imported or instantiated.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from inspect import isclass
from pathlib import Path
from typing import Any

from mtl.errors import UserError
from mtl.user_files import read_yaml

# Packages whose classes a stored configuration may name: those of mtl, and those of the libraries
# that configurations of our own runs contain.
KNOWN_PACKAGES = (
    "mtl.balancing",
    "mtl.callbacks",
    "mtl.data",
    "mtl.methods",
    "mtl.modules",
    "mtl.regularizers",
    "lightning.pytorch.callbacks",
    # Other loggers send the run's options and results to a server that the configuration names.
    "lightning.pytorch.loggers.csv_logs",
    "lightning.pytorch.loggers.tensorboard",
    "torch.optim",
    "torchjd.aggregation",
    "torchjd.scalarization",
)
# Short paths of classes in two of these packages, as jsonargparse writes them.
KNOWN_ALIASES = (
    "lightning.pytorch.loggers.CSVLogger",
    "lightning.pytorch.loggers.TensorBoardLogger",
)
# Options that hold free text, never a class.
TEXT_OPTIONS = ("backbone", "score", "out", "ckpt_path", "init_from")
# Options that hold a class or the name of one, also of a module that does not exist here.
CLASS_OPTIONS = (
    "accelerator",
    "balancer",
    "callbacks",
    "head",
    "logger",
    "optimizer",
    "plugins",
    "profiler",
    "regularizer",
    "strategy",
)
# Options of the Trainer and its callbacks that name folders or files to be written.
WRITTEN = (
    "default_root_dir",
    "dirpath",
    "filename",
    "save_dir",
    "root_dir",
    "log_dir",
    "out",
    "path",
)
# Options of the command that wrote a run's configuration, which do not hold for another command.
OF_COMMAND = ("config", "out", "ckpt_path")
_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def read_run_configuration(file: Path) -> dict[str, Any]:
    """Reads a run's `config.yaml`, without the options that belong to the command that wrote it.

    Raises:
        UserError: If the file is not a configuration.
    """
    try:
        config = read_yaml(file)
    except UserError as error:
        raise UserError(f"{error}; name another configuration with -c") from error
    if not isinstance(config, dict):
        raise UserError(f"{file}: not the configuration of a run; name another one with -c")
    return {name: value for name, value in config.items() if name not in OF_COMMAND}


def check_classes(config: Mapping[str, Any], source: Path | str) -> None:
    """Checks that a stored configuration names no class or function but known ones.

    Known are the classes of `KNOWN_PACKAGES`, and classes derived from one of mtl's whose module
    has already been imported, because the user named it.

    Args:
        config: The configuration, as plain values.
        source: The file that holds it, for the message.

    Raises:
        UserError: If it names anything else, or a further configuration file.
    """
    for keys, value in _strings(config):
        if keys[0] == "tasks" or (keys[-1] in TEXT_OPTIONS and keys[0] != "trainer"):
            continue  # a task names no classes
        key = ".".join(keys)
        if _is_config_file(value):
            raise UserError(
                f"{source}: {key}: {value} is another configuration file; a stored configuration "
                f"must not read one. If you trust it, add -c {value}"
            )
        path = keys[-1] in CLASS_OPTIONS and _IMPORT_PATH.fullmatch(value)
        named = path or keys[-1] == "class_path" or _may_be_imported(value)
        if named and not is_known_class(value):
            raise UserError(f"{source}: {key}: {_refusal(keys, value)}")


def is_known_class(path: str) -> bool:
    """Whether a stored configuration may name a class.

    Args:
        path: Its import path, or the short name of a class of mtl.
    """
    if path in KNOWN_ALIASES:
        return True
    packages = [package for package in KNOWN_PACKAGES if package.startswith("mtl.")]
    if "." not in path:
        return any(path in getattr(import_module(package), "__all__", ()) for package in packages)
    inside = [package for package in KNOWN_PACKAGES if path.startswith(f"{package}.")]
    if inside:
        value = _imported(path)
        return isclass(value) and f"{value.__module__}.".startswith(f"{inside[0]}.")
    if path.startswith("mtl."):
        return False
    module, _, name = path.rpartition(".")
    value = getattr(sys.modules.get(module), name, None)
    return isclass(value) and value.__module__ == module and _extends_mtl(value)


def import_named_classes(values: Iterable[str]) -> None:
    """Imports the modules of the classes that the user names on the command line.

    Names that cannot be imported are left to the parser, which reports them.

    Args:
        values: Values of options.
    """
    for value in values:
        if _may_be_imported(value):
            try:
                import_module(value.rpartition(".")[0])
            except ImportError:
                continue


def check_written_paths(config: Mapping[str, Any], folder: Path) -> None:
    """Checks that the Trainer of a stored configuration writes to the run's folder only.

    Args:
        config: The configuration of a run, as plain values.
        folder: The run's folder.

    Raises:
        UserError: If a callback or a logger writes elsewhere.
    """
    for keys, value in _strings(config.get("trainer") or {}):
        if keys[-1] not in WRITTEN and not is_outside_path(value):
            continue
        if not _inside(value, folder):
            raise UserError(
                f"{folder / 'config.yaml'}: trainer.{'.'.join(keys)}: {value} is outside of the "
                f"run's folder. If you trust this run, name its configuration as well: "
                f"-c {folder / 'config.yaml'} --ckpt_path {folder}"
            )


def outside_paths(config: Mapping[str, Any], folder: Path | None) -> list[str]:
    """The files and folders outside of the run's folder that a stored configuration names.

    Args:
        config: The configuration, as plain values.
        folder: The run's folder, if known.
    """
    return [
        value
        for keys, value in _strings(config)
        if is_outside_path(value)
        and (keys[0] != "tasks" or keys[1] == "source")
        and not (folder and _inside(value, folder))
    ]


def is_outside_path(value: str) -> bool:
    """Whether a string is a path that can leave the working directory, or an address."""
    if "\n" in value or len(value) > 4096:
        return False
    return value.startswith(("/", "~")) or ".." in Path(value).parts or "://" in value


def _refusal(keys: tuple[str, ...], value: str) -> str:
    """Why a name is refused, and how to allow it."""
    if keys[0] in ("model", "data") and keys[1:] == ("class_path",):
        remedy = f"--{keys[0]} {value}"
    elif keys[0] in ("model", "data"):
        remedy = f"the file that configures it, with -c, or its class, such as --model {value}"
    else:
        remedy = "the file, with -c"
    return (
        f"{value!r} is not a class of mtl, and stored configurations may come from someone else, "
        f"so it is not imported. If you trust it, name it on the command line: {remedy}"
    )


def _strings(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yields the strings of a configuration with their keys."""
    if isinstance(value, str):
        yield keys, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _strings(item, (*keys, str(name)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item, keys)


def _may_be_imported(value: str) -> bool:
    """Whether a string is an import path whose top-level module exists; imports nothing."""
    if not _IMPORT_PATH.fullmatch(value):
        return False
    top = value.partition(".")[0]
    try:
        return top in sys.modules or find_spec(top) is not None
    except ValueError:
        return True


def _imported(path: str) -> Any:
    """The object at an import path in one of the known packages; None if there is none."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name, None)
    except ImportError:
        return None


def _extends_mtl(cls: type[Any]) -> bool:
    return any(base.__module__.startswith("mtl.") for base in cls.__mro__[1:])


def _is_config_file(value: str) -> bool:
    """Whether a string is a file that the parser would read as a part of the configuration."""
    try:
        if "\n" in value or not Path(value).is_file():
            return False
        content = read_yaml(Path(value))
    except (OSError, ValueError, UserError):
        return False
    return isinstance(content, dict | list)


def _inside(value: str, folder: Path) -> bool:
    if "://" in value:
        return False
    return Path(value).expanduser().resolve().is_relative_to(folder.resolve())
