"""The command line: tasks and backbone stated once, the run's folder, checkpoints that say how they were made."""

import hashlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any, TypeVar

import torch
import yaml
from jsonargparse import set_parsing_settings
from jsonargparse.typing import register_type
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, RichProgressBar
from lightning.pytorch.cli import (
    ArgsType,
    LightningArgumentParser,
    LightningCLI,
    SaveConfigCallback,
)
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

import mtl.balancing
import mtl.data
import mtl.methods
import mtl.regularizers
from mtl.balancing import Surgery
from mtl.callbacks import GradientConflicts
from mtl.data import MultiTaskDataModule
from mtl.errors import UserError, explain_parse_error
from mtl.methods import MultiTaskModule
from mtl.tasks import Task
from mtl.training.run_folder import CONFIG, find_checkpoint, run_folder_of
from mtl.training.trainer import (
    DDP,
    DEFAULTS,
    check_unused_folder,
    checkpoint_callbacks,
    result_callbacks,
)

# A task is written as a path or inline; a saved configuration holds it whole.
register_type(Task, serializer=asdict, deserializer=Task.read, deserializer_exceptions=(UserError,))

set_parsing_settings(add_print_completion_argument=True)

# Method and scheme where none is named.
USUAL = {"model": "MultiHead", "data": "RoundRobinDataModule"}
# What Lightning's own `predict` says of itself; `mtl predict --help` is mtl/cli/predict.py's.
PREDICT = (
    "Write predictions for the tasks' own splits, a file for each task. With --input FILE (or - for standard input) those of "
    "your own texts instead: `mtl predict --ckpt_path RUN --input reviews.csv`, whose options `mtl predict --help` lists."
)
# What does not change what a run computes, and so does not change its folder's name.
NOT_OF_A_RUN = ("config", "out", "ckpt_path", "save_every")


class Parser(LightningArgumentParser):
    """Lightning's parser, whose errors suggest the nearest name."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Prints what is wrong and what may have been meant, and exits with 2."""
        packages = (mtl.methods, mtl.data, mtl.balancing, mtl.regularizers)
        classes = {name: getattr(package, name) for package in packages for name in package.__all__}
        names = [option for option in self._option_string_actions if option.startswith("--")]
        names += [
            name
            for cls in classes.values()
            for base in cls.__mro__[:3]
            for name in signature(base.__init__).parameters
        ]
        sys.stderr.write(f"mtl: error: {explain_parse_error(message, names, classes)}\n")
        sys.exit(2)


class SaveConfig(SaveConfigCallback):
    """Saves the resolved configuration in the folder of a run that is trained."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Leaves the configuration of a run alone when its checkpoint is only predictions."""
        if stage == "fit":
            super().setup(trainer, pl_module, stage)


