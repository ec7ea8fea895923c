"""The documentation is correct: Python and commands run, configurations are read, options exist.

The blocks of a page are processed from top to bottom, in a folder where the backbone's name
refers to a tiny model. A block that begins with a comment naming a file, such as `# kettles.yaml:
...`, is written to that file. `python` blocks are executed. `yaml` blocks that define a task, a
comparison or a configuration are read. In `console` blocks every `$ mtl` and `$ make` command
must parse; in a block marked `run` it is executed, and an error shown on the page must be the
error that is printed. Blocks marked `not-run` are skipped.
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
from experiments.run import run_table
from mtl.__main__ import main
from mtl.cli.parsed import run_name_of
from mtl.compare.definition import Experiment
from mtl.tasks import Task
from tests.conftest import save_backbone

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
]
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w./-]+\.(?:py|yaml))\b")
# A command with its continuation lines, and the output shown below it.
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
LIGHTNING_COMMANDS = ("fit", "validate", "test", "predict")
SAMPLE = "--tasks+=tasks/samples/sentiment"
TARGETS = re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE)
# The functions that read a target's ARGS.
TAKES_ARGS: dict[str, Callable[..., None]] = {
    "table": run_table,
    "affinity": affinity,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_can_be_followed(
    page: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_backbone("bert", in_tmp / "bert-base-uncased")
    monkeypatch.syspath_prepend(in_tmp)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for language, marks, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if "not-run" in marks:
            continue
        if name := FILE_NAME.match(text):
            Path(name[1]).write_text(text, encoding="utf-8")
        if language == "python":
            exec(text, namespace)
        elif language == "yaml":
            read_yaml(text)
        elif language == "console":
            for command, output in COMMAND.findall(text):
                arguments = shlex.split(command.replace("\\\n", " "), comments=True)
                follow(arguments, output, "run" in marks, monkeypatch, capsys)


def read_yaml(text: str) -> None:
    fields = yaml.safe_load(text)
    if fields.keys() & {"texts", "tokens"}:
        Task.read_all(fields)
    elif "question" in fields:
        Path("page_table.yaml").write_text(text)
        Experiment.read("page_table.yaml")
    elif fields.keys() & {"tasks", "data", "model", "trainer"}:
        Path("page.yaml").write_text(text)
        run_name_of(["fit", *([] if "tasks" in fields else [SAMPLE]), "-c", "page.yaml"])


def follow(
    arguments: list[str],
    output: str,
    marked_run: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Runs or parses one command of a page."""
    if arguments[:3] == ["python", "-m", "mtl"]:
        arguments = arguments[2:]
    if arguments[0] == "echo" and arguments[2:4] == ["|", "mtl"]:
        stdin = io.TextIOWrapper(io.BytesIO(f"{arguments[1]}\n".encode()))
        monkeypatch.setattr("sys.stdin", stdin)
        arguments = arguments[3:]
    if arguments[0] == "make":
        parse_target(arguments[1:])
    elif arguments[0] == "mtl" and marked_run:
        execute(arguments[1:], output, capsys)
    elif arguments[0] == "mtl":
        parse(arguments[1:], capsys)


def execute(arguments: list[str], output: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    fails = output.startswith("mtl: error:")
    try:
        main(arguments)
    except SystemExit as exit_:
        assert bool(exit_.code) == fails, capsys.readouterr().err
    if fails:
        message = capsys.readouterr().err.replace(str(Path.cwd()), "/home/me")
        assert message.startswith(output.strip().removesuffix(" ..."))


def parse(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Parses a command that is not executed."""
    redirection = (index for index, word in enumerate(arguments) if word in (">", "|"))
    arguments = arguments[: next(redirection, None)]
    command, options = arguments[0], arguments[1:]
    try:
        if command.startswith("--"):
            main(arguments)
        elif command == "doctor":
            run_name_of(["fit", *options])
        elif command in LIGHTNING_COMMANDS and "--input" not in options:
            # A checkpoint names its tasks; parsing alone needs one.
            run_name_of([command, *([SAMPLE] if "--ckpt_path" in options else []), *options])
        else:
            parse_by_help(command, options, capsys)
    except SystemExit as exit_:
        assert exit_.code == 0, capsys.readouterr().err


def parse_by_help(command: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Checks options of a command with its own parser against its help, others against `fit`'s."""
    lightning_options = [
        word for pair in pairwise(options) if re.match(r"--\w+\.", pair[0]) for word in pair
    ]
    run_name_of(["fit", SAMPLE, *lightning_options])
    with pytest.raises(SystemExit):
        main([command, "--help"])
    help_text = capsys.readouterr().out
    for option in options:
        if option.startswith("--") and option not in lightning_options:
            assert option.partition("=")[0] in help_text, f"mtl {command} has no option {option}"


def parse_target(arguments: list[str]) -> None:
    variables = dict(word.split("=", 1) for word in arguments[1:])
    kind, _, table = arguments[0].partition("-")
    assert arguments[0] in TARGETS or kind == "table", arguments
    if table:
        assert variables.get("SIZE", "mini") in Experiment.read(table).sizes
    options = shlex.split(variables.get("ARGS", ""))
    names = {option[2:] for option in options if option.startswith("--")}
    assert not names or names <= set(inspect.signature(TAKES_ARGS[kind]).parameters)
