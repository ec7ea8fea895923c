"""`mtl.fit`: a training from Python, with the options and the run folder of the command."""

from collections.abc import Sequence
from pathlib import Path

from mtl.cli.lightning import CommandLine, command_line
from mtl.cli.refusals import refusal_behind
from mtl.errors import UserError
from mtl.inference.predictor import Predictor


def fit(
    tasks: Sequence[str | Path],
    configs: Sequence[str | Path] = (),
    backbone: str = "bert-base-uncased",
    out: str | Path | None = None,
    options: Sequence[str] = (),
) -> Predictor:
    """Trains a model as `mtl fit` does.

    Args:
        tasks: Task files, or names such as `tasks/sst2`; `mtl.save_task` writes one for a data
            frame.
        configs: Configurations, such as `["sampling/proportional", "methods/pals"]`. Default: an
            encoder with a head per task, in turn.
        backbone: The pretrained encoder, as for `--backbone`.
        out: The run's folder. Default: `runs/` and a name made of the configuration.
        options: Further options of `mtl fit`, such as `["--trainer.max_epochs", "5"]`.

    Returns:
        The trained model, as `mtl.load` returns it.

    Raises:
        UserError: If the data or the options cannot be used.
    """
    words = ["fit"]
    for config in configs:
        words += ["-c", str(config)]
    words += [f"--tasks+={task}" for task in tasks]
    words += ["--backbone", str(backbone), *options]
    words += [] if out is None else ["--out", str(out)]
    try:
        run = command_line(CommandLine, words, "fit").out
    except Exception as error:
        if isinstance(error, UserError) or not (message := refusal_behind(error)):
            raise
        raise UserError(message) from error
    return Predictor(run)
