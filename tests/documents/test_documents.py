"""What the documents say is so: their Python and commands run, their configurations are read, their options exist.

A page's blocks are taken from top to bottom, in a folder where the backbone's name means a tiny model. A block that begins
with a comment naming a file, such as `# kettles.yaml: ...`, is that file. `python` is run; `yaml` that is a task, a table or a
configuration is read; of `console` each `$ mtl` and `$ make` has to be understood, and is run where the block is marked `run`:
what it shows as an error must be the error. A block marked `not-run` is left alone.
"""

import inspect
import io
import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from experiments.affinity import affinity
from experiments.quickstart import quickstart
from experiments.run import run_table
from experiments.table import Table
from mtl.__main__ import main
from mtl.cli.lightning import name_of
from mtl.tasks import Task
from tests.conftest import save_backbone

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# ([\w./-]+\.(?:py|yaml))\b")
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
LIGHTNINGS = ("fit", "validate", "test", "predict")
SAMPLE = "--tasks+=configs/tasks/samples/sentiment.yaml"
TARGETS = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
TAKES_ARGS: dict[str, Callable[..., None]] = {
    "table": run_table,
    "quickstart": quickstart,
    "affinity": affinity,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_can_be_followed(
    page: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_backbone("bert", in_tmp / "bert-base-uncased")
    (in_tmp / "configs").symlink_to(ROOT / "configs")
    monkeypatch.syspath_prepend(in_tmp)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for language, marks, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if "not-run" in marks:
            continue
        if named := FILE.match(text):
            Path(named[1]).write_text(text, encoding="utf-8")
        if language == "python":
            exec(text, namespace)
        elif language == "yaml":
            read(text)
        elif language == "console":
            for command, shown in COMMAND.findall(text):
                words = shlex.split(command.replace("\\\n", " "), comments=True)
                words = words[2:] if words[:3] == ["python", "-m", "mtl"] else words
                if words[0] == "echo" and words[2:4] == ["|", "mtl"]:
                    monkeypatch.setattr(
                        "sys.stdin", io.TextIOWrapper(io.BytesIO(f"{words[1]}\n".encode()))
                    )
                    words = words[3:]
                if words[0] == "mtl":
                    follow(words[1:], shown, capsys) if "run" in marks else understand(
                        words[1:], capsys
                    )
                elif words[0] == "make":
                    understand_target(words[1:])


def read(text: str) -> None:
    fields = yaml.safe_load(text)
    if "texts" in fields:
        Task.read(fields)
    elif "question" in fields:
        Path("page_table.yaml").write_text(text)
        Table.read("page_table.yaml")
    elif fields.keys() & {"tasks", "data", "model", "trainer"}:
        Path("page.yaml").write_text(text)
        name_of(["fit", *([] if "tasks" in fields else [SAMPLE]), "-c", "page.yaml"])


def understand(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = words[: next((place for place, word in enumerate(words) if word in (">", "|")), None)]
    try:
        if words[0].startswith("--"):
            main(words)
        elif words[0] == "doctor":
            name_of(["fit", *words[1:]])
            return
        elif words[0] in LIGHTNINGS and "--input" not in words:
            name_of(
                [words[0], *([SAMPLE] if "--ckpt_path" in words else []), *words[1:]]
            )  # a checkpoint knows its tasks
        else:
            of_lightning = [
                word for pair in pairwise(words) if re.match(r"--\w+\.", pair[0]) for word in pair
            ]
            name_of(["fit", SAMPLE, *of_lightning])
            words = [word for word in words if word not in of_lightning]
            main([*words[:1], *(["--input", "-"] if "--input" in words else []), "--help"])
    except SystemExit as done:
        assert done.code == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert (words[0] in LIGHTNINGS and "--input" not in words) or all(
        option in shown for option in options
    ), words


def understand_target(words: list[str]) -> None:
    given = dict(word.split("=", 1) for word in words[1:])
    kind, _, table = words[0].partition("-")
    assert words[0] in TARGETS or kind == "table", words
    if table:
        assert given.get("SIZE", "mini") in Table.read(table).sizes
    options = [word[2:] for word in shlex.split(given.get("ARGS", "")) if word.startswith("--")]
    assert set(options) <= set(inspect.signature(TAKES_ARGS[kind]).parameters if options else [])


def follow(words: list[str], shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    refused = shown.startswith("mtl: error:")
    try:
        main(words)
    except SystemExit as done:
        assert bool(done.code) == refused, capsys.readouterr().err
    if refused:
        assert (
            capsys.readouterr()
            .err.replace(str(Path.cwd()), "/home/me")
            .startswith(shown.strip().removesuffix(" ..."))
        )
