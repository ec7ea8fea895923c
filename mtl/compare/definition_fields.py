"""The names in a comparison's definition: each is checked against those valid at its position.

Nothing here imports torch: a mistyped name is reported before the libraries are loaded.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from mtl.compare.definition_parts import Front, Preset, Published, Search, Variant
from mtl.errors import UserError, reject_unknown, shorten, unknown_name

if TYPE_CHECKING:
    from mtl.compare.definition import Experiment

# The column that shows a row's mean over tasks, or the suite's own score.
MEAN = "mean"
# An example of a range in a search space.
RANGE = "{low: 1.0e-5, high: 1.0e-3, log: true}"
# The fields that every definition needs, and an example of each.
REQUIRED = {
    "question": "the question, such as `question: Is one model for both tasks no worse?`",
    "rows": "the rows by name, such as `single: {of: task, options: {model: MultiHead}}`",
    "baseline": "the row that the others are compared with, such as `baseline: single`",
    "sizes": "the sizes by name, such as `mini: {backbone: bundled, seeds: [1, 2, 3]}`",
    "budget": "what all rows have in common, in words, such as `budget: 5 passes over each task`",
}


def field_names(part: type[Any]) -> list[str]:
    """The names of the fields of a part of a definition."""
    return [item.name for item in fields(part)]


def check_fields(contents: Mapping[str, Any], table_fields: Iterable[str]) -> None:
    """Checks the names of all fields of a definition, and that mappings are mappings.

    Args:
        contents: The content of the file.
        table_fields: The names of the fields of the whole definition.

    Raises:
        UserError: If a field does not exist at its position, or is not a mapping.
    """
    _check_names("", contents, table_fields)
    for path, row in _named(contents, "rows"):
        _check_names(path, row, field_names(Variant))
    for path, fragments in _named(contents, "crossed"):
        for name, fragment in fragments.items():
            _check_names(f"{path}: {name}", fragment or {}, field_names(Variant))
    for path, size in _named(contents, "sizes"):
        _check_names(path, size, field_names(Preset))
        if size.get("search") is not None:
            _check_names(f"{path}: search", size["search"], field_names(Search))
    if contents.get("front") is not None:
        _check_names("front", contents["front"], field_names(Front))
    if contents.get("published") is not None:
        _check_names("published", contents["published"], field_names(Published))


def check_required(contents: Mapping[str, Any]) -> None:
    """Checks that a definition has the fields that every definition needs.

    Args:
        contents: The fields of the definition, inherited ones included.

    Raises:
        UserError: If one is missing or empty.
    """
    for name, example in REQUIRED.items():
        if not contents.get(name):
            raise UserError(f"{name} is missing; give {example}")
    for name, size in contents["sizes"].items():
        if not size.get("backbone"):
            raise UserError(
                f"sizes: {name}: backbone is missing; give the encoder, such as `backbone: bundled`"
            )
    published = contents.get("published")
    if published and not published.get("source"):
        raise UserError("published: source is missing; give the publication")


def check_names(experiment: "Experiment") -> None:
    """Checks the names that rows and sizes give for sizes, tasks, columns and values.

    Raises:
        UserError: If one does not exist, or the rows or seeds of a size cannot be compared.
    """
    tasks = list(experiment.task_files)
    columns = list(dict.fromkeys([*experiment.shown_columns, *tasks, MEAN]))
    for name, row in experiment.rows.items():
        reject_unknown(f"rows: {name}: tasks", "task", row.tasks, tasks)
        _check_groups(f"rows: {name}: of", row, tasks, experiment.main_columns)
        reject_unknown(f"rows: {name}: sizes", "size", row.sizes, experiment.sizes)
        check_space(f"rows: {name}: search", row.search or {})
        sizes = [experiment.sizes[size] for size in row.sizes or experiment.sizes]
        if row.search and not any(size.search for size in sizes):
            raise UserError(
                f"rows: {name}: search: no size of this row has a `search`, which sets the number "
                "of trials, such as `search: {trials: 4}`; add it"
            )
        for option, values in row.grid.items():
            for size in row.sizes or experiment.sizes:
                _check_grid(f"rows: {name}: grid: {option}", values, experiment.sizes[size], size)
    for row_name, figures in experiment.published.rows.items() if experiment.published else ():
        reject_unknown(f"published: rows: {row_name}", "column", figures, columns)
    for name, preset in experiment.sizes.items():
        _check_seeds(f"sizes: {name}", preset)
        rows = experiment.rows.items()
        shown = [row for row, each in rows if each.shown and name in (each.sizes or [name])]
        if len(shown) < 2:
            raise UserError(
                f"rows: {', '.join(shown) or 'none'} at size {name}: nothing to compare; give the "
                "baseline and at least one more row"
            )


def _check_groups(where: str, row: Variant, tasks: Iterable[str], shown: Iterable[str]) -> None:
    """Checks the groups of tasks of a row, if it has some."""
    if row.of == []:
        raise UserError(f"{where}: give at least one group of tasks, such as [[a, b], [c]]")
    for group in row.groups:
        reject_unknown(where, "task", group, tasks)
        if not group or len(set(group)) < len(group):
            raise UserError(f"{where}: {group}: name each task of a group once")
    grouped = {task for group in row.groups for task in group}
    if missing := [task for task in shown if row.groups and task not in grouped]:
        raise UserError(
            f"{where}: no group has {missing[0]!r}, which the table shows; add it to one"
        )
    if row.groups and row.tasks:
        raise UserError(f"{where}: its groups are the tasks of its runs; remove `tasks`")


def check_space(where: str, space: Mapping[str, Any]) -> None:
    """Checks the values of a search space.

    Raises:
        UserError: If a list is empty, or a range is not one.
    """
    for option, values in space.items():
        if isinstance(values, list):
            if not values:
                raise UserError(f"{where}: {option}: give at least one value")
            continue
        expected = f"{where}: {option}: expected a list, or a range such as {RANGE}"
        if not isinstance(values, Mapping) or not {"low", "high"} <= values.keys():
            raise UserError(f"{expected}, got {shorten(values)}")
        reject_unknown(f"{where}: {option}", "field", values, ["low", "high", "log"])
        low, high = values["low"], values["high"]
        if not all(isinstance(end, int | float) for end in (low, high)):
            raise UserError(f"{expected}, got {shorten(values)}")
        if low >= high or (values.get("log") and low <= 0):
            above = " above 0" if values.get("log") else ""
            raise UserError(
                f"{where}: {option}: low {low:g}, high {high:g}: give a low{above} that is smaller "
                "than high"
            )


def _check_grid(where: str, values: list[Any] | str, size: Preset, name: str) -> None:
    """A grid that is a text names one of the size's values, which is a list."""
    if not isinstance(values, str):
        return
    reject_unknown(f"{where}: size {name}", "value", [values[1:-1]], size.values)
    if not isinstance(size.values[values[1:-1]], list):
        raise UserError(f"{where}: {values} is not a list at size {name}; give a list of values")


