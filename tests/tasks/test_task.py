from pathlib import Path

import pytest
import yaml
from torch import nn

from mtl.errors import UserError
from mtl.tasks import Task, check_tasks
from mtl.tasks.task_checks import RESERVED_NAMES

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
        ({"name": "sst.2"}, "use at most 100 letters, digits"),
        ({"name": "a" * 101}, "use at most 100 letters, digits"),
        ({"metrics": ["f1", "f1"]}, "metrics: 'f1' occurs twice; remove one"),
        ({"source": {"path": "a", "revision": "main"}}, "source.revision has no effect"),
        ({"source": {"path": "a", "config": "cola"}}, "source.config has no effect"),
        ({"source": {"columns": {"review": "label"}}}, "'label' of the file would be read twice"),
        ({"name": "type"}, "taken by torch.nn.ModuleDict"),
        ({"texts": []}, "name one text column, or the two of a pair"),
        ({"texts": ["a", "b", "c"]}, "name one text column, or the two of a pair"),
        ({"texts": ["a", "a"]}, "name a column twice"),
        ({"label": "review"}, "name a column twice"),
        ({"range": [0, 5]}, "either classes"),
        ({"classes": ["yes"]}, "classes ['yes']: name at least two"),
        ({"classes": ["no", "yes", "yes"]}, "classes: 'yes' occurs twice; remove one"),
        ({"metrics": None}, "metrics is empty; fill it in, or remove it"),
        ({"metrics": []}, "metrics is empty; fill it in, or remove it"),
        ({"range": ["low", "high"]}, "range: expected two numbers, got ['low', 'high']"),
        ({"name": ["a", "b"]}, "name: expected a text, got ['a', 'b']"),
        ({"texts": "text"}, "texts: expected a list, got 'text'"),
        ({"max_length": 2.5}, "max_length: expected a whole number, got '2.5'"),
        ({"prompt": {"template": "{mask}"}}, "prompt: words is missing; add it"),
        ({"prompt": "a word"}, "prompt: expected a mapping of fields, got 'a word'"),
        ({"source": "folder"}, "source: expected a mapping of fields, got 'folder'"),
        ({"source": {"pth": "x"}}, "unknown option 'source.pth'. Did you mean 'source.path'"),
        ({"metrics": ["pearson"]}, "do not fit a classification task"),
        ({"metrics": ["acuracy"]}, "Did you mean 'accuracy'?"),
        ({"textz": ["review"]}, "unknown option 'textz'. Did you mean 'texts'?"),
        ({"source": {"hub": "a", "path": "b"}}, "not both"),
        ({"classes": ["no ", "yes"]}, "begins or ends with white space"),
        ({"classes": [], "range": [0, float("inf")]}, "give two finite numbers"),
        ({"classes": [], "range": [0, float("nan")]}, "give two finite numbers"),
        (
            {"classes": [], "range": [0, 5], "source": {"labels": {"a": "b"}}},
            "a regression task has none",
        ),
        (
            {"source": {"files": {"trian": "a.csv"}}},
            "source.files: unknown split 'trian'. Choose from: train, validation, test. "
            "Did you mean 'train'?",
        ),
        (
            {"source": {"columns": {"reveiw": "text"}}},
            "source.columns: unknown column 'reveiw'. Choose from: review, label. "
            "Did you mean 'review'?",
        ),
        ({"source": {"path": "b", "labels": {}}}, "source.labels is empty"),
        ({"source": {"path": None}}, "source.path is empty"),
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


@pytest.mark.parametrize(
    ("words", "written_word", "read_as"),
    [
        ("classes: [no, yes]", "no", "False"),
        ("classes: [On, 'off']", "On", "True"),
        ("classes: [010, 020]", "010", "8"),
        ("classes: [1_000, 2]", "1_000", "1000"),
        ("classes: [1.50, 2.5]", "1.50", "1.5"),
        ("classes: [1:30, 2]", "1:30", "90"),
        ("classes: [~, a]", "~", "None"),
        ("classes: [a, b]\nsource: {path: p, labels: {y: a, n: b, yes: a}}", "yes", "True"),
        ("classes: [a, b]\nsource: {path: p, where: {genre: no}}", "no", "False"),
        ("classes: [a, 'no']\nprompt: {template: '{mask}', words: {a: x, no: y}}", "no", "False"),
    ],
)
def test_a_word_that_yaml_reads_as_something_else_is_refused(
    tmp_path: Path, words: str, written_word: str, read_as: str
) -> None:
    with pytest.raises(UserError, match=r"task\.yaml, line \d: ") as refused:
        Task.read(written(tmp_path, f"name: k\ntexts: [a]\n{words}"))
    message = f'YAML reads a bare {written_word} as {read_as}; write "{written_word}" in quotes'
    assert message in str(refused.value)


def test_an_empty_field_is_refused_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.yaml, line 3: classes is empty; fill it in, or"):
        Task.read(written(tmp_path, "name: k\ntexts: [a]\nclasses:\nrange: [0, 5]"))


def test_numbers_and_dates_are_class_names_as_they_are_written(tmp_path: Path) -> None:
    task = Task.read(
        written(tmp_path, "name: k\ntexts: [a]\nclasses: [1, 2.5, 2020-01-31, None, NA, y]")
    )
    assert task.classes == ["1", "2.5", "2020-01-31", "None", "NA", "y"]


def test_numbers_map_to_classes_in_source_labels(tmp_path: Path) -> None:
    task = Task.read(
        written(
            tmp_path,
            "name: k\ntexts: [a]\nclasses: [a, b]\nsource: {path: p, labels: {1: a, 2.0: b}}",
        )
    )
    assert task.source.labels == {"1": "a", "2.0": "b"}


@pytest.mark.parametrize("word", [True, None])
def test_a_boolean_or_nothing_among_inline_classes_is_refused(word: object) -> None:
    with pytest.raises(UserError, match="the task given inline: classes: YAML reads a bare"):
        Task.read(KETTLES | {"classes": ["a", word]})


@pytest.mark.parametrize(
    ("text", "line", "first"),
    [
        ("name: k\ntexts: [a]\nclasses: [a, b]\nclasses: [b, a]\n", 4, 3),
        ("name: k\nsource:\n  path: a\n  path: b\n", 4, 3),
        ("name: k\nprompt: {words: {a: x, b: y,\n a: z}}\n", 3, 2),
    ],
)
def test_a_key_that_occurs_twice_is_refused_with_both_lines(
    tmp_path: Path, text: str, line: int, first: int
) -> None:
    with pytest.raises(UserError, match=rf"line {line}: the key .* first in line {first}"):
        Task.read(written(tmp_path, text))


def test_paths_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KETTLES", str(tmp_path / "here"))
    written(tmp_path, KETTLES | {"source": {"path": "$KETTLES/data"}})
    assert Task.read("~/task.yaml").source.path == str(tmp_path / "here/data")
    with pytest.raises(UserError, match="the environment variable TEAPOTS is not set"):
        Task.read("${TEAPOTS}/task.yaml")


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
