"""Checks of the fields of a task, also against one another."""

import math
import re
from typing import TYPE_CHECKING

from mtl.errors import did_you_mean, reject_unknown, shorten
from mtl.tasks.kinds import ERRORS

if TYPE_CHECKING:
    from mtl.tasks.task import Task

# The name of a metric, or the import path of a class of torchmetrics.
TORCHMETRICS_CLASS = re.compile(r"torchmetrics\.(classification|regression)(\.\w+)*\.[A-Z]\w*")

# Task names become keys of torch.nn.ModuleDict, which has these attributes
# (tests/tasks/test_task.py compares).
RESERVED_NAMES = frozenset(
    "add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double "
    "dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter "
    "get_submodule half ipu items keys load_state_dict modules mtia named_buffers named_children "
    "named_modules named_parameters parameters pop register_backward_hook register_buffer "
    "register_forward_hook register_forward_pre_hook register_full_backward_hook "
    "register_full_backward_pre_hook register_load_state_dict_post_hook "
    "register_load_state_dict_pre_hook register_module register_parameter "
    "register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state "
    "set_submodule share_memory state_dict to to_empty smart_apply train training type update "
    "values xpu zero_grad".split()
)


def check_inputs(task: "Task") -> None:
    """Checks the name of a task and what is given instead of `texts` and `classes`.

    Raises:
        ValueError: If a field cannot be used, or two contradict one another.
    """
    _check_name(task.name)
    _check_tokens(task)
    _check_choices(task)


def check_fields(task: "Task") -> None:
    """Checks the other fields of a task, whose texts and classes are known.

    Raises:
        UserError: If a field names an unknown class or column.
        ValueError: If a field cannot be used, or two contradict one another.
    """
    _check_columns(task)
    _check_labels(task)
    _check_classes(task)
    _check_metrics(task)
    if task.source.labels and task.range:
        raise ValueError("source.labels maps values to classes; a regression task has none")
    reject_unknown("source.labels", "class", task.source.labels.values(), task.classes)
    task.source.check(task.splits.names, [*task.text_columns, *task.label_columns], task.texts)
    if task.prompt:
        task.prompt.check(task.texts, task.kind.prompt_words)


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,99}", name):
        raise ValueError(
            f"name {shorten(name)}: use at most 100 letters, digits, '_' and '-', beginning with a "
            "letter"
        )
    if name in RESERVED_NAMES:
        raise ValueError(
            f"name {name!r} is taken by torch.nn.ModuleDict; choose another, such as {name}_task"
        )
    if name == "row":
        raise ValueError(
            "name 'row' is the key of the row number in prediction files; choose another"
        )


def _check_tokens(task: "Task") -> None:
    """Checks the fields that are for token labels; the text column is `tokens`."""
    if task.tokens is None:
        given = {
            "tags": task.tags != "IOB2",
            "label_all_subtokens": task.label_all_subtokens,
            "window_overlap": task.window_overlap is not None,
        }
        if names := [name for name, is_given in given.items() if is_given]:
            raise ValueError(f"{names[0]} is for a task that labels words: give tokens as well")
        return
    if task.texts not in ([], [task.tokens]):
        raise ValueError(f"tokens {task.tokens!r} is the text column; omit texts {task.texts}")
    if task.range or task.prompt:
        raise ValueError("a task that labels words has classes; omit range and prompt")
    if task.label_all_subtokens and task.tags == "IOBES":
        raise ValueError("label_all_subtokens: IOBES has no tag for the rest of a word")
    if task.window_overlap and task.truncation != "right":
        raise ValueError("window_overlap keeps complete texts; omit truncation")


def _check_choices(task: "Task") -> None:
    """Checks the columns with candidate texts, which are the task's classes."""
    if not task.choices:
        return
    if task.tokens or task.range or task.prompt or task.classes not in ([], task.choices):
        raise ValueError("choices are the classes: omit classes, range, tokens and prompt")
    if task.truncation != "right":
        raise ValueError("choices: the longer text is cut at its end; omit truncation")


def _check_columns(task: "Task") -> None:
    """Checks that there are one or two texts, and that each column is read once."""
    if len(task.texts) not in (1, 2):
        raise ValueError(f"texts {task.texts}: name one text column, or the two of a pair")
    columns = [task.label] if task.tokens else task.label_columns
    if len(named := [*task.texts, *columns]) > len(set(named)):
        raise ValueError(
            f"texts {task.texts} and label {', '.join(map(repr, columns))} name a column "
            "twice; each column is either a text or the label"
        )


def _check_labels(task: "Task") -> None:
    """Checks the fields of a multi-label task."""
    if task.labels is not None and (task.tokens or task.choices):
        raise ValueError("labels is for tasks that classify texts; omit tokens and choices")
    if task.labels is None:
        if task.thresholds != "fixed" or task.separator != ",":
            raise ValueError("thresholds and separator are for tasks with `labels`; omit them")
        return
    if task.range or not task.classes:
        raise ValueError("labels: name the classes of the task in `classes`")
    if isinstance(task.labels, list) and len(task.labels) != len(task.classes):
        raise ValueError(
            f"labels: give one column for each of the {len(task.classes)} classes, not "
            f"{len(task.labels)}; or the name of one column"
        )
    if not task.separator:
        raise ValueError("separator is empty; give the text between two classes, such as ','")
    if task.source.labels and isinstance(task.labels, list):
        raise ValueError("source.labels maps values to classes; 0/1 columns have none")


def _check_classes(task: "Task") -> None:
    """Checks the names of the classes, or the range."""
    if bool(task.classes) == bool(task.range):
        raise ValueError("give either classes (classification) or range (regression)")
    field = "choices" if task.choices else "classes"
    fewest = 1 if task.tokens and task.tags != "plain" else 2
    if task.classes and len(task.classes) < fewest:
        raise ValueError(f"{field} {task.classes}: name at least two")
    if repeated := [name for name in task.classes if task.classes.count(name) > 1]:
        raise ValueError(f"{field}: {repeated[0]!r} occurs twice; remove one")
    if spaced := [name for name in task.classes if name != name.strip()]:
        raise ValueError(f"{field}: {spaced[0]!r} begins or ends with white space; remove it")
    if task.range and not -math.inf < task.range[0] < task.range[1] < math.inf:
        raise ValueError(
            f"range {list(task.range)}: give two finite numbers, the lowest value first"
        )


def _check_metrics(task: "Task") -> None:
    known = task.kind.metrics
    if twice := [metric for metric in task.metrics if task.metrics.count(metric) > 1]:
        raise ValueError(f"metrics: {twice[0]!r} occurs twice; remove one")
    for metric in task.metrics:
        if "." in metric and task.tokens:
            raise ValueError(f"metrics: {metric!r} does not fit a task that labels words")
        if "." in metric and not TORCHMETRICS_CLASS.fullmatch(metric):
            raise ValueError(
                f"metrics: {metric!r} is not a class in torchmetrics.classification or "
                "torchmetrics.regression, the only classes that a task can name"
            )
        if "." not in metric and metric not in known:
            raise ValueError(
                f"metrics [{metric!r}] do not fit a {task.kind.name} task; choose from "
                f"{sorted(known)}.{did_you_mean(metric, known)}"
            )
    if task.metrics and not set(task.metrics) - ERRORS:
        raise ValueError(
            f"metrics {task.metrics}: smaller values of these are better, so they cannot make "
            f"a score; add one of {sorted(set(known) - ERRORS)}"
        )
