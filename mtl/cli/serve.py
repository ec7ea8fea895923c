"""`mtl serve`: answer requests for predictions over HTTP."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from mtl._version import DISTRIBUTION
from mtl.cli.command import add_model_option, import_model_classes, run_command
from mtl.cli.early import check_run
from mtl.cli.predict import count
from mtl.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the options of the command."""
    parser.description = (
        "Answer requests for predictions over HTTP: POST /predict with JSON such as "
        '{"texts": ["a text"]}. All tasks of a text are predicted in one pass through the '
        "encoder, and requests that arrive at the same time are predicted together. /docs "
        "describes the requests, /info the model; /health is 200 when the model is loaded. On "
        "SIGTERM or Ctrl-C, requests that were received are answered before the command ends."
    )
    parser.add_argument(
        "run",
        metavar="RUN",
        help="a run's folder (its best checkpoint), a checkpoint, or a folder that "
        "`mtl export --format mtl` wrote",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on (default: 127.0.0.1, this machine only; 0.0.0.0: all networks)",
    )
    parser.add_argument(
        "--port", type=_port, default=8000, help="port to listen on (default: 8000; 0: a free one)"
    )
    parser.add_argument(
        "--runtime",
        choices=["torch", "onnx", "int8"],
        default="torch",
        help="what computes: torch (default), or on the CPU a graph that `mtl export --format mtl` "
        "wrote with --onnx (fp32) or --int8 (weights as 8-bit integers)",
    )
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: a GPU if there is one)")
    parser.add_argument(
        "--precision",
        choices=["32", "bf16"],
        default="32",
        help="precision of matrix products (default: 32)",
    )
    parser.add_argument(
        "--batch_size",
        type=count,
        default=64,
        metavar="N",
        help="texts per forward pass (default: 64)",
    )
    parser.add_argument(
        "--max_texts",
        type=count,
        default=256,
        metavar="N",
        help="most texts in a request (default: 256)",
    )
    parser.add_argument(
        "--max_body",
        type=count,
        default=1_000_000,
        metavar="BYTES",
        help="largest body of a request (default: 1000000)",
    )
    add_model_option(parser)


def _port(value: str) -> int:
    if not value.isdecimal() or int(value) > 65535:
        raise argparse.ArgumentTypeError(f"{value!r} is not a port; give 0 to 65535")
    return int(value)


def run(args: argparse.Namespace) -> None:
    """Serves the model.

    Raises:
        UserError: If LitServe is not installed, or the run or the address cannot be used.
    """
    check_run("serve", args.run)
    if not find_spec("litserve"):
        raise UserError(f"`mtl serve` needs litserve: pip install '{DISTRIBUTION}[serve]'")
    # Here, because they import the libraries.
    from mtl.inference.graph import check_runtime, read_int8_scores
    from mtl.inference.predictor import Predictor, find_device
    from mtl.serving.api import ModelOptions
    from mtl.serving.requests import Limits
    from mtl.serving.server import open_socket, serve

    check_runtime(args.run, args.runtime, args.device)
    if args.runtime != "torch" and args.precision == "bf16":
        raise UserError(f"--precision bf16 is for --runtime torch, not {args.runtime}; omit it")
    if args.runtime == "int8":
        scores = read_int8_scores(Path(args.run))
        sys.stderr.write(f"int8 weights, {scores.split} data: {'; '.join(scores.lines())}\n")
    with open_socket(args.host, args.port) as address:
        options = ModelOptions(
            args.run,
            "cpu" if args.runtime != "torch" else str(find_device(args.device)),
            args.batch_size,
            args.precision == "bf16",
            tuple(name.rpartition(".")[0] for name in args.model or ()),
            args.runtime,
        )
        import_model_classes(args.model)
        # Only its tasks are needed here: the process of the model loads it again.
        tasks = list(Predictor(args.run, "cpu").tasks.values())
        serve(tasks, options, Limits(args.max_texts, args.max_body), address)


def main(arguments: list[str]) -> None:
    """Runs `mtl serve`."""
    run_command("serve", arguments, add_arguments, run)
