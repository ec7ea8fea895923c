"""The resolved definition of a comparison as YAML, to edit and run again."""

from dataclasses import MISSING, Field, fields, is_dataclass, replace
from typing import Any

import yaml

from mtl.compare.definition import absolute_reference
from mtl.compare.plan import Plan
from mtl.system.package_data import editor_line


def definition_yaml(plan: Plan) -> str:
    """The definition of a plan's runs, with `like` and `crossed` resolved.

    It has the plan's size only. Local files are absolute, so that it can be moved.

    Args:
        plan: The plan. Its extra options are not part of the definition.
    """
    # The plan has only the rows of its size; `front` names those of its weightings. If the size has
    # no search, the rows' search spaces would be refused.
    rows = {
        name: replace(row, sizes=[], search=row.search if plan.size.search else None)
        for name, row in plan.experiment.rows.items()
        if name not in plan.weightings
    }
    sizes = {plan.size_name: plan.size}
    experiment = replace(plan.experiment, sizes=sizes, rows=rows, crossed={})
    contents = _changed_fields(experiment)
    for entries in (contents, *contents["rows"].values()):
        for key in ("suite", "tasks", "configs"):
            if key in entries:
                entries[key] = _absolute(entries[key])
    text = yaml.safe_dump(contents, sort_keys=False, allow_unicode=True, width=100)
    return editor_line("comparison") + text


def _changed_fields(value: Any) -> Any:
    """Dataclasses as mappings of the fields that differ from their defaults."""
    if is_dataclass(value):
        return {
            each.name: _changed_fields(current)
            for each in fields(value)
            if (current := getattr(value, each.name)) != _default(each)
        }
    if isinstance(value, dict):
        return {key: _changed_fields(item) for key, item in value.items()}
    return [_changed_fields(item) for item in value] if isinstance(value, list) else value


def _default(each: "Field[Any]") -> Any:
    return each.default if each.default_factory is MISSING else each.default_factory()


def _absolute(value: Any) -> Any:
    """Local files by their absolute path; names of what ships stay."""
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    return absolute_reference(value)
