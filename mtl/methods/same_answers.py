"""Whether a model has the answers of a trained model: everything but weights that decides them."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtl.errors import UserError, shorten
from mtl.modules.loss_options import LossOptions
from mtl.tasks import Task

# Arguments of methods that change no answer of a trained model.
IN_TRAINING = frozenset(
    {"dropout", "lora_dropout", "gradient_checkpointing", "freeze", "_class_path", "_instantiator"}
)
# Fields of a task that decide its answers.
TASK_FIELDS = (
    *("texts", "classes", "range", "prompt", "thresholds", "max_length", "truncation"),
    *("choices", "tokens", "tags", "window_overlap"),
)
# Arguments of a data module that do.
DATA_OPTIONS = ("max_length", "encoding")


class AnswerOptions(NamedTuple):
    """The options of a model that decide its answers.

    Attributes:
        tasks: The tasks.
        model: Arguments of the method, as plain values.
        data: Arguments of the data module, as plain values.
        common: Names of the arguments that every method has.
    """

    tasks: Sequence[Task]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    common: Collection[str]

    def check(self, checkpoint: Mapping[str, Any], source: Path, added: Sequence[str]) -> None:
        """Checks that the tasks of a trained model keep their answers.

        Args:
            checkpoint: The content of its checkpoint.
            source: The checkpoint or the run's folder, for messages.
            added: Names of tasks that may be new, or differ.

        Raises:
            UserError: If a task, an option or the method differs.
        """
        trained = [Task.read(task) for task in checkpoint["hyper_parameters"].get("tasks", [])]
        names = [task.name for task in self.tasks]
        if lost := [task.name for task in trained if task.name not in names]:
            raise UserError(
                f"--model.train_only {' '.join(added)}: the model in {source} has the tasks "
                f"{', '.join(lost)} as well, which the new checkpoint would not contain; "
                f"{remedy(source)}"
            )
        for name, old, new in self._differences(checkpoint, trained, added):
            raise UserError(
                f"--model.train_only {' '.join(added)}: the other tasks keep their answers only "
                f"with the same options, but {name} differs: {shorten(old)} in {source}, "
                f"{shorten(new)} here; {remedy(source)}"
            )

    def _differences(
        self, checkpoint: Mapping[str, Any], trained: Sequence[Task], added: Sequence[str]
    ) -> Iterator[tuple[str, Any, Any]]:
        """Yields what differs: its name, its value in the checkpoint, its value here."""
        model, data = checkpoint["hyper_parameters"], checkpoint["datamodule_hyper_parameters"]
        method = [{"class": each["_class_path"].rpartition(".")[2]} for each in (model, self.model)]
        yield from _unequal("--model ", method[0], method[1], ["class"])
        own = [name for name in model if name not in IN_TRAINING and name not in self.common]
        yield from _unequal("--model.", model, self.model, own)
        yield from _unequal("--", model, self.model, ["backbone"])
        yield from _unequal("--data.", data, self.data, DATA_OPTIONS)
        losses = [_losses(options) for options in (model, self.model)]
        ours = {task.name: task for task in self.tasks}
        for task in trained:
            if task.name not in added:
                old, new = vars(task), vars(ours[task.name])
                yield from _unequal(f"tasks.{task.name}.", old, new, TASK_FIELDS)
                old, new = ({task.name: each.get(task.name)} for each in losses)
                yield from _unequal("--model.losses.", old, new, [task.name])


def remedy(source: Path) -> str:
    """What to do if something differs."""
    return f"start from the options of the run, its config.yaml: -c {source}/config.yaml"


def _losses(options: Mapping[str, Any]) -> dict[str, str | None]:
    losses = options.get("losses") or {}
    return {task: LossOptions.of(loss).name for task, loss in losses.items()}


def _unequal(
    prefix: str, old: Mapping[str, Any], new: Mapping[str, Any], names: Collection[str]
) -> Iterator[tuple[str, Any, Any]]:
    for name in names:
        if name in old and name in new and _plain(old[name]) != _plain(new[name]):
            yield f"{prefix}{name}".removesuffix(" class"), old[name], new[name]


def _plain(value: Any) -> Any:
    """A value without the module of a class, which has several names."""
    if isinstance(value, Mapping):
        return {
            name: str(each).rpartition(".")[2] if name == "class_path" else _plain(each)
            for name, each in value.items()
        }
    return value