class CommandLine(LightningCLI):
    """`mtl fit | validate | test | predict`."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and what of the Trainer's methods is not offered: it is decided here."""
        common = {"model", "datamodule", "dataloaders", "ckpt_path", "weights_only"}
        return {
            "fit": common | {"train_dataloaders", "val_dataloaders"},
            "validate": common | {"verbose"},
            "test": common | {"verbose"},
            "predict": common | {"return_predictions"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The options that data and model share, and those of the run's folder."""
        parser.add_argument(
            "--tasks", type=list[Task], required=True, help="Task files, or tasks written inline."
        )
        parser.add_argument(
            "--backbone",
            type=str,
            default="bert-base-uncased",
            help="Pretrained encoder and its tokenizer: a name on the hub, NAME@REVISION, or a directory.",
        )
        parser.add_argument(
            "--score",
            type=str | None,
            default=None,
            help="The run's score, where it is not the mean over tasks: an expression such as '(a.accuracy + b.pearson) / 2'.",
        )
        parser.add_argument(
            "--out",
            type=Path | None,
            default=None,
            help="The run's folder; runs/<method>-<scheme>-<hash of the configuration> where absent.",
        )
        parser.add_argument(
            "--save_every",
            type=int,
            default=200,
            help="Optimiser steps after which checkpoints/last.ckpt is written anew; it is also written at the end.",
        )
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="A checkpoint file; or a run's folder; or `last` or `best` of the run in --out. With `fit`, the run goes on "
            "from there to the very weights of an uninterrupted one. The checkpoint knows tasks, backbone, method and data.",
        )
        for option in ("tasks", "backbone"):
            parser.link_arguments(option, f"data.init_args.{option}")
            parser.link_arguments(option, f"model.init_args.{option}")
        parser.link_arguments("score", "model.init_args.score")
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses, with what a given checkpoint or run says of itself as the first configuration."""
        assert isinstance(args, list)
        given = _value_of("--ckpt_path", args)
        checkpoint = (
            find_checkpoint(given, None, args[0])
            if given and given not in ("best", "last")
            else None
        )
        if checkpoint:
            args = [args[0], *_own_configuration(checkpoint, args[0]), *args[1:]]
        self.config = parser.parse_args([*args[:1], *classes(args, *USUAL), *args[1:]])
        command = self.config.subcommand
        config = self.config[command]
        self.out: Path = (
            config.out
            or (checkpoint and run_folder_of(checkpoint))
            or Path("runs") / self._name(command)
        )
        if config.ckpt_path:
            config.ckpt_path = str(find_checkpoint(config.ckpt_path, self.out, command))
        elif command == "fit" and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            check_unused_folder(self.out)

    def _parse_ckpt_path(self) -> None:
        """Done already, in `parse_arguments`."""

    def instantiate_classes(self) -> None:
        """Makes data, model and trainer."""
        self.config_init = self.parser.instantiate(
            self.config
        )  # Lightning calls it by a name that is deprecated
        self.datamodule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that leaves everything in the run's folder."""
        config = self._get(self.config_init, "trainer")
        if config.logger in (None, True):
            config.logger = TensorBoardLogger(
                self.out, name="", version="", default_hp_metric=False
            )
        config.default_root_dir = config.default_root_dir or str(self.out)
        config.callbacks = _as_list(config.callbacks)
        config.callbacks += self._callbacks(config)
        trainer: Trainer = super().instantiate_trainer(**kwargs)
        if trainer.world_size > 1 and config.strategy == "auto":
            trainer = super().instantiate_trainer(strategy=DDP, **kwargs)
        return trainer

    def fit(self, **kwargs: Any) -> None:
        """Trains, from a checkpoint where one is given. It may come from strangers: no pickled code is run."""
        self.trainer.fit(**kwargs, ckpt_path=self._get(self.config, "ckpt_path"), weights_only=True)

    def validate(self, **kwargs: Any) -> None:
        """Scores the validation splits; Lightning's own table would show every score once for each loader."""
        self._load_weights()
        self.trainer.validate(**kwargs, verbose=False)

    def test(self, **kwargs: Any) -> None:
        """Scores the test splits."""
        self._load_weights()
        self.trainer.test(**kwargs, verbose=False)

    def predict(self, **kwargs: Any) -> None:
        """Writes predictions; keeping them in memory too would serve nobody."""
        self._load_weights()
        self.trainer.predict(**kwargs, return_predictions=False)

    def _load_weights(self) -> None:
        """Takes a checkpoint's weights, and not the state of the callbacks that trained it."""
        if checkpoint := self._get(self.config, "ckpt_path"):
            kept = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
            self.model.on_load_checkpoint(kept)
            self.model.load_state_dict(kept["state_dict"])

    def _callbacks(self, config: Any) -> list[Callback]:
        shown: list[Callback] = (
            [] if config.enable_progress_bar is False else [RichProgressBar(leave=False)]
        )
        if config.fast_dev_run:
            return shown
        kept = [*shown, *result_callbacks(self.out)]
        if self.subcommand != "fit":
            return kept
        checkpoints = checkpoint_callbacks(self.out, self._get(self.config, "save_every"))
        logged = [LearningRateMonitor("step")] if config.logger else []
        own = any(isinstance(callback, GradientConflicts) for callback in config.callbacks)
        surgery = isinstance(self.model.balancer, Surgery) and not own
        conflicts = (
            [GradientConflicts(config.log_every_n_steps)] if surgery else []
        )  # nearly free there
        return [*kept, *logged, *conflicts, *checkpoints]

    def _name(self, command: str) -> str:
        """A folder's name that tells method and scheme, and changes with anything else that is configured."""
        parser = self._subcommand_parsers[command]
        config = json.loads(parser.dump(self.config[command], format="json", skip_none=False))
        content = {key: value for key, value in config.items() if key not in NOT_OF_A_RUN}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
        parts = [config[key]["class_path"].rpartition(".")[2] for key in ("model", "data")]
        return "-".join([parts[0], parts[1].removesuffix("DataModule"), digest])


Command = TypeVar("Command", bound=CommandLine)


class Parsed(CommandLine):
    """A command that is parsed and checked, and not run."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses; whether the run's folder is used already is nobody's concern."""
        assert isinstance(args, list)
        self.config = parser.parse_args([*args[:1], *classes(args, *USUAL), *args[1:]])

    def instantiate_classes(self) -> None:
        """Makes nothing."""

    def _set_seed(self) -> None:
        """Draws nothing."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""


def name_of(args: list[str]) -> str:
    """The name that a run's folder gets of its resolved configuration.

    Args:
        args: The command and its options.
    """
    return read(args)._name(args[0])


def read(args: list[str]) -> Parsed:
    """A command's words as its resolved configuration, in `config`, until other words are read.

    Args:
        args: The command and its options.
    """
    with report_user_errors():
        reader = _reader()
        reader.parse_arguments(reader.parser, args)
    return reader


@cache
def _reader() -> Parsed:
    """What reads commands: made once, for it takes longer than the reading."""
    return command_line(Parsed, ["fit", "--tasks=[]"])


def run(args: list[str]) -> None:
    """Runs a command.

    Args:
        args: The command and its options.
    """
    with report_user_errors():
        command_line(CommandLine, args)


def command_line(cls: type[Command], args: list[str]) -> Command:
    """A command of a class, made of its words, with the project's settings."""
    return cls(
        MultiTaskModule,
        MultiTaskDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveConfig,
        save_config_kwargs={"config_filename": CONFIG, "overwrite": True},
        trainer_defaults=DEFAULTS,
        seed_everything_default=42,
        parser_kwargs={"prog": "mtl", "predict": {"description": PREDICT}},
        parser_class=Parser,
        auto_configure_optimizers=False,
        args=args,
    )


@contextmanager
def report_user_errors() -> Iterator[None]:
    """Within, an error of the user's is one message, and what concerns nobody who runs a command is not printed."""
    # Lightning 2.6 calls jsonargparse by names that are deprecated.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings(
        "ignore", message="Checkpoint directory .* exists and is not empty"
    )  # a run that goes on
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: " Tip: " not in record.getMessage()
    )
    try:
        yield
    except Exception as error:
        if not (cause := user_error_behind(error)):
            raise
        sys.stderr.write(f"mtl: error: {cause}\n")
        sys.exit(2)


