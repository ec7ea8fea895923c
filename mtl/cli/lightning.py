"""The commands that Lightning runs: `mtl fit`, `validate`, `test` and `predict`."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from mtl.callbacks import StopOnSignal
from mtl.callbacks.typed_trainer import is_dry_run
from mtl.cli.callbacks import SaveConfig, add_callbacks
from mtl.cli.checkpoints import configuration_options, load_weights, named_checkpoint
from mtl.cli.class_options import (
    DEFAULT_CLASSES,
    class_options,
    option_value,
    with_config_files,
)
from mtl.cli.errors import report_user_errors
from mtl.cli.index_builder import build_index
from mtl.cli.linked_options import check_linked
from mtl.cli.option_index import FULL_HELP_WORDS, keep_help, read_index, write_index
from mtl.cli.parser import Parser, add_run_options
from mtl.cli.precision import FastTrainer, resolve_precision
from mtl.cli.resuming import check_resumable, copy_best_checkpoint, resume_command
from mtl.cli.run_naming import run_name
from mtl.cli.short_help import DESCRIPTIONS
from mtl.cli.words import check_words
from mtl.data import MultiTaskDataModule
from mtl.errors import UserError
from mtl.methods import MultiTaskModule
from mtl.training.distributed import stop_launched_processes
from mtl.training.run_folder import (
    CHECKPOINTS,
    check_fresh_folder,
    check_links,
    find_checkpoint,
    read_metrics,
    remove_unfinished,
    run_folder_of,
)
from mtl.training.run_lock import check_unlocked, no_leftovers, run_lock
from mtl.training.trainer import (
    DEFAULTS,
    add_checkpoint_io,
    with_run_logger,
    with_strategy_for_devices,
)
from mtl.training.trainer_checks import EPOCHS, check_trainer_options, has_default_length


class CommandLine(LightningCLI):
    """Parses and runs `mtl fit | validate | test | predict`."""

    model: MultiTaskModule

    def __init__(self, args: list[str], only: str | None, **kwargs: Any) -> None:
        """Parses and runs the command, see `command_line`."""
        self._only = only
        super().__init__(MultiTaskModule, MultiTaskDataModule, args=args, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands, and the arguments of the Trainer's methods that are no options."""
        common = {"model", "datamodule", "dataloaders", "ckpt_path", "weights_only"}
        return {
            "fit": common | {"train_dataloaders", "val_dataloaders"},
            "validate": common | {"verbose"},
            "test": common | {"verbose"},
            "predict": common | {"return_predictions"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the options of a run."""
        add_run_options(parser)

    def _prepare_subcommand_parser(
        self, klass: type, subcommand: str, **kwargs: Any
    ) -> LightningArgumentParser:
        """The parser of a command; without options if another command is the only one."""
        if self._only not in (None, subcommand):
            return self.init_parser(**kwargs)
        return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses the arguments, starting from the configuration of the checkpoint if any."""
        assert isinstance(args, list)
        command, arguments = args[0], args[1:]
        checkpoint = named_checkpoint(command, arguments)
        out, run = option_value("--out", arguments), checkpoint and run_folder_of(checkpoint)
        if checkpoint:
            arguments = [*configuration_options(checkpoint, command, arguments), *arguments]
        self.parse(parser, command, arguments)
        config = self.config[command]
        # A resumed run is written to the folder that is named, not to the one it was copied from.
        if run and command == "fit" and not out:
            config.out = run
        self.out: Path = config.out or run or Path("runs") / self.name(command)
        if checkpoint:  # also if a configuration named after --ckpt_path has another value
            config.ckpt_path = str(checkpoint)
        elif config.ckpt_path:
            config.ckpt_path = str(find_checkpoint(config.ckpt_path, self.out, command))
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self._check_folder(command)

    def _check_folder(self, command: str) -> None:
        """Checks that the command may write to the run's folder."""
        checkpoint = self.config[command].ckpt_path
        check_links(self.out)
        check_unlocked(self.out)
        read_metrics(self.out)  # its results are added to those that are stored
        if command == "fit" and checkpoint:
            check_resumable(Path(checkpoint), self.out, self.plain_config(command))
        elif command == "fit":
            check_fresh_folder(self.out)

    def parse(self, parser: LightningArgumentParser, command: str, arguments: list[str]) -> None:
        """Parses the arguments of a command into `config`."""
        arguments = with_config_files(arguments)
        check_linked(arguments)
        options = class_options(arguments, *DEFAULT_CLASSES)
        assert isinstance(parser, Parser)
        try:
            self.config = parser.parse_strictly([command, *options, *arguments])
        except UserError:
            # Suggestions from the names that exist here; they may be more than those in the cache.
            check_words(command, arguments, build_index(self._subcommand_parsers))
            raise
        resolve_precision(self.config[command].trainer)
        check_trainer_options(vars(self.config[command].trainer), training=command == "fit")

    def name(self, command: str) -> str:
        """The name of a folder for the parsed configuration."""
        return run_name(self.plain_config(command))

    def plain_config(self, command: str) -> dict[str, Any]:
        """The resolved configuration of a command, as numbers, strings, lists and dicts."""
        parser = self._subcommand_parsers[command]
        return json.loads(parser.dump(self.config[command], format="json", skip_none=False))

    def _parse_ckpt_path(self) -> None:
        """Does nothing: `parse_arguments` handles `--ckpt_path` instead of Lightning."""

    def instantiate_classes(self) -> None:
        """Creates data, method and Trainer, as Lightning does, but without its deprecated call."""
        self.config_init = self.parser.instantiate(self.config)
        self.datamodule: LightningDataModule = self._get(self.config_init, "data")
        self.model = self._get(self.config_init, "model")
        self.trainer = self.instantiate_trainer()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Creates a Trainer that writes everything to the run's folder."""
        config = self._get(self.config_init, "trainer")
        config.logger = with_run_logger(config.logger, self.out)
        config.default_root_dir = config.default_root_dir or str(self.out)
        if has_default_length(vars(config)):
            config.max_epochs = EPOCHS
        config.plugins = add_checkpoint_io(config.plugins)
        self.save_config_kwargs = {"out": self.out}
        training, save_every = self.subcommand == "fit", self._get(self.config, "save_every")
        add_callbacks(config, training, self.out, save_every, self.model.balancer)
        resume = resume_command(self.out, self.plain_config(str(self.subcommand)))
        self.stop = StopOnSignal(self.out / CHECKPOINTS, resume)
        if training and not config.fast_dev_run:
            config.callbacks.append(self.stop)
        create = partial(super().instantiate_trainer, **kwargs)
        return with_strategy_for_devices(create, config.strategy)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Context manager: lock the run's folder, and stop as signals ask for it."""
        locks = self.trainer.is_global_zero and not is_dry_run(self.trainer)
        with ExitStack() as stack:
            stack.enter_context(self.stop.handlers())
            if locks:
                stack.enter_context(run_lock(self.out))
                self._check_folder(str(self.subcommand))
                remove_unfinished(self.out)
                stack.enter_context(no_leftovers(self.out, lambda: self.stop.training))
            try:
                yield
            except BaseException:
                stop_launched_processes(self.trainer)
                raise

    def fit(self, **kwargs: Any) -> None:
        """Trains; resumes from the checkpoint if one is given, without executing pickled code."""
        checkpoint = self._get(self.config, "ckpt_path")
        with self.writing():
            if checkpoint and self.trainer.is_global_zero:
                copy_best_checkpoint(Path(checkpoint), self.out)
            self.trainer.fit(**kwargs, ckpt_path=checkpoint, weights_only=True)

    def validate(self, **kwargs: Any) -> None:
        """Evaluates the validation splits.

        Not verbose: Lightning's table would repeat every score for each data loader.
        """
        load_weights(self.model, self._get(self.config, "ckpt_path"))
        with self.writing():
            self.trainer.validate(**kwargs, verbose=False)

    def test(self, **kwargs: Any) -> None:
        """Evaluates the test splits."""
        load_weights(self.model, self._get(self.config, "ckpt_path"))
        with self.writing():
            self.trainer.test(**kwargs, verbose=False)

    def predict(self, **kwargs: Any) -> None:
        """Writes predictions; they are not collected in memory as well."""
        load_weights(self.model, self._get(self.config, "ckpt_path"))
        with self.writing():
            self.trainer.predict(**kwargs, return_predictions=False)


class IndexedCommandLine(CommandLine):
    """A command line that keeps the names of its options and classes for the next command."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Keeps the names before it parses."""
        if read_index() is None and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            write_index(build_index(self._subcommand_parsers))
        super().parse_arguments(parser, args)


AnyCommandLine = TypeVar("AnyCommandLine", bound=CommandLine)


def command_line(
    cls: type[AnyCommandLine], args: list[str], only: str | None = None
) -> AnyCommandLine:
    """Creates a command line with the project's settings; this parses and runs the command.

    Args:
        cls: The class of the command line.
        args: The command and its arguments.
        only: The only command that gets its options, since creating them takes time; None for all.
    """
    return cls(
        args,
        only,
        trainer_class=FastTrainer,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveConfig,
        trainer_defaults=DEFAULTS,
        seed_everything_default=42,
        parser_kwargs={
            "prog": "mtl",
            **{
                command: {"usage": f"mtl {command} [-c FILE] [options]", "description": text}
                for command, text in DESCRIPTIONS.items()
            },
        },
        parser_class=Parser,
        auto_configure_optimizers=False,
    )


def run(args: list[str]) -> None:
    """Runs a command.

    Args:
        args: The command and its arguments.
    """
    with report_user_errors():
        if args[1:] in FULL_HELP_WORDS:
            print(_help(args[0]), end="")
            return
        # The names that the next commands check are those of all commands.
        indexed = args[0] in DESCRIPTIONS and read_index() is not None
        command_line(IndexedCommandLine, args, args[0] if indexed else None)


def _help(command: str) -> str:
    """All options of a command; the text is kept for the next time."""
    text = StringIO()
    with suppress(SystemExit), redirect_stdout(text):
        command_line(IndexedCommandLine, [command, "--help"])
    keep_help(command, text.getvalue())
    return text.getvalue()


main = run  # the protocol of `mtl.__main__`
