"""The command `mtl`: a table of commands, whose modules are imported only when they run."""

import sys

# `python -m mtl` puts the working directory first on the path, where files such as `yaml.py` would
# replace modules. It is searched last.
if __name__ == "__main__" and not sys.flags.safe_path:
    sys.path.append(sys.path.pop(0))

from importlib import import_module
from typing import NamedTuple

from mtl._version import __version__
from mtl.cli.early import check_early, check_named
from mtl.cli.errors import exit_with_error, refusals
from mtl.cli.option_index import FULL_HELP_WORDS, HELP_WORDS, kept_help
from mtl.cli.paths import expand_paths, reject_empty_values
from mtl.cli.short_help import short_help
from mtl.errors import did_you_mean, unknown_name

LIGHTNING = "mtl.cli.lightning"


class Command(NamedTuple):
    """A command of `mtl`.

    Attributes:
        module: The module whose `main(arguments)` runs it.
        help: What it does, in one line.
    """

    module: str
    help: str


COMMANDS = {
    "fit": Command(LIGHTNING, "train a model; save its best and its last checkpoint"),
    "validate": Command(LIGHTNING, "evaluate a checkpoint on the validation splits"),
    "test": Command(LIGHTNING, "evaluate a checkpoint on the test splits"),
    "predict": Command(
        "mtl.cli.predict",
        "write predictions for the tasks' splits, or with --input for your own texts",
    ),
    "compare": Command(
        "mtl.cli.compare", "train several methods on the same tasks, and say which one to use"
    ),
    "calibrate": Command(
        "mtl.cli.calibrate", "make class probabilities match their accuracy on validation examples"
    ),
    "ensemble": Command(
        "mtl.cli.ensemble", "combine the predictions of several runs, or average their weights"
    ),
    "merge": Command(
        "mtl.cli.merge", "merge the encoders of single-task runs into one, without training"
    ),
    "group": Command(
        "mtl.cli.group", "propose groups of tasks to train together, from one run's gradients"
    ),
    "export": Command("mtl.cli.export", "write a run's model in transformers' format, or as ONNX"),
    "serve": Command("mtl.cli.serve", "answer requests for predictions over HTTP"),
    "score-prototypes": Command(
        "mtl.cli.score_prototypes", "score training examples for meta fine-tuning"
    ),
    "doctor": Command("mtl.cli.doctor", "check this machine, and whether a training can run on it"),
}

HELP = """\
usage: mtl COMMAND [options]

Train, evaluate and compare multi-task fine-tuning methods for pretrained text encoders.

commands:
{commands}

options:
  -h, --help                      print this help; `mtl COMMAND --help` lists a command's options
  --version                       print the version
  --print_completion=shtab-bash   print a script for tab completion of commands and options

examples:
  mtl fit --tasks+=tasks/sst2 --backbone bert-base-uncased
  mtl fit -c suites/glue -c methods/multi_head
  mtl fit -c my.yaml --out runs/mine --ckpt_path last        resume an interrupted run
  mtl test --ckpt_path runs/mine                             evaluate its best checkpoint
  mtl predict --ckpt_path runs/mine --input reviews.csv --output predictions.csv
  mtl compare --tasks+=tickets.yaml --tasks+=urgency.yaml    which method is better?
  mtl ensemble runs/one runs/two --vote soft --out runs/both
  mtl merge runs/one_task runs/another --method ties --out runs/merged
  mtl group runs/all_tasks --encoders 2 --out runs/groups    which tasks to train together?
"""


def main(args: list[str] | None = None) -> None:
    """Runs a command.

    Args:
        args: The arguments after `mtl`. Default: those of the process.
    """
    with refusals():
        given = sys.argv[1:] if args is None else args
        reject_empty_values(given)
        arguments = expand_paths(given)
    if arguments == ["--version"]:
        print(f"mtl {__version__}")
    elif not arguments or arguments in (["-h"], ["--help"]):
        commands = (f"  {name:<18}{command.help}" for name, command in COMMANDS.items())
        print(HELP.format(commands="\n".join(commands)), end="")
    elif arguments[0].startswith("--print_completion"):  # an option of Lightning's parser
        import_module(LIGHTNING).main(arguments)
    elif arguments[0].startswith("-"):
        hint = did_you_mean(arguments[0], ["--version", "--help"])
        exit_with_error(
            f"{arguments[0]}: a command comes first, such as `mtl fit`; `mtl --help` lists the "
            f"commands.{hint}"
        )
    else:
        _run(arguments)


def _run(arguments: list[str]) -> None:
    name, words = arguments[0], arguments[1:]
    if name not in COMMANDS:
        exit_with_error(unknown_name("command", name, COMMANDS))
    module = COMMANDS[name].module
    if module != LIGHTNING:
        import_module(module).main(words)
    elif words in HELP_WORDS:
        print(short_help(name), end="")
    elif words in FULL_HELP_WORDS and (text := kept_help(name)):
        print(text, end="")
    else:
        with refusals():
            check_named(name, words)
            check_early(name, words)
        import_module(LIGHTNING).main(arguments)


if __name__ == "__main__":
    main()
