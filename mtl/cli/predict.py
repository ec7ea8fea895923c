"""`mtl predict`: predictions for the tasks' own splits, or with `--input` for your own texts."""

import argparse
from pathlib import Path

from mtl.cli.command import add_model_option, import_model_classes, run_command
from mtl.cli.early import check_early, check_files, check_named
from mtl.cli.suggestions import suggest_options
from mtl.errors import UserError
from mtl.inference.options import ENDINGS, FORMATS, MANIFEST, WINDOW

# Options that need --input. Their default is None, so that it is known which ones are given.
TEXT_OPTIONS = (
    "format",
    "task",
    "columns",
    "keep",
    "threshold",
    "output",
    "overwrite",
    "batch_size",
    "device",
    "precision",
    "on_error",
    "window",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the options of the command."""
    parser.usage = "mtl predict --ckpt_path RUN [--input FILE] [options]"
    parser.description = (
        "Without --input, write predictions for the tasks' own splits, one file for each task. "
        "Further options are then those of `mtl test`; `mtl test --help all` lists them. "
        "With --input, predict your own texts with the options below."
    )
    parser.epilog = (
        "The ending of the input gives its format: .csv, .tsv (without quoting), .jsonl or "
        ".txt (one text per line), also compressed (.gz), or .parquet. Standard input is "
        "jsonl if its first line begins with a brace, else text. Rows are counted from 0, and "
        "the output keeps their order. Messages go to standard error. Exit status: 0; 1 if "
        "rows were skipped; 2 if the command failed."
    )
    parser.add_argument(
        "--ckpt_path", metavar="RUN", help="a run's folder (its best checkpoint), or a checkpoint"
    )
    parser.add_argument("--input", metavar="FILE", help="your own texts; - for standard input")
    add_model_option(parser)
    _add_text_options(parser.add_argument_group("options with --input"))


def _add_text_options(texts: argparse._ArgumentGroup) -> None:
    texts.add_argument(
        "--format", choices=FORMATS, help="format of the input (default: from its ending)"
    )
    texts.add_argument(
        "--task",
        action="append",
        metavar="NAME",
        help="task to predict, repeatable (default: all that the columns allow)",
    )
    texts.add_argument(
        "--columns",
        action="append",
        nargs="+",
        metavar="TEXT=COLUMN",
        help="column for a text of the tasks, such as sentence=review, or of one task: "
        "cola.sentence=review",
    )
    texts.add_argument(
        "--keep",
        action="append",
        nargs="+",
        metavar="COLUMN",
        help="columns of the input to write next to the predictions, or all",
    )
    texts.add_argument(
        "--threshold",
        type=_probability,
        metavar="P",
        help="leave a class that is less probable than P empty",
    )
    texts.add_argument(
        "--output", metavar="FILE", help=".jsonl, .csv or .parquet file (default: print JSON lines)"
    )
    texts.add_argument(
        "--overwrite",
        action="store_true",
        default=None,
        help="replace the file of --output if it exists",
    )
    texts.add_argument(
        "--batch_size", type=count, metavar="N", help="rows per forward pass (default: 64)"
    )
    texts.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    texts.add_argument(
        "--precision", choices=["32", "bf16"], help="precision of matrix products (default: 32)"
    )
    texts.add_argument(
        "--on_error", choices=["stop", "skip"], help="what to do with unusable rows (default: stop)"
    )
    texts.add_argument(
        "--window",
        type=count,
        metavar="N",
        help=f"rows read and sorted by length at a time (default: {WINDOW})",
    )


def count(value: str) -> int:
    """Parses a number of at least 1."""
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of at least 1")
    return int(value)


def _probability(value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a probability; give 0 to 1")
    return number


def run(args: argparse.Namespace) -> int:
    """Predicts.

    Returns:
        The exit status: 1 if rows were skipped, else 0.

    Raises:
        UserError: If the options do not go together, or the model, the input or the output cannot
            be used.
    """
    if args.input is None:
        _predict_splits(args)
        return 0
    if args.unknown:
        name = args.unknown[0].partition("=")[0]
        options = [f"--{option}" for option in (*TEXT_OPTIONS, "ckpt_path", "input")]
        raise UserError(
            f"unknown option {name}.{suggest_options(name, options)} `mtl predict --help` lists "
            "the options for --input."
        )
    if args.ckpt_path is None:
        raise UserError("--input needs a trained model: give --ckpt_path RUN")
    _check_files(args)
    from mtl.cli.predict_texts import predict_texts  # here, because it imports the libraries

    import_model_classes(args.model)
    return predict_texts(args)


def _check_files(args: argparse.Namespace) -> None:
    """Rejects what cannot succeed before the model is loaded."""
    if not Path(args.ckpt_path, MANIFEST).exists():
        check_files("predict", ["--ckpt_path", args.ckpt_path])
    if args.input != "-" and not Path(args.input).exists():
        raise UserError(f"--input {args.input}: there is no such file")
    if args.output:
        _check_output(Path(args.output), Path(args.input), bool(args.overwrite))


def _predict_splits(args: argparse.Namespace) -> None:
    """Passes all other options on to Lightning's command."""
    options = [option for option in TEXT_OPTIONS if vars(args)[option] is not None]
    if options:
        raise UserError(
            f"--{options[0]} is for your own texts: give --input FILE as well, or omit "
            f"--{options[0]}"
        )
    checkpoint = [] if args.ckpt_path is None else ["--ckpt_path", args.ckpt_path]
    classes = [option for name in args.model or () for option in ("--model", name)]
    check_named("predict", [*checkpoint, *args.unknown])
    check_early("predict", [*checkpoint, *classes, *args.unknown], args.options)
    from mtl.cli import lightning  # here, because it imports the libraries

    lightning.run(["predict", *checkpoint, *classes, *args.unknown])


def _check_output(output: Path, source: Path, overwrite: bool) -> None:
    if output.suffix not in ENDINGS:
        raise UserError(
            f"--output {output}: unsupported ending {output.suffix!r}. Supported: "
            f"{', '.join(ENDINGS)}"
        )
    if output.is_dir():
        raise UserError(f"--output {output}: that is a folder; give a file")
    if output.resolve() == source.resolve():
        raise UserError(f"--output {output}: that is the input; give another file")
    if output.exists() and not overwrite:
        raise UserError(
            f"--output {output}: the file exists; give another file, or --overwrite to replace it"
        )


def main(arguments: list[str]) -> None:
    """Runs `mtl predict`."""
    run_command("predict", arguments, add_arguments, run, accept_unknown=True)
