"""The commands that Lightning runs: `mtl fit`, `validate`, `test` and `predict`."""

from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only

from mtl.cli.callbacks import SaveConfig, add_callbacks
from mtl.cli.checkpoints import configuration_options, load_weights, named_checkpoint
from mtl.cli.class_options import (
    DEFAULT_CLASSES,
    class_options,
    option_value,
    with_config_files,
)
from mtl.cli.errors import report_user_errors
from mtl.cli.parser import Parser, add_run_options
from mtl.cli.precision import FastTrainer, resolve_precision
from mtl.cli.run_naming import run_name
from mtl.data import MultiTaskDataModule
from mtl.methods import MultiTaskModule
from mtl.training.run_folder import CONFIG, check_fresh_folder, find_checkpoint, run_folder_of
from mtl.training.trainer import DEFAULTS, run_logger, with_strategy_for_devices

DESCRIPTIONS = {
    "fit": "Train a method on one or several tasks, or resume a training that was interrupted.",
    "validate": "Evaluate a checkpoint on the tasks' validation splits.",
    "test": "Evaluate a checkpoint on the tasks' test splits; write metrics and predictions.",
    "predict": "Write a checkpoint's predictions for the tasks' prediction splits.",
}


class CommandLine(LightningCLI):
    """Parses and runs `mtl fit | validate | test | predict`."""

    model: MultiTaskModule

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
        resumed = run if command == "fit" and not out else None
        self.out: Path = resumed or config.out or run or Path("runs") / self.name(command)
        if checkpoint:  # also if a configuration named after --ckpt_path has another value
            config.ckpt_path = str(checkpoint)
        elif config.ckpt_path:
            config.ckpt_path = str(find_checkpoint(config.ckpt_path, self.out, command))
        elif command == "fit" and rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            check_fresh_folder(self.out)

    def parse(self, parser: LightningArgumentParser, command: str, arguments: list[str]) -> None:
        """Parses the arguments of a command into `config`."""
        arguments = with_config_files(arguments)
        options = class_options(arguments, *DEFAULT_CLASSES)
        assert isinstance(parser, Parser)
        self.config = parser.parse_strictly([command, *options, *arguments])
        resolve_precision(self.config[command].trainer)

    def name(self, command: str) -> str:
        """The name of a folder for the parsed configuration."""
        return run_name(self._subcommand_parsers[command], self.config[command])

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
        if config.logger in (None, True):
            config.logger = run_logger(self.out)
        config.default_root_dir = config.default_root_dir or str(self.out)
        training, save_every = self.subcommand == "fit", self._get(self.config, "save_every")
        add_callbacks(config, training, self.out, save_every, self.model.balancer)
        create = partial(super().instantiate_trainer, **kwargs)
        return with_strategy_for_devices(create, config.strategy)

    def fit(self, **kwargs: Any) -> None:
        """Trains; resumes from the checkpoint if one is given, without executing pickled code."""
        self.trainer.fit(**kwargs, ckpt_path=self._get(self.config, "ckpt_path"), weights_only=True)

    def validate(self, **kwargs: Any) -> None:
        """Evaluates the validation splits.

        Not verbose: Lightning's table would repeat every score for each data loader.
        """
        load_weights(self.model, self._get(self.config, "ckpt_path"))
        self.trainer.validate(**kwargs, verbose=False)

    def test(self, **kwargs: Any) -> None:
        """Evaluates the test splits."""
        load_weights(self.model, self._get(self.config, "ckpt_path"))
        self.trainer.test(**kwargs, verbose=False)

    def predict(self, **kwargs: Any) -> None:
        """Writes predictions; they are not collected in memory as well."""
        load_weights(self.model, self._get(self.config, "ckpt_path"))
        self.trainer.predict(**kwargs, return_predictions=False)


AnyCommandLine = TypeVar("AnyCommandLine", bound=CommandLine)


def command_line(cls: type[AnyCommandLine], args: list[str]) -> AnyCommandLine:
    """Creates a command line with the project's settings; this parses and runs the command.

    Args:
        cls: The class of the command line.
        args: The command and its arguments.
    """
    return cls(
        MultiTaskModule,
        MultiTaskDataModule,
        trainer_class=FastTrainer,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveConfig,
        save_config_kwargs={"config_filename": CONFIG, "overwrite": True},
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
        args=args,
    )


def run(args: list[str]) -> None:
    """Runs a command.

    Args:
        args: The command and its arguments.
    """
    with report_user_errors():
        command_line(CommandLine, args)


main = run  # the protocol of `mtl.__main__`
