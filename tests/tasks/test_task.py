from pathlib import Path

import pytest
import yaml
from torch import nn

from mtl.errors import UserError
from mtl.tasks.task import RESERVED_NAMES, Task, check_tasks

KETTLES = {
    "name": "kettles",
    "texts": ["review"],
    "classes": ["no", "yes"],
    "source": {"path": "data/kettles"},
}


def written(folder: Path, fields: object) -> Path:
    path = folder / "task.yaml"
    path.write_text(fields if isinstance(fields, str) else yaml.safe_dump(fields))
    return path


def test_a_relative_path_is_relative_to_the_task_file(tmp_path: Path) -> None:
    task = Task.read(written(tmp_path, KETTLES))
    assert task.source.path == str(tmp_path / "data/kettles")


def test_default_metrics_depend_on_the_kind() -> None:
    assert Task.read(KETTLES).metrics == ["accuracy"]
    assert Task.read({"name": "near", "texts": ["a", "b"], "range": [0, 5]}).metrics == [
        "pearson",
        "spearman",
    ]


def test_a_pair_has_two_texts_and_a_classification_one_output_per_class() -> None:
    task = Task.read(KETTLES | {"texts": ["a", "b"]})
    assert task.pair
    assert task.kind.output_size == 2
    assert Task.read({"name": "near", "texts": ["a"], "range": [0, 5]}).kind.output_size == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "sst.2"}, "use letters, digits"),
        ({"name": "type"}, "taken by torch.nn.ModuleDict"),
        ({"texts": []}, "name one text column, or the two of a pair"),
        ({"texts": ["a", "b", "c"]}, "name one text column, or the two of a pair"),
        ({"range": [0, 5]}, "either classes"),
        ({"classes": ["yes"]}, "at least two different classes"),
        ({"classes": ["yes", "yes"]}, "at least two different classes"),
        ({"metrics": ["pearson"]}, "do not fit a classification task"),
        ({"metrics": ["acuracy"]}, "Did you mean 'accuracy'?"),
        ({"textz": ["review"]}, "unknown option 'textz'. Did you mean 'texts'?"),
        ({"source": {"hub": "a", "path": "b"}}, "not both"),
        (
            {"source": {"path": "b", "labels": {"0": "nope"}}},
            "source.labels: unknown class 'nope'. Choose from: no, yes.",
        ),
    ],
)
def test_an_invalid_field_is_refused_with_the_file_and_a_remedy(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = written(tmp_path, KETTLES | change)
    with pytest.raises(UserError, match="task.yaml") as refused:
        Task.read(path)
    assert message in str(refused.value)


def test_unquoted_yes_and_no_are_refused_with_an_explanation(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="in quotes"):
        Task.read(written(tmp_path, "name: k\ntexts: [a]\nclasses: [no, yes]"))


def test_the_error_for_a_missing_file_suggests_a_similar_one(tmp_path: Path) -> None:
    written(tmp_path, KETTLES)
    with pytest.raises(UserError, match=r"Did you mean 'task\.yaml'"):
        Task.read(tmp_path / "tsak.yaml")


def test_two_tasks_with_the_same_name_are_refused() -> None:
    with pytest.raises(UserError, match="'kettles' occurs twice"):
        check_tasks([KETTLES, KETTLES])


def test_an_empty_list_of_tasks_is_refused() -> None:
    with pytest.raises(UserError, match="name at least one"):
        check_tasks([])


def test_reserved_names_are_the_attributes_of_module_dict() -> None:
    assert {name for name in dir(nn.ModuleDict()) if not name.startswith("_")} - RESERVED_NAMES <= {
        "T_destination"
    }
