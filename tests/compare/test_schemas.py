"""The schemas that ship are those of the code, accept all shipped files, and refuse wrong ones."""

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtl.compare.definition import Experiment
from mtl.compare.schemas import SCHEMAS, schema_text
from mtl.errors import UserError
from mtl.system.package_data import CONFIGS, TABLES, schema_file
from mtl.tasks import Task
from mtl.user_files import read_yaml
from tests.schema_validation import errors

FILES = {
    "task": sorted((CONFIGS / "tasks").rglob("*.yaml")),
    "comparison": [*TABLES.glob("*.yaml")],
}
SHIPPED = [(name, file) for name, files in FILES.items() for file in files]
IDS = [file.stem for _, file in SHIPPED]


def shipped(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(schema_file(name).read_text(encoding="utf-8"))
    return schema


def fits(name: str, contents: Any) -> bool:
    schema = shipped(name)
    return not list(errors(schema, contents, schema))


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_that_ships_is_that_of_the_code(name: str) -> None:
    assert schema_file(name).read_text(encoding="utf-8") == schema_text(name), (
        "write it again: python -m mtl.compare.schemas"
    )


@pytest.mark.parametrize(("name", "file"), SHIPPED, ids=IDS)
def test_every_shipped_file_fits_its_schema(name: str, file: Path) -> None:
    assert fits(name, read_yaml(file))


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_package_jsonschema_agrees(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft7Validator.check_schema(shipped(name))
    validator = jsonschema.Draft7Validator(shipped(name))
    for file in FILES[name]:
        assert validator.is_valid(read_yaml(file)), file
        for about, wrong in wrongs(name, read_yaml(file)):
            assert not validator.is_valid(wrong), (file, about)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_field_is_described(name: str) -> None:
    schema = shipped(name)
    for part in (schema, *schema["definitions"].values()):
        assert part["description"].endswith(".")
        for field, about in part["properties"].items():
            assert about["description"].endswith("."), field


def objects(contents: dict[str, Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The places of a file whose fields are known."""
    yield "", contents
    if name == "task":
        for part in ("source", "splits", "prompt"):
            if isinstance(contents.get(part), dict):
                yield part, contents[part]
        return
    for part in ("rows", "sizes"):
        for key, value in contents.get(part, {}).items():
            yield f"{part}: {key}", value


def wrongs(name: str, contents: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The file with one mistake: a field that does not exist, or a value of another type."""
    for where, _ in objects(contents, name):
        for field, value in (("xyzzy", 1), *_wrong_values(name, where)):
            wrong = deepcopy(contents)
            dict(objects(wrong, name))[where][field] = value
            yield f"{where}: {field}", wrong


def _wrong_values(name: str, where: str) -> tuple[tuple[str, Any], ...]:
    if name == "task":
        fields = {"": "texts", "source": "format", "splits": "test", "prompt": "max_length"}
        return ((fields[where], {"a": 1}), *([] if where else [("version", "new")]))
    part = where.partition(":")[0]
    wrong = {"": ("margin", "one"), "rows": ("of", "tasks"), "sizes": ("seeds", "1, 2")}
    return (wrong[part], *([] if where else [("looks", [5, "ten"])]))


@pytest.mark.parametrize(("name", "file"), SHIPPED, ids=IDS)
def test_what_a_schema_refuses_the_parser_refuses(name: str, file: Path, tmp_path: Path) -> None:
    cases = list(wrongs(name, read_yaml(file)))
    for about, wrong in cases:
        assert not fits(name, wrong), about
    # The parser is slow: the first case of each place.
    about, wrong = cases[len(file.stem) % len(cases)]
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(wrong, sort_keys=False), encoding="utf-8")
    with pytest.raises(UserError):
        (Task if name == "task" else Experiment).read(str(tmp_path / "wrong.yaml"))


def test_an_incomplete_comparison_is_refused_unless_it_inherits() -> None:
    contents = read_yaml(TABLES / "samples.yaml")
    for field in ("question", "rows", "baseline", "sizes", "budget", "suite"):
        partial = {key: value for key, value in contents.items() if key != field}
        assert not fits("comparison", partial)
        assert fits("comparison", partial | {"like": "samples"})
    assert not fits("comparison", contents | {"tasks": ["tasks/sst2"]})
    sizes = {"mini": {"seeds": [1, 2]}}
    assert not fits("comparison", contents | {"sizes": sizes})
    assert fits("comparison", {"like": "samples", "sizes": sizes})


def test_words_of_a_task_may_be_numbers() -> None:
    task = {"name": "stars", "texts": ["review"], "classes": [1, 2, 3], "source": {"path": "."}}
    assert fits("task", task)
    assert not fits("task", task | {"classes": [True, False]})
    assert not fits("task", task | {"label": ["stars"]})
