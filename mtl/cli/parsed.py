"""Commands that are parsed but not run: their configuration, and the name of their run's folder."""

from functools import cache

from lightning.pytorch.cli import ArgsType, LightningArgumentParser

from mtl.cli.errors import report_user_errors
from mtl.cli.lightning import CommandLine, command_line


class ParsedCommandLine(CommandLine):
    """A command that is parsed and checked, but not run."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses the arguments; does not look at checkpoints and run folders."""
        assert isinstance(args, list)
        self.parse(parser, args[0], args[1:])

    def instantiate_classes(self) -> None:
        """Creates nothing."""

    def _set_seed(self) -> None:
        """Leaves the random number generators unchanged."""

    def _run_subcommand(self, subcommand: str) -> None:
        """Runs nothing."""


def parse_command(args: list[str]) -> ParsedCommandLine:
    """Parses a command; its resolved configuration is in `config`, until the next call.

    Args:
        args: The command and its arguments.
    """
    with report_user_errors():
        parsed = _parsed_command_line(args[0])
        parsed.parse_arguments(parsed.parser, args)
    return parsed


@cache
def _parsed_command_line(command: str) -> ParsedCommandLine:
    """Cached because creating the parser takes longer than parsing."""
    return command_line(ParsedCommandLine, [command, "--tasks=[]"], command)


def run_name_of(args: list[str]) -> str:
    """Returns the name of the folder that a command's run gets if `--out` is not given.

    Args:
        args: The command and its arguments.
    """
    return parse_command(args).name(args[0])
