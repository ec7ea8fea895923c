"""The runs that are merged: reading them, and checking that their encoders can be merged."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mtl.cli.checkpoints import checkpoint_configuration
from mtl.cli.class_options import DEFAULT_CLASSES
from mtl.cli.ensemble_members import Member, read_member
from mtl.errors import UserError
from mtl.merging.weights import Weights
from mtl.methods import MultiHead, Separate
from mtl.methods.multi_head import DEFAULT_DROPOUT
from mtl.modules.backbone import load_config
from mtl.modules.backbone_checks import choose_pooling
from mtl.training.checkpoints import read_checkpoint

# The methods that train a plain encoder for each task, by the spellings of their class paths.
METHODS = {
    f"{package}{cls.__name__}": cls
    for cls in (MultiHead, Separate)
    for package in ("", "mtl.methods.", f"{cls.__module__}.")
}
# Data options that must be equal, because they decide what is evaluated and how texts are read.
EQUAL_DATA = ("max_length", "encoding", "root", "holdout", "label_groups")
# Other data options of an evaluation; those of the first run are used.
FIRST_DATA = ("eval_batch_size", "num_workers", "cache")


class Expert(NamedTuple):
    """The fine-tuned model of one task.

    Attributes:
        run: The folder of its run.
        task: The task's name.
        score: Its validation score.
        config: The configuration of its run, as in a checkpoint.
        encoder: The weights of its encoder.
        rest: Its head and its thresholds, by their names in `MultiHead`.
    """

    run: Path
    task: str
    score: float
    config: dict[str, Any]
    encoder: Weights
    rest: Weights

    def argument(self, name: str) -> Any:
        """An argument of the run's method; None if it is not given."""
        return self.config["model"]["init_args"].get(name)

    def data(self, name: str) -> Any:
        """An argument of the run's data module; None if it is not given."""
        return self.config["data"]["init_args"].get(name)


def read_experts(runs: Sequence[str]) -> list[Expert]:
    """Reads the models of the tasks, in the order of the runs.

    Raises:
        UserError: If a run is not finished or has no encoder of its own for each task, or the runs
            do not fit together.
    """
    experts = [expert for run in runs for expert in _experts(Path(run))]
    by_task: dict[str, Expert] = {}
    for expert in experts:
        if other := by_task.get(expert.task):
            raise UserError(
                f"{other.run} and {expert.run} have the same task {expert.task!r}; merge runs of "
                "different tasks. `mtl ensemble` combines runs of the same tasks"
            )
        by_task[expert.task] = expert
    if len(experts) < 2:
        raise UserError(
            f"{experts[0].run}: merging needs two tasks or more, but got only {experts[0].task!r}; "
            "name more runs"
        )
    for other in experts[1:]:
        _check_alike(experts[0], other)
    return experts


def _experts(folder: Path) -> list[Expert]:
    """The models in one run."""
    member = read_member(folder)
    content = read_checkpoint(member.checkpoint)
    config = checkpoint_configuration(content, member.checkpoint, "validate")
    _check_method(member, content["hyper_parameters"])
    weights, shared = content["state_dict"], METHODS[config["model"]["class_path"]] is MultiHead
    return [
        Expert(
            run=folder,
            task=task,
            score=member.validation_score(task),
            config=config,
            encoder=_below("encoder." if shared else f"encoders.{task}.", weights),
            rest={
                name: value
                for name, value in weights.items()
                if name.startswith(f"heads.{task}.") or name == f"thresholds.log_odds/{task}"
            },
        )
        for task in member.tasks
    ]


def _check_method(member: Member, arguments: dict[str, Any]) -> None:
    """Checks that a run has one plain encoder for each task, trained from the backbone."""
    path = str(arguments["_class_path"])
    if path not in METHODS:
        raise UserError(
            f"{member.folder}: the method {path.rpartition('.')[2]} does not train a plain encoder "
            "for each task; merge runs of MultiHead with one task each, or a run of Separate"
        )
    if METHODS[path] is MultiHead and len(member.tasks) > 1:
        raise UserError(
            f"{member.folder}: one encoder for {len(member.tasks)} tasks, "
            f"{', '.join(member.tasks)}; merge runs of MultiHead with one task each, or a run of "
            "Separate"
        )
    if arguments.get("init_from"):
        raise UserError(
            f"{member.folder}: started from {arguments['init_from']} (--model.init_from), but task "
            "vectors are differences from the backbone's own weights; merge runs that started from "
            "the backbone"
        )


def _check_alike(first: Expert, other: Expert) -> None:
    """Checks that two models have the same backbone, read texts alike, and have heads of a kind."""
    backbones = [expert.config["backbone"] for expert in (first, other)]
    _check_equal(first, other, "backbone", backbones)
    config = load_config(backbones[0])
    pooling = [
        choose_pooling(backbones[0], each.argument("pooling"), config) for each in (first, other)
    ]
    _check_equal(first, other, "model.pooling", pooling)
    for name in ("head", "pair_head"):
        values = [first.argument(name), other.argument(name)]
        _check_equal(first, other, f"model.{name}", values)
    names = [*EQUAL_DATA, "subset_seed"] if first.data("holdout") else EQUAL_DATA
    for name in names:
        _check_equal(first, other, f"data.{name}", [first.data(name), other.data(name)])


def _check_equal(first: Expert, other: Expert, option: str, values: Sequence[Any]) -> None:
    if values[0] != values[1]:
        raise UserError(
            f"{first.run} and {other.run} differ in --{option}: {values[0]} and {values[1]}; merge "
            "runs that have it in common"
        )


def merged_configuration(experts: Sequence[Expert]) -> dict[str, Any]:
    """The configuration of the merged run, which reads and evaluates all tasks as their runs did.

    Args:
        experts: The models of the tasks.
    """
    first = experts[0]
    tasks = {task["name"]: task for expert in experts for task in expert.config["tasks"]}
    losses = {
        name: loss for each in experts for name, loss in (each.argument("losses") or {}).items()
    }
    dropout = {expert.task: _dropout(expert) for expert in experts}
    model = {name: first.argument(name) for name in ("pooling", "head", "pair_head")}
    data = {name: first.data(name) for name in (*EQUAL_DATA, *FIRST_DATA, "subset_seed")}
    return {
        "tasks": [tasks[expert.task] for expert in experts],
        "backbone": first.config["backbone"],
        "seed_everything": first.config["seed_everything"],
        "model": {
            "class_path": f"mtl.methods.{MultiHead.__name__}",
            "init_args": model | {"losses": losses or None, "dropout": dropout},
        },
        "data": {"class_path": DEFAULT_CLASSES["data"], "init_args": data},
    }


def _dropout(expert: Expert) -> float:
    value = expert.argument("dropout")
    return value.get(expert.task, DEFAULT_DROPOUT) if isinstance(value, dict) else value


def _below(prefix: str, weights: Weights) -> Weights:
    """The weights of a module, by their names in it."""
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }
