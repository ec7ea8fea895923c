"""The short help of `mtl fit`, `validate` and `test`: the options that most users need."""

from typing import NamedTuple


class Option(NamedTuple):
    """A line of the help.

    Attributes:
        name: The option, such as `--out`.
        value: What follows it.
        help: What it does, in a phrase.
    """

    name: str
    value: str
    help: str


FIT = (
    Option("--tasks+", "=FILE", "a task, repeatable: a file, or one that ships: tasks/sst2"),
    Option("--backbone", " NAME", "pretrained encoder: hub name, folder, or bundled"),
    Option("--config", " FILE", "configuration, repeatable; -c methods/pals names one that ships"),
    Option("--model", " METHOD", "MultiHead (default), Joint, Separate, LoRA, Adapters, PALs, ..."),
    Option("--data", " SCHEME", "RoundRobinDataModule (default), ProportionalDataModule, ..."),
    Option("--out", " RUN", "folder of the run: configuration, checkpoints, metrics, logs"),
    Option("--model.lr", " RATE", "learning rate"),
    Option("--trainer.max_epochs", " N", "number of epochs"),
    Option("--data.batch_size", " N", "number of examples per batch"),
    Option("--data.max_length", " N", "number of tokens after which texts are truncated"),
    Option("--trainer.precision", " P", "32-true, bf16-mixed, or fast: what the hardware can do"),
    Option("--seed_everything", " N", "random seed (default: 42)"),
    Option("--ckpt_path", " last", "resume the interrupted run in --out"),
)
EVALUATION = (
    Option("--ckpt_path", " RUN", "a run's folder (its best checkpoint), or a checkpoint"),
    Option("--out", " FOLDER", "where the scores are written (default: the run's folder)"),
    Option("--data.batch_size", " N", "number of examples per batch"),
    Option("--trainer.precision", " P", "32-true, bf16-mixed, or fast: what the hardware can do"),
)
DESCRIPTIONS = {
    "fit": "Train a method on one or several tasks, or resume a training that was interrupted.",
    "validate": "Evaluate a checkpoint on the tasks' validation splits.",
    "test": "Evaluate a checkpoint on the tasks' test splits; write metrics and predictions.",
    "predict": "Write a checkpoint's predictions for the tasks' prediction splits.",
}
MORE = {
    "fit": (
        "  mtl fit --help all               all options\n"
        "  mtl fit --model.help LoRA        the options of a method\n"
        "  mtl fit --data.help RoundRobinDataModule\n"
        "                                   the options of a sampling scheme\n"
        "  mtl fit ... --print_config       the resolved configuration\n"
        "  mtl doctor --tasks+=FILE         check the data before training\n"
    ),
    "validate": "  mtl validate --help all          all options\n",
    "test": "  mtl test --help all              all options\n",
}


def short_help(command: str) -> str:
    """Returns the short help.

    Args:
        command: `fit`, `validate` or `test`.
    """
    options = FIT if command == "fit" else EVALUATION
    lines = [f"  {option.name + option.value:<32} {option.help}\n" for option in options]
    return (
        f"usage: mtl {command} [-c FILE] [options]\n\n{DESCRIPTIONS[command]}\n\n"
        f"options that most users need:\n{''.join(lines)}\nmore:\n{MORE[command]}"
    )
