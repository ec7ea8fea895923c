"""The parser of commands that are configured with classes, and the options of a run."""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from inspect import isclass, signature
from pathlib import Path
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace, get_loader, set_loader, set_parsing_settings
from jsonargparse.typing import register_type
from lightning.pytorch.cli import LightningArgumentParser
from lightning_utilities.core.enums import StrEnum

import mtl.balancing
import mtl.data
import mtl.methods
import mtl.modules
import mtl.regularizers
from mtl.bounds import Bounds, Count, check_bounds
from mtl.errors import UserError
from mtl.parse_errors import explain_parse_error
from mtl.tasks import Task, TaskGroup, each_task, read_task_or_group
from mtl.training.trainer_checks import EPOCHS
from mtl.user_files import compose_yaml, expand_path

# A task is written as a path or inline; a saved configuration contains the task itself.
register_type(
    Task,
    serializer=asdict,
    deserializer=read_task_or_group,
    deserializer_exceptions=(UserError,),
    type_check=lambda value, _: isinstance(value, Task | TaskGroup),
)
register_type(Path, deserializer=expand_path, deserializer_exceptions=(UserError, TypeError))

set_parsing_settings(add_print_completion_argument=True)
_load_yaml = get_loader("yaml")


def _load_strictly(text: str, path: object = "the command line") -> Any:
    """Jsonargparse's YAML reader, with the checks of `compose_yaml`."""
    compose_yaml(text, str(path))
    return _load_yaml(text)


set_loader("yaml", _load_strictly, (yaml.YAMLError,))
# Defaults of Lightning's callbacks, such as the interval of `Timer`, are members of enumerations.
yaml.SafeDumper.add_multi_representer(
    StrEnum, lambda dumper, member: dumper.represent_str(member.value)
)

# Numbers among the options of a run itself; that of the seed is not annotated in Lightning.
RUN_BOUNDS = {"save_every": Bounds(1), "seed_everything": Bounds(0, 2**32 - 1)}

# The commands that Lightning runs.
COMMANDS = ("fit", "validate", "test", "predict")

# The packages whose classes may be named without their module. They are imported here so that
# jsonargparse finds them.
PACKAGES = (mtl.methods, mtl.data, mtl.balancing, mtl.regularizers, mtl.modules)


class _Refused(SystemExit):
    """A refusal of the parser. Not an `Exception`: the next type of a union must not be tried."""


class Parser(LightningArgumentParser):
    """Lightning's parser; errors suggest the nearest name, and no key may occur twice."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # An abbreviated option would be overlooked where arguments are read before they are parsed.
        super().__init__(*args, **{"allow_abbrev": False} | options)

    def parse_strictly(self, args: Sequence[str]) -> Any:
        """Parses the arguments of a command; checks keys and numbers.

        Not in `parse_args`, which jsonargparse calls for the options of nested classes too.

        Raises:
            UserError: If the arguments cannot be parsed, a key occurs twice in a mapping, or a
                number is out of bounds.
        """
        for argument in args:  # jsonargparse reads mappings among them with a reader of its own
            name, _, value = argument.partition("=")
            option, text = (name, value) if name.startswith("-") else ("the command line", argument)
            if text.startswith(("{", "[")):
                with suppress(yaml.YAMLError):  # the parser reports it
                    compose_yaml(text, option)
        try:
            config = self.parse_args(args)
        except _Refused as refusal:
            raise UserError(refusal.code) from None
        for section in (config, *(config.get(command) for command in COMMANDS)):
            if section is not None and section.get("tasks"):
                section["tasks"] = _single_tasks(section["tasks"])
        _check_numbers(config)
        return config

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises a refusal with the nearest name."""
        required = re.fullmatch(r"the following arguments are required: (\w+)", message)
        if required and "--tasks" not in self._option_string_actions:  # the parser of a class
            raise _Refused(
                f"{required[1]}: a class that is named needs this option; give it after the class, "
                f"as --trainer.callbacks.{required[1]} for a callback"
            )
        classes = _classes()
        options = [option for option in self._option_string_actions if option.startswith("--")]
        names = [*options, *_argument_names(classes.values())]
        raise _Refused(explain_parse_error(message, names, classes))


def _check_numbers(section: Any, option: str = "--") -> None:
    """Checks the numbers of all configured classes, before any of them is created."""
    values = vars(section) if isinstance(section, Namespace) else section
    if isinstance(values, list):
        for item in values:
            _check_numbers(item, option)
    elif isinstance(values, dict):
        for name, bounds in RUN_BOUNDS.items():
            if isinstance(values.get(name), int) and values[name] not in bounds:
                raise UserError(f"--{name} {values[name]}: give {bounds!r}")
        if values.get("class_path") and values.get("init_args"):
            module, _, name = values["class_path"].rpartition(".")
            values = vars(values["init_args"])
            check_bounds(getattr(import_module(module), name), values, option)
        for name, value in values.items():
            # `fit.model` is the option --model.
            _check_numbers(value, option if name in COMMANDS else f"{option}{name}.")


def _classes() -> dict[str, type[Any]]:
    """The classes of `PACKAGES` by their short names."""
    values = {name: getattr(package, name) for package in PACKAGES for name in package.__all__}
    return {name: value for name, value in values.items() if isclass(value)}


def _argument_names(classes: Iterable[type[Any]]) -> list[str]:
    """The names of the constructor arguments of classes and their nearest bases."""
    return [
        name
        for cls in classes
        for base in cls.__mro__[:3]
        for name in signature(vars(base).get("__init__", object.__init__)).parameters
    ]


def _single_tasks(tasks: Sequence[Any] | None) -> list[Task]:
    """The tasks, without groups; none before they are read."""
    return [task for each in tasks or () for task in each_task(each)]


def add_run_options(parser: LightningArgumentParser) -> None:
    """Adds the options that data and method share, and those of the run's folder."""
    parser._option_string_actions[
        "--trainer.max_epochs"
    ].help = f"Number of epochs. Default: {EPOCHS}, if neither max_steps nor max_time is given."
    parser.add_argument(
        "--tasks", type=list[Task], required=True, help="Task files, or tasks written inline."
    )
    parser.add_argument(
        "--backbone",
        type=str,
        default="bert-base-uncased",
        help="Pretrained encoder and its tokenizer: a name on the Hugging Face Hub, "
        "NAME@REVISION, a directory, or `bundled`: the small encoder of the extra `quickstart`.",
    )
    parser.add_argument(
        "--score",
        type=str | None,
        default=None,
        help="Expression for the run's score, such as '(a.accuracy + b.pearson) / 2'; if not "
        "given, the mean over tasks.",
    )
    parser.add_argument(
        "--out",
        type=Path | None,
        default=None,
        help="The run's folder; if not given, runs/<method>-<scheme>-<digest of the "
        "configuration>.",
    )
    parser.add_argument(
        "--save_every",
        type=Count,
        default=200,
        help="Number of optimizer steps between two saves of checkpoints/last.ckpt.",
    )
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="A checkpoint file, a run's folder, or `last` or `best` of the run in --out. "
        "`fit` resumes from it.",
    )
    for part in ("data", "model"):
        parser.link_arguments("tasks", f"{part}.init_args.tasks", compute_fn=_single_tasks)
        parser.link_arguments("backbone", f"{part}.init_args.backbone")
    parser.link_arguments("score", "model.init_args.score")
    parser.link_arguments("model.init_args.train_only", "data.init_args.train_only")
    parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
