"""Options of the Trainer that no run can use; checked before Lightning is imported."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from mtl.bounds import Bounds
from mtl.errors import UserError

# Numbers that Lightning refuses late or without a remedy, divides by, or misunderstands.
BOUNDS = {
    "accumulate_grad_batches": Bounds(1),
    "check_val_every_n_epoch": Bounds(1),
    "gradient_clip_val": Bounds(0),
    "limit_predict_batches": Bounds(0),
    "limit_test_batches": Bounds(0),
    "limit_train_batches": Bounds(0),
    "limit_val_batches": Bounds(0),
    "log_every_n_steps": Bounds(1),
    "max_epochs": Bounds(-1),
    "max_steps": Bounds(-1),
    "min_epochs": Bounds(0),
    "min_steps": Bounds(0),
    "num_nodes": Bounds(1),
    "num_sanity_val_steps": Bounds(-1),
    "overfit_batches": Bounds(0),
    "reload_dataloaders_every_n_epochs": Bounds(0),
    "val_check_interval": Bounds(0, low_open=True),
}
EPOCHS = 3  # if neither a number of epochs, nor of steps, nor a time is given
# With 0 of them nothing would be trained.
LENGTHS = {
    "max_epochs": "1 or more",
    "max_steps": "1 or more",
    "limit_train_batches": "a number of batches, or a share above 0",
}
# Callbacks of Lightning after which a run is not what its folder says.
UNSUITABLE = {
    "StochasticWeightAveraging": "it averages the weights after the last validation, so no score "
    "and not the best checkpoint are those of the average; give EMAWeightAveraging or "
    "WeightAveraging, which are evaluated and saved",
    "BatchSizeFinder": "it trains with another batch size than config.yaml records; try sizes "
    "with a few steps (--trainer.max_steps 5), and give one with --data.batch_size",
    "LearningRateFinder": "it trains with another learning rate than config.yaml records; compare "
    "rates on validation scores, and give one with --model.lr",
}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_TIME = re.compile(r"\s*\d+:\d\d:\d\d:\d\d\s*")


def check_trainer_options(options: Mapping[str, Any], training: bool) -> None:
    """Checks the options of the Trainer as far as their values alone decide.

    Args:
        options: Values by option, such as `max_epochs`; strings if they are not parsed yet.
        training: Whether the command trains.

    Raises:
        UserError: If Lightning cannot use a value, or nothing would be trained.
    """
    numbers = {name: _number(value) for name, value in options.items()}
    for name, bounds in BOUNDS.items():
        number = numbers.get(name)
        if number is not None and number not in bounds:
            allowed = "1 or more, or -1 for no limit" if bounds == Bounds(-1) else repr(bounds)
            raise UserError(f"--trainer.{name} {options[name]}: give {allowed}")
    time = options.get("max_time")
    given = isinstance(time, str) and time != "null" and not time.startswith("{")
    if given and not _TIME.fullmatch(str(time)):
        raise UserError(
            f"--trainer.max_time {time}: give DD:HH:MM:SS, such as 00:02:00:00 for two hours"
        )
    if training:
        _check_training(options, numbers)


def _check_training(options: Mapping[str, Any], numbers: Mapping[str, float | None]) -> None:
    _check_callbacks(options)
    _check_strategy(options.get("strategy"))
    for name, remedy in LENGTHS.items():
        if numbers.get(name) == 0:
            raise UserError(
                f"--trainer.{name} {options[name]}: nothing would be trained; give {remedy}"
            )
    for unit in ("epochs", "steps"):
        low, high = numbers.get(f"min_{unit}"), numbers.get(f"max_{unit}")
        if unit == "epochs" and "max_epochs" in options and has_default_length(options):
            high = EPOCHS
        if low is not None and high is not None and -1 != high < low:
            raise UserError(
                f"--trainer.min_{unit} {low:g} is more than --trainer.max_{unit} {high:g}; "
                "lower it, or omit one of them"
            )
    if _is(options.get("barebones"), True):
        raise UserError(
            "--trainer.barebones true: a run writes checkpoints and results, which this option "
            "switches off; omit it"
        )
    if _is(options.get("enable_checkpointing"), False) and not _dry(options):
        raise UserError(
            "--trainer.enable_checkpointing false: a run is its checkpoints; omit this option, or "
            "try a few batches with --trainer.fast_dev_run true"
        )


def _check_strategy(strategy: Any) -> None:
    """Refuses strategies that divide the weights among the processes.

    Weight decay, gradient surgery and the digest of frozen weights need complete matrices, which
    FSDP replaces by shards; FSDP2 needs a method that shards itself; DeepSpeed computes the
    backward pass without the balancer.
    """
    name = _class_name(strategy).lower().replace("_", "")
    if any(word in name for word in ("fsdp", "deepspeed", "modelparallel")):
        raise UserError(
            f"--trainer.strategy {_class_name(strategy)}: unsupported: it divides the weights "
            "among the processes, but weight decay and balancers need complete ones; choose ddp. "
            "For large models: LoRA, --model.gradient_checkpointing true, --trainer.precision "
            "bf16-mixed"
        )


def _class_name(value: Any) -> str:
    """The name of a class that is given by its name, its path, a mapping or an object."""
    path = value.get("class_path") if isinstance(value, Mapping) else None
    path = path or getattr(value, "class_path", value)
    return str(path).rpartition(".")[2] if isinstance(path, str) else type(value).__name__


def _callback_names(options: Mapping[str, Any]) -> Iterator[str]:
    """The class names of the callbacks, in whichever way they are given."""
    for key in ("callbacks", "callbacks+"):
        value = options.get(key)
        for item in value if isinstance(value, list) else [value]:
            yield _class_name(item)


def has_default_length(options: Mapping[str, Any]) -> bool:
    """Whether a run trains for the default number of epochs: no end is given.

    Args:
        options: The options of the Trainer; those that are not given may be missing.
    """
    steps = options.get("max_steps", -1)
    return options.get("max_epochs") is None and steps == -1 and options.get("max_time") is None


def _check_callbacks(options: Mapping[str, Any]) -> None:
    for name in _callback_names(options):
        if name in UNSUITABLE:
            raise UserError(f"--trainer.callbacks {name}: {UNSUITABLE[name]}")


def check_devices(devices: Any) -> None:
    """Checks the number of processes of a run on the processor.

    Args:
        devices: The Trainer's option.

    Raises:
        UserError: If it is not a number of processes, or the machine has fewer cores.
    """
    number, cores = _number(devices), os.cpu_count() or 1
    if number is not None and not 1 <= number <= cores:
        raise UserError(
            f"--trainer.devices {devices}: on the processor this is the number of processes, and "
            f"this machine has {cores} cores; give 1 to {cores}"
        )


def _number(value: Any) -> float | None:
    """The number that a value is, or will be after parsing; None for any other value."""
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else None
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is(value: Any, flag: bool) -> bool:
    return value is flag or str(value).lower() == str(flag).lower()


def _dry(options: Mapping[str, Any]) -> bool:
    value = options.get("fast_dev_run")
    return _is(value, True) or bool(_number(value))
