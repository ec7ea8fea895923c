"""Notes under a table: how its runs were made, and warnings about runs that can't be compared."""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from mtl.compare.definition_parts import Variant
from mtl.compare.formatting import format_versions, without_folders
from mtl.compare.plan import Plan
from mtl.compare.results import Results
from mtl.compare.run_arguments import format_option

SCOPE = {
    "suite": "one run for all tasks",
    "task": "one run per task",
    "held_out": "one run without each task",
}


def backbone(plan: Plan) -> str:
    """The pretrained encoder of the runs: that of the size, unless an extra option names one."""
    words = [word for option in plan.extra_options for word in option.split("=", 1)]
    named = [value for option, value in pairwise(words) if option == "--backbone"]
    return [plan.size.backbone, *named][-1]


def size_note(results: Results) -> str:
    """The size: its description, the backbone and the options of every run."""
    size, extra = results.plan.size, list(results.plan.extra_options)
    options = [
        argument
        for name, value in size.options.items()
        for argument in (name, format_option(value, size.values))
    ]
    shown_backbone, *shown = without_folders([backbone(results.plan), *options, *extra])
    note = (
        f"size {results.plan.size_name}: {size.about} Backbone {shown_backbone}; {' '.join(shown)}"
    )
    return " ".join(note.split())


def row_note(name: str, row: Variant, values: dict[str, Any]) -> str:
    """What distinguishes a row: its runs, command, configs and options.

    Args:
        name: The row's name.
        row: The row.
        values: The size's values.
    """
    command = [] if row.command == "fit" else [f"command {row.command}"]
    options = [
        argument
        for option, value in row.options.items()
        for argument in (option, format_option(value, values))
    ]
    uses = [argument for option, used in row.uses.items() for argument in (option, f"of {used!r}")]
    groups = "; ".join(" + ".join(group) for group in row.groups)
    scope = f"one run for each group: {groups}" if isinstance(row.of, list) else SCOPE[row.of]
    return f"{name}: {scope}; {' '.join([*command, *row.configs, *options, *uses])}"


def provenance(results: Results) -> list[str]:
    """Library versions and code, warnings about runs that differ in them, and failed runs."""
    return [
        *_mixed_environments(results),
        *_versions_and_code(results),
        *_mixed_data(results),
        *_unequal_budgets(results),
        *_selection_on_test(results),
        *results.failures(),
    ]


def versions(results: Results) -> dict[str, str]:
    """Library versions of the first finished run that recorded them.

    `provenance` warns if runs differ.
    """
    for record in results.records.values():
        if "versions" in record:
            recorded: dict[str, str] = record["versions"]
            return recorded
    return {}


def _records(results: Results) -> list[dict[str, Any]]:
    return [record for record in results.records.values() if record]


def _mixed_environments(results: Results) -> Iterator[str]:
    for key in ("versions", "code", "precision", "device"):
        values = {
            json.dumps(stage[key], sort_keys=True)
            for record in _records(results)
            for stage in (record, record.get("test", {}))
            if key in stage
        }
        if len(values) > 1:
            listed = "; ".join(sorted(values))
            yield f"MIXED {key}: the runs have {len(values)} different values: {listed}"


def _versions_and_code(results: Results) -> Iterator[str]:
    for record in _records(results)[:1]:
        libraries = format_versions(record.get("versions", {}))
        code = record.get("code", "")
        fingerprints = "the metrics.json of each run has the fingerprints of its data"
        yield f"{libraries}; code {code}; {fingerprints}"


def _mixed_data(results: Results) -> Iterator[str]:
    fingerprints: dict[str, set[str]] = {}
    for record in _records(results):
        for split, fingerprint in record.get("data", {}).items():
            fingerprints.setdefault(split, set()).add(fingerprint)
    for split, values in fingerprints.items():
        if len(values) > 1:
            yield f"MIXED data: {split} has different examples in some runs"


def _unequal_budgets(results: Results) -> Iterator[str]:
    baseline = results.plan.experiment.baseline
    base = results.cost(baseline).examples
    for row in results.rows:
        examples = results.cost(row).examples
        if base and examples and abs(examples / base - 1) > 0.05:
            yield f"{row}: drew {examples:,.0f} examples per seed; {baseline}: {base:,.0f}"


def merging_note(results: Results) -> Iterator[str]:
    """That rows which merge need the runs of another row."""
    for name in results.rows:
        row = results.plan.experiment.rows[name]
        if row.command == "merge":
            yield f"{name}: without the training of the runs of {row.uses['runs']!r} that it merges"


def trials_note(results: Results) -> Iterator[str]:
    """What the training time with trials contains, if trials were made."""
    if results.tuning:
        yield (
            "training time with trials: one seed, all trials of the search (made once, for all "
            "seeds), and the other runs of the seed's grid"
        )


def tuning_note(results: Results) -> str:
    """What was tuned, and how."""
    if search := results.plan.size.search:
        chosen = [
            f"{name} {_chosen_values(results.plan, name)}"
            for name in results.plan.experiment.rows
            if results.plan.search_space(name)
        ]
        return (
            f"Tuned on validation data: {search.trials} trials per row and run, with seed "
            f"{search.seed}; chosen: {'; '.join(chosen)}."
        )
    grids = [name for name, row in results.plan.experiment.rows.items() if row.grid]
    if grids:
        return f"Tuned by a grid on validation data: {', '.join(grids)}. Other rows: not tuned."
    return "Not tuned: learning rates and other options were set by hand."


def _chosen_values(plan: Plan, row: str) -> str:
    """The option values that the search has found for a row, for each of its tasks."""
    found = []
    for (name, task), choice in plan.tuned.items():
        if name == row:
            values = [
                f"{option} {value:.3g}" if isinstance(value, float) else f"{option} {value}"
                for option, value in choice
            ]
            found.append(" ".join(filter(None, [task and f"{task}:", ", ".join(values)])))
    return ", ".join(found) or "nothing yet"


def _selection_on_test(results: Results) -> Iterator[str]:
    tasks = {
        task
        for record in _records(results)
        for task in record.get("test", {}).get("selected_on_test", [])
    }
    if tasks:
        yield f"the checkpoint of {', '.join(sorted(tasks))} was selected on the test examples"
