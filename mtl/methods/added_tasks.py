"""Adding tasks to a trained model (`--model.train_only`), whose tasks keep their answers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from mtl.errors import UserError, reject_unknown
from mtl.methods.frozen import FrozenWeights
from mtl.methods.same_answers import AnswerOptions, remedy
from mtl.modules.per_task import PerTask
from mtl.tasks import Task
from mtl.training.calibration_file import read_temperatures
from mtl.training.checkpoints import read_checkpoint
from mtl.training.run_folder import find_checkpoint

# Submodules of a method that matter in training only.
IN_TRAINING = ("balancer", "regularizer")


def check_train_only(
    chosen: str | Sequence[str] | None, tasks: Sequence[Task], init_from: object
) -> list[str]:
    """The names of the tasks whose modules alone are trained; an empty list for all modules.

    Args:
        chosen: The value of `train_only`.
        tasks: All tasks.
        init_from: The value of `init_from`.

    Raises:
        UserError: If there is no such task, or no run to add it to.
    """
    names = [chosen] if isinstance(chosen, str) else list(chosen or ())
    reject_unknown("--model.train_only", "task", names, [task.name for task in tasks])
    if names and not init_from:
        raise UserError(
            f"--model.train_only {' '.join(names)}: add the task to a trained model: give its "
            "folder with --model.init_from RUN, and its options with -c RUN/config.yaml"
        )
    return names


def freeze_other_modules(module: nn.Module, tasks: Sequence[str]) -> set[str]:
    """Freezes all weights but those of some tasks' own modules, the balancer and the regularizer.

    Args:
        module: The method.
        tasks: Names of the tasks.

    Returns:
        Names of the weights that were trained before.

    Raises:
        UserError: If the method has no modules of their own for the tasks.
    """
    name = type(module).__name__
    if any(
        getattr(each, "task_specific", False) and not isinstance(each, PerTask)
        for each in module.modules()
    ):
        raise UserError(
            f"--model.train_only: {name} has one embedding for all tasks, whose size is their "
            "number, so that a task cannot be added; train all tasks again, or choose MultiHead, "
            "LoRA, Adapters or PALs"
        )
    own = set(own_weights(module, tasks))
    if not any(weight in own for weight, _ in module.named_parameters()):
        raise UserError(
            f"--model.train_only: {name} has no modules that belong to one task, so that a task "
            "cannot be added without changing the others; choose MultiHead, LoRA, Adapters or PALs"
        )
    frozen = set()
    for weight, parameter in module.named_parameters():
        if weight not in own and weight.partition(".")[0] not in IN_TRAINING:
            if parameter.requires_grad:
                frozen.add(weight)
            parameter.requires_grad_(False)
    return frozen


def own_weights(module: nn.Module, tasks: Iterable[str]) -> Iterator[str]:
    """Names of the weights and buffers in the modules that belong to some tasks."""
    prefixes = tuple(
        f"{name}.{task}."
        for name, each in module.named_modules()
        if isinstance(each, PerTask)
        for task in tasks
    )
    thresholds = {f"thresholds.log_odds/{task}" for task in tasks}
    for name in module.state_dict():
        if name.startswith(prefixes) or name in thresholds:
            yield name


def load_for_added_tasks(
    module: nn.Module,
    train_only: Sequence[str],
    source: Path,
    options: AnswerOptions,
    frozen: FrozenWeights,
) -> list[str]:
    """Loads all weights of a trained model, so that its tasks have the same answers.

    Args:
        module: The method.
        train_only: Names of the tasks that are trained.
        source: A checkpoint of the trained model, or the folder of its run.
        options: What decides the answers, apart from the weights.
        frozen: The weights that the backbone restores.

    Returns:
        Names of the loaded weights.

    Raises:
        UserError: If the trained model has another method, other options, tasks or weights.
    """
    path = find_checkpoint(str(source), None, "test")
    checkpoint = read_checkpoint(path)
    options.check(checkpoint, source, train_only)
    ours, theirs = module.state_dict(), checkpoint["state_dict"]
    loaded = [name for name in ours if name in theirs and theirs[name].shape == ours[name].shape]
    known = {*loaded, *own_weights(module, train_only)}
    restored = frozen.names(module)
    if not known.issuperset(restored):
        if checkpoint.get("frozen") != frozen.digest:
            raise UserError(
                f"--model.init_from {source}: the backbone's weights are not those that the run "
                "was trained with, and its checkpoint does not contain them; give the same "
                "directory, or NAME@REVISION"
            )
        known.update(restored)
    _check_complete(ours, known, source, train_only)
    module.load_state_dict({name: theirs[name] for name in loaded}, strict=False)
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    rank_zero_info(
        f"loaded {len(loaded)} tensors of {path}; trained: {trained:,} parameters of "
        f"{', '.join(train_only)}; all others are frozen"
    )
    if read_temperatures(path):
        rank_zero_info(
            f"{source} is calibrated, and its new run will not be; `mtl calibrate` gives the other "
            "tasks the same temperatures again"
        )
    return loaded


def _check_complete(
    weights: Mapping[str, Tensor], known: set[str], source: Path, train_only: Sequence[str]
) -> None:
    """Checks that all weights but those of the trained tasks are known.

    Raises:
        UserError: If one is not.
    """
    missing = [
        name for name in weights if name not in known and name.partition(".")[0] not in IN_TRAINING
    ]
    if missing:
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise UserError(
            f"--model.init_from {source}: the run has no weights of this shape for {missing[0]}"
            f"{others}, which other tasks than {', '.join(train_only)} use; {remedy(source)}"
        )
