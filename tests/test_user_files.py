import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import mtl
from mtl.errors import UserError
from mtl.user_files import RepeatedKey, expand_path, parse_json, parse_yaml, read_yaml

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="ascii")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_values_without_repeated_keys_are_read_unchanged(value: Any) -> None:
    assert parse_yaml(yaml.safe_dump(value), "a.yaml") == value


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\na: 2",
        "b: {a: 1, a: 1}",
        "- {c: [{a: 1,\n 'a': 2}]}",
        "x: &m {y: 1}\nz: {a: *m, a: *m}",
    ],
)
def test_a_repeated_key_is_refused_at_any_depth(text: str) -> None:
    with pytest.raises(UserError, match=r"a\.yaml, line \d: the key 'a' occurs twice, first in"):
        parse_yaml(text, "a.yaml")


LAUGHS = "\n".join(
    ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))]
)


@pytest.mark.parametrize("text", [LAUGHS, "a: &a [*a]", "a: &a {b: *a}"])
def test_aliases_that_stand_for_too_many_values_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"a\.yaml: its aliases, .* more than 10,000 values"):
        parse_yaml(text, "a.yaml")


@pytest.mark.parametrize("text", ["[" * 100_000, "{a: " * 100_000, "- " * 101 + "x"])
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"a\.yaml, line 1: nested more than 100 levels deep"):
        parse_yaml(text, "a.yaml")
    assert parse_yaml("[" * 100 + "]" * 100, "a.yaml")


def test_every_yaml_text_is_read_with_these_checks() -> None:
    unchecked = re.compile(r"\byaml\.(\w*load\w*|compose\w*)\(")
    package = Path(mtl.__file__).parent
    found = {
        str(file.relative_to(package))
        for file in package.rglob("*.py")
        if unchecked.search(file.read_text(encoding="utf-8"))
    }
    assert found == {"user_files.py"}


def test_the_same_key_may_occur_in_different_mappings() -> None:
    assert parse_yaml("a: {a: 1}\nb: &m {a: 2}\nc: *m", "")["c"] == {"a": 2}


def test_a_repeated_key_in_json_is_refused() -> None:
    with pytest.raises(RepeatedKey, match="the key 'a' occurs twice"):
        parse_json('{"b": [{"a": 1, "a": 2}]}')


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: b".encode("utf-16"), "is UTF-16"),
        (b"a: b\nc: \xe9", "line 2: not UTF-8"),
        (b"a: [", "cannot be read as YAML"),
    ],
)
def test_an_unreadable_file_is_refused_with_its_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as refused:
        read_yaml(path)
    assert str(path) in str(refused.value)


def test_empty_paths_and_unknown_users_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="the path is empty"):
        expand_path("")
    with pytest.raises(UserError, match="no user 'nosuchuser' on this machine"):
        expand_path("~nosuchuser/x")
    monkeypatch.chdir(tmp_path)
    Path("~nosuchuser").mkdir()
    assert expand_path("~nosuchuser/x") == Path("~nosuchuser/x")


def test_home_and_variables_are_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", "/data")
    assert expand_path("~/a") == tmp_path / "a"
    assert expand_path("$DATA/a") == expand_path("${DATA}/a") == Path("/data/a")


def test_an_unset_variable_is_refused_unless_the_file_has_that_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="the environment variable DATUM is not set"):
        expand_path("$DATUM/a")
    (tmp_path / "$DATUM").touch()
    assert expand_path("$DATUM") == Path("$DATUM")
