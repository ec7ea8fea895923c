"""`~` and variables in paths: on the command line, in configurations and in comparisons."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mtl.__main__ import main
from mtl.cli.paths import expand_paths, reject_empty_values
from mtl.errors import UserError
from mtl.system.package_data import find_config
from mtl.training.run_folder import find_checkpoint


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MTL_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("MTL_UNSET", raising=False)
    return tmp_path


def test_a_word_that_begins_with_home_or_a_variable_is_expanded(home: Path) -> None:
    words = ["--out=~/run", "--input", "$MTL_DATA/a.csv", "-c~/my.yaml", "--tasks+=${MTL_DATA}/t"]
    assert expand_paths(words) == [
        f"--out={home}/run",
        "--input",
        f"{home}/data/a.csv",
        f"-c{home}/my.yaml",
        f"--tasks+={home}/data/t",
    ]


@given(st.text(alphabet="ab/.~$ =-{}'\"1", min_size=1))
def test_other_words_stay_as_they_are(text: str) -> None:
    words = [f"a{text}", f'{{"a": "{text}"}}', "--score=(a.accuracy + b.pearson) / 2"]
    assert expand_paths(words) == words


def test_a_variable_that_is_not_set_is_refused_at_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["fit", "--out=$MTL_UNSET/run"])
    assert exit_.value.code == 2
    assert (
        "$MTL_UNSET/run: the environment variable MTL_UNSET is not set" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["--out", ""], "--out: "),
        (["--lr", "1", "--out="], "--out: "),
        (["--tasks+="], "--tasks+: "),
        (["-c", ""], "-c: "),
        (["", "run"], ""),
    ],
)
def test_empty_values_are_refused(words: list[str], option: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(option)}the value is empty"):
        reject_empty_values(words)
    reject_empty_values([word or "x" for word in words if not word.endswith("=")])


def test_paths_in_a_configuration_are_expanded(
    home: Path, task_files: list[Path], backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = home / "my.yaml"
    file.write_text(yaml.safe_dump({"out": "~/run", "data": {"init_args": {"root": "$MTL_DATA"}}}))
    words = ["fit", f"--tasks+={task_files[0]}", "--backbone", backbone]
    with pytest.raises(SystemExit) as exit_:
        main([*words, "-c", str(file), "--print_config"])
    assert not exit_.value.code
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["out"] == str(home / "run")
    assert printed["data"]["init_args"]["root"] == str(home / "data")


def test_names_of_configurations_and_checkpoints_are_expanded(home: Path) -> None:
    for name in ("a.ckpt", "suite.yaml"):
        (home / name).touch()
    assert find_checkpoint("~/a.ckpt", None, "test") == home / "a.ckpt"
    assert find_config("~/suite") == find_config("$HOME/suite.yaml") == home / "suite.yaml"