def _check_seeds(where: str, size: Preset) -> None:
    if not size.seeds:
        raise UserError(f"{where}: seeds: give at least one seed, such as [1, 2, 3]")
    if negative := [seed for seed in size.seeds if seed < 0]:
        raise UserError(f"{where}: seeds: {negative[0]}: give 0 or more")
    if len(set(size.seeds)) < len(size.seeds):
        raise UserError(f"{where}: seeds: {size.seeds}: give each seed once")
    if size.search and size.search.seed in size.seeds:
        raise UserError(f"{where}: search: {search_seed_refusal(size.search)}")
    check_space(f"{where}: search: space", size.search.space if size.search else {})
    if size.search and size.search.trials < 1:
        raise UserError(f"{where}: search: trials {size.search.trials}: give 1 or more")


def search_seed_refusal(search: Search) -> str:
    """The message for a search whose trials have one of the final seeds."""
    return (
        f"seed {search.seed} is one of the final seeds; the luck of the best trial would be part "
        "of the result. Choose another"
    )


def _named(contents: Mapping[str, Any], field: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entries of a mapping by their position; an entry that is not a mapping is refused."""
    for name, entry in _mapping(field, contents.get(field) or {}).items():
        yield f"{field}: {name}", _mapping(f"{field}: {name}", entry)


def _check_names(where: str, part: Any, known: Iterable[str]) -> None:
    known = list(known)
    for name in _mapping(where, part):
        if name not in known:
            prefix = f"{where}: " if where else ""
            raise UserError(f"{prefix}{unknown_name('field', str(name), known)}")


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: expected a mapping of names to fields, got {shorten(value)}")
    return value
