"""TEMP."""

import argparse
from collections.abc import Callable

from mtl.cli.lightning import report_user_errors


def parse_arguments(
    name: str, arguments: list[str], add_arguments: Callable[[argparse.ArgumentParser], None]
) -> argparse.Namespace:
    """TEMP."""
    parser = argparse.ArgumentParser(f"mtl {name}", allow_abbrev=False)
    add_arguments(parser)
    return parser.parse_args(arguments)


def run_command(
    name: str,
    arguments: list[str],
    add_arguments: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], int | None],
) -> None:
    """TEMP."""
    with report_user_errors():
        status = run(parse_arguments(name, arguments, add_arguments))
    if status:
        raise SystemExit(status)
