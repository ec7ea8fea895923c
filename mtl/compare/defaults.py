"""The comparison of tasks for which no definition is written."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.errors import UserError, reject_unknown
from mtl.system.package_data import config_names
from mtl.tasks import Classification, Task

BASELINE = "one model per task"
# Range of the learning rates that are tried: of methods that train the encoder, and of methods that
# train small modules in a frozen one.
RATES, SMALL_MODULE_RATES = (2e-5, 1e-3), (1e-4, 5e-3)
SMALL_MODULES = ("lora", "adapters")
# The methods of the rows that are always there.
DEFAULT_METHODS = ("methods/multi_head", "sampling/mixed", "methods/lora_per_task")
# Axes whose files can be named as methods, and what each is combined with.
PARTNERS = {
    "methods": ("sampling/round_robin",),
    "sampling": ("methods/multi_head",),
    "balancing": ("sampling/mixed", "methods/multi_head"),
    "regularizers": ("sampling/round_robin", "methods/multi_head"),
}


def default_definition(
    tasks: Mapping[str, Task],
    train_sizes: Mapping[str, int],
    *,
    methods: Sequence[str] = (),
    backbone: str = "bert-base-uncased",
    epochs: int = 5,
    batch_size: int = 16,
    trials: int = 4,
    seeds: Sequence[int] = (1, 2, 3, 4, 5),
    options: Mapping[str, Any] | None = None,
    paired: bool = False,
) -> dict[str, Any]:
    """The fields of a definition: each task alone, and one model for all in several ways.

    Every row draws as many examples in an epoch, and tries as many learning rates for each run.

    Args:
        tasks: The tasks by the file or name that they are listed with.
        train_sizes: Training examples of each label group, by the name of a task.
        methods: More rows, by the names of their configurations, such as `balancing/pcgrad`.
        backbone: The pretrained encoder.
        epochs: Passes over the training examples.
        batch_size: Examples per batch.
        trials: Learning rates that are tried.
        seeds: Seeds of every row.
        options: Options of every run; with `model.lr` no learning rates are tried.
        paired: Whether the seed draws the training examples.

    Raises:
        UserError: If there are fewer than two tasks, or a method is unknown.
    """
    if len(tasks) < 2:
        raise UserError("a comparison needs two tasks or more: give --tasks+= for each")
    rounds = _rounds(train_sizes, batch_size)
    rows: dict[str, dict[str, Any]] = {
        BASELINE: {"of": "task", "options": {"model": "MultiHead"}},
        "multi-head, round robin": _row("methods/multi_head", rounds),
        "multi-head, mixed": _row("sampling/mixed", rounds),
        "LoRA per task": _row("methods/lora_per_task", rounds),
    }
    kinds = [task.kind for task in tasks.values()]
    pairs = {task.pair for task in tasks.values()}
    if (
        type(kinds[0]) is Classification
        and len(pairs) == 1
        and all(kind.same_outputs(kinds[0]) for kind in kinds)
    ):
        rows["joint"] = _row("methods/joint", rounds)
    for method in methods:
        if method in DEFAULT_METHODS:
            raise UserError(f"--methods {method}: it is one of the rows already; omit it")
        rows.setdefault(method.partition("/")[2], _row(method, rounds))
    options = options or {}
    for row in rows.values():
        row["options"] = {
            name: row["options"][name] for name in row["options"] if name not in options
        }
    names = ", ".join(task.name for task in tasks.values())
    size: dict[str, Any] = {
        "about": f"{backbone}.",
        "backbone": backbone,
        "options": {"trainer.max_epochs": epochs, "data.batch_size": batch_size, **options},
        "seeds": list(seeds),
    }
    if "model.lr" not in options:
        _add_learning_rates(rows, size, trials)
    return {
        "question": f"One model for {names}, or one for each?",
        "tasks": list(tasks),
        "baseline": BASELINE,
        "budget": f"{epochs} pass{'es' * (epochs > 1)} over the training examples of all tasks",
        "margin": 1.0,
        "target": 2.0,
        **({"paired": True} if paired else {}),
        "rows": rows,
        "sizes": {"default": size},
    }


def _add_learning_rates(rows: dict[str, dict[str, Any]], size: dict[str, Any], trials: int) -> None:
    """Adds the search for the learning rate; of one trial, the rate itself."""
    rates, small = learning_rates(trials, *RATES), learning_rates(trials, *SMALL_MODULE_RATES)
    trains_small = [
        row
        for row in rows.values()
        if any(part in str(row.get("configs")) for part in SMALL_MODULES)
    ]
    if trials == 1:
        for fields, rate in [(size, rates[0]), *((row, small[0]) for row in trains_small)]:
            fields["options"]["model.lr"] = rate
        return
    size["search"] = {"trials": trials, "seed": 0, "space": {"model.lr": rates}}
    for row in trains_small:
        row["search"] = {"model.lr": small}


def learning_rates(count: int, low: float, high: float) -> list[float]:
    """The middles of equal parts of a range, on a logarithmic scale, rounded to two digits.

    >>> learning_rates(4, 2e-5, 1e-3), learning_rates(1, 2e-5, 1e-3)
    ([3.3e-05, 8.7e-05, 0.00023, 0.00061], [0.00014])
    """
    parts = [(step + 0.5) / count for step in range(count)]
    return [float(f"{low * (high / low) ** part:.1e}") for part in parts]


def _rounds(sizes: Mapping[str, int], batch_size: int) -> dict[str, dict[str, int]]:
    """The options with which an epoch draws as many examples as all tasks together have.

    By the sampling scheme; empty if the tasks have equally many examples.
    """
    count, total = len(sizes), sum(sizes.values())
    each = max(1, batch_size // count)
    mixed = {"data.batch_size": each}
    if len(set(sizes.values())) == 1:
        return {"sampling/round_robin": {}, "sampling/mixed": mixed}
    return {
        "sampling/round_robin": {"data.rounds": max(1, round(total / (count * batch_size)))},
        "sampling/mixed": mixed | {"data.rounds": max(1, round(total / (count * each)))},
    }


def _row(config: str, rounds: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """A row that trains all tasks in one run."""
    axis = config.partition("/")[0]
    known = [name for name in config_names() if name.partition("/")[0] in PARTNERS]
    reject_unknown("--methods", "method", [config], known)
    configs = [*PARTNERS[axis], config]
    if axis == "sampling":
        configs.reverse()
    return {"configs": configs, "options": dict(rounds.get(configs[0], {}))}
