"""Reading a table's YAML file.

`like` (inheritance) and `crossed` (combinations of row fragments).
"""

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from mtl.compare.definition_fields import check_fields
from mtl.errors import UserError, reject_unknown
from mtl.system.package_data import TABLES
from mtl.user_files import read_yaml

SUFFIXES = (".yaml", ".yml")


def read_fields(name: str, known: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """Reads a table's file, with `like` and `crossed` resolved.

    Args:
        name: The name of a table that ships, such as `samples`, or a file. Files that it names are
            relative to it.
        known: The names of the fields of a definition.

    Returns:
        The file and its fields.

    Raises:
        UserError: If there is no such table, or `like` names a table that itself has `like`.
    """
    path, fields = _load(name, known)
    if like := fields.pop("like", None):
        base, inherited = _load(_inherited_from(path, like), known)
        if base.resolve() == path.resolve():
            raise UserError(f"{path}: like: a file cannot inherit from itself; name another one")
        if "like" in inherited:
            other = _inherited_from(base, inherited["like"])
            remedy = "inherit from that table"
            if Path(other).resolve() == path.resolve():
                remedy = "a file cannot inherit from itself; remove one of the two lines"
            raise UserError(
                f"{path}: like: {like!r} itself has `like: {inherited['like']}`; {remedy}"
            )
        fields = _overlay(inherited, fields)
    combined = dict(_crossed_rows(fields.get("crossed") or {}))
    rows = fields.get("rows") or {}
    fields["rows"] = rows | {name: row for name, row in combined.items() if name not in rows}
    return path, fields


def _inherited_from(path: Path, like: str) -> str:
    """The file that a definition inherits from, relative to its own; or the name of a table."""
    if not isinstance(like, str):
        raise UserError(f"{path}: like: expected a file or the name of a table, got {like!r}")
    return str(path.parent / like) if like.endswith(SUFFIXES) else like


def _load(name: str, known: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    """A table's file and its fields; a suite in the same folder is resolved to its path."""
    path = Path(name) if name.endswith(SUFFIXES) else TABLES / f"{name}.yaml"
    if not path.is_file():
        if name.endswith(SUFFIXES):
            raise UserError(f"table: no file {name!r}")
        reject_unknown(
            "table", "table", [name], sorted(file.stem for file in TABLES.glob("*.yaml"))
        )
    fields: dict[str, Any] = read_yaml(path)
    if not isinstance(fields, dict) or not fields.keys() & {"question", "like", "rows"}:
        raise UserError(
            f"{path}: not a comparison: expected fields such as `question:` and `rows:`; "
            "docs/compare.md describes them"
        )
    try:
        check_fields(fields, ["like", *known])
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if str(fields.get("suite")).endswith(SUFFIXES):
        fields["suite"] = str(path.parent / fields["suite"])
    _resolve(fields, "tasks", path.parent)
    fragments = [row for rows in (fields.get("crossed") or {}).values() for row in rows.values()]
    for row in (*(fields.get("rows") or {}).values(), *fragments):
        _resolve(row, "configs", path.parent)
    return path, fields


def _resolve(fields: dict[str, Any], key: str, folder: Path) -> None:
    """Makes the local files of a list relative to the current folder; names stay as they are.

    A file may be given without its suffix, and with `#TASK` after it.
    """
    if isinstance(fields, dict) and isinstance(fields.get(key), list):
        fields[key] = [
            str(folder / value) if _is_file(folder / str(value).partition("#")[0]) else value
            for value in fields[key]
        ]


def _is_file(path: Path) -> bool:
    return path.is_file() or path.with_name(f"{path.name}.yaml").is_file()


def _overlay(base: Any, override: Any) -> Any:
    """The override; two mappings are merged recursively."""
    if not isinstance(base, dict) or not isinstance(override, dict):
        return override
    return base | {name: _overlay(base.get(name), value) for name, value in override.items()}


def _crossed_rows(fragments: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and fields of one row for each combination of the fragments."""
    for chosen in product(*(named.items() for named in fragments.values())) if fragments else ():
        row: dict[str, Any] = {}
        for _, fragment in chosen:
            row |= {
                name: _combined(name, row.get(name), value)
                for name, value in (fragment or {}).items()
            }
        yield ", ".join(name for name, _ in chosen), row


def _combined(name: str, first: Any, second: Any) -> Any:
    """A field's value from two fragments: mappings are merged, lists joined.

    `sizes` are intersected.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        return first | second
    if isinstance(first, list) and isinstance(second, list):
        return [value for value in first if value in second] if name == "sizes" else first + second
    return second