def user_error_behind(error: BaseException | None) -> UserError | None:
    """The user's error behind an error: jsonargparse wraps what a constructor raises."""
    while error:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _own_configuration(checkpoint: Path, command: str) -> list[str]:
    """Options with which a checkpoint was made: all of its run's to go on with it, those of data and model else."""
    folder = run_folder_of(checkpoint)
    if command == "fit" and folder and (folder / CONFIG).is_file():
        return ["--config", str(folder / CONFIG)]
    kept = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    model, data = dict(kept["hyper_parameters"]), dict(kept["datamodule_hyper_parameters"])
    own: dict[str, Any] = {name: model.get(name) for name in ("tasks", "backbone", "score")}
    own["seed_everything"] = data.pop("seed", 42)
    for key, values in (("model", model), ("data", data)):
        shared = ("tasks", "backbone", "score", "_class_path", "_instantiator")
        own[key] = {
            "class_path": values["_class_path"],
            "init_args": {n: v for n, v in values.items() if n not in shared},
        }
    return ["--config", json.dumps(own)]


def _value_of(option: str, args: list[str]) -> str | None:
    for place, word in enumerate(args):
        if word == option and place + 1 < len(args):
            return args[place + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def classes(args: list[str], *keys: str) -> list[str]:
    """Options that name the classes of method or scheme, to stand before all others, so that these find theirs.

    They are not the parser's defaults: those of the usual class's arguments would stay when another class is named.

    Args:
        args: A command.
        keys: `model`, `data`.
    """
    return [f"--{key}={_chosen(key, args) or USUAL[key]}" for key in keys]


def _chosen(key: str, args: list[str]) -> str | None:
    """The class of a part that a command names, itself or in one of its configurations; the last where there are several."""
    found = None
    for word, after in zip(args, [*args[1:], ""], strict=True):
        if word.startswith("-c") and len(word) > 2:  # -cFILE
            word = f"--config={word[2:]}"
        option, equals, value = word.partition("=")
        value = value if equals else after
        if option in (f"--{key}", f"--{key}.class_path"):
            found = value
        elif option in ("-c", "--config"):
            found = _class_in(key, value) or found
    return found


def _class_in(key: str, given: str) -> str | None:
    """The class of a part in a configuration: a file, or one written inline."""
    try:
        config = yaml.safe_load(
            given if given.startswith("{") else Path(given).read_text(encoding="utf-8")
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None  # the parser says what is wrong
    part = config.get(key) if isinstance(config, dict) else None
    named = part.get("class_path") if isinstance(part, dict) else part
    return named if isinstance(named, str) else None


def _as_list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
