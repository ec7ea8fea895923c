"""Mistakes in the words of a command: what they suggest, and that nothing right is refused."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentError, ArgumentParser

from mtl.__main__ import main
from mtl.cli import index_builder, option_index
from mtl.cli.early import check_early, check_files
from mtl.cli.index_builder import build_index
from mtl.cli.lightning import command_line
from mtl.cli.linked_options import check_linked
from mtl.cli.option_index import OptionIndex, Values, read_index, write_index
from mtl.cli.parsed import ParsedCommandLine, parse_command
from mtl.cli.short_help import EVALUATION, FIT
from mtl.cli.word_values import check_value
from mtl.cli.words import check_words
from mtl.errors import UserError
from mtl.system.package_data import CONFIGS, config_names

INLINE = '--tasks=[{"name": "a", "texts": ["t"], "classes": ["x", "y"]}]'
# What a user of other libraries types, and what this command line calls it.
MEANT = {
    "--lr 1": "--model.lr",
    "--epochs 3": "--trainer.max_epochs",
    "--num_train_epochs 3": "--trainer.max_epochs",
    "--learning_rate 1": "--model.lr",
    "--batch_size 8": "--data.batch_size",
    "--max_seq_length 8": "--data.max_length",
    "--output_dir x": "--out",
    "-o x": "--out",
    "--seed 1": "--seed_everything",
    "--gpus 1": "--trainer.devices",
    "--bert_model x": "--backbone",
    "--trainer.max_epcohs 3": "--trainer.max_epochs",
    "--model.lrr 1": "--model.lr",
    "--trainer.lr 1": "--model.lr",
    "--model.head_lr 1": "--model.head or --model.lr",
    "--data mixed": "-c sampling/mixed",
    "--data proportional": "-c sampling/proportional or ProportionalDataModule",
    "--model pals": "-c methods/pals or PALs",
    "--model MutliHead": "MultiHead",
    "--model.balancer pcgrad": "-c balancing/pcgrad",
    "--model.balancer=Equl": "Equal",
    "--model.optimizer AdamW": "torch.optim.AdamW",
    "--model.pair_head SAM": "SAN",
    "--trainer.callbacks+=EarlyStop": "EarlyStopping",
    "--trainer.logger CSVLoger": "CSVLogger",
    "--data sampling/mixed": "-c sampling/mixed",
    "--model.balancer balancing/pcgrad.yaml": "-c balancing/pcgrad",
}
REFUSED = {
    "--model.pooling maen": "expected 'cls', 'mean', 'pooler' or 'last'. Did you mean 'mean'?",
    "--trainer.max_epochs abc": "--trainer.max_epochs abc: expected a whole number",
    "--model.warmup 2": "--model.warmup 2: give 0 or more, and at most 1",
    "--data.batch_size 0": "--data.batch_size 0: give 1 or more",
    "--data.group_by_length maybe": "expected 'true' or 'false'",
    "--seed_everything -1": "--seed_everything -1: give 0 or more, and at most 4294967295",
    "--trainer.precision 8": "--trainer.precision 8: expected ",
    "--data.max_examples 0": "--data.max_examples 0: give 1 or more",
    "--data.max_examples all": "--data.max_examples all: expected a whole number",
    "--model.lr nan": "--model.lr nan: expected a number",
    "--data.batch_size 2.5": "--data.batch_size 2.5: expected a whole number",
    "--data.batch_size true": "--data.batch_size true: expected a whole number",
    "--data.max_length=": "--data.max_length '': expected a whole number",
    "--trainer.max_epochs=": "--trainer.max_epochs '': expected a whole number",
    "runs/x": "runs/x: no option precedes this value",
    "task.yaml": "give a task with --tasks+=task.yaml",
    "--model my_methods.Mine": "there is no module 'my_methods'",
    "--model.backbone x": "--model.backbone has no effect; give --backbone instead",
    "--data.seed=3": "--data.seed has no effect; give --seed_everything instead",
    "--data.init_args.tasks+=x": "--data.init_args.tasks+ has no effect; give --tasks+ instead",
    "--model.lr 1e-3x": "--model.lr 1e-3x: expected a number",
    "--data.holdout .": "--data.holdout .: expected a number",
    "--data.max_length 8 --data mtl.methods.MultiHead": "--data mtl.methods.MultiHead: there is no",
}


@pytest.fixture(scope="module")
def index() -> OptionIndex:
    return build_index(command_line(ParsedCommandLine, ["fit", INLINE])._subcommand_parsers)


def message(words: str, index: OptionIndex) -> str:
    with pytest.raises(UserError) as error:
        check_words("fit", words.split(), index)
    return str(error.value)


@pytest.mark.parametrize("words", MEANT)
def test_an_unknown_name_suggests_what_is_valid_in_its_place(
    words: str, index: OptionIndex
) -> None:
    assert f"Did you mean {MEANT[words]}?" in message(words, index)


@pytest.mark.parametrize("words", REFUSED)
def test_a_wrong_value_names_what_is_accepted(words: str, index: OptionIndex) -> None:
    assert REFUSED[words] in message(words, index)


def test_arguments_belong_to_the_class_that_the_command_names(index: OptionIndex) -> None:
    check_words("fit", ["--model", "PALs", "--model.size", "8"], index)
    check_words("fit", ["--model.size", "8", "-c", str(CONFIGS / "methods/pals.yaml")], index)
    assert "unknown option --model.size" in message("--model.size 8", index)
    assert "unknown option --model.size" in message(
        "--model mtl.methods.CAMTL --model.size 8", index
    )


def test_a_file_with_an_ending_is_no_class(index: OptionIndex, in_tmp: Path) -> None:
    Path("kettles.yaml").touch()
    for file in ("--tasks+=kettles.yaml", "--out runs.v2"):
        assert "Did you mean MultiHead?" in message(f"{file} --model MutliHead", index)


def test_what_only_the_full_parser_knows_is_left_to_it(index: OptionIndex, in_tmp: Path) -> None:
    Path("evil.yaml").write_text("class_path: evil.Method\n")
    for words in (
        "--model sys.Mine --model.anything 1 --trainer.callbacks Own",
        "--ckpt_path run --model.anything 1",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.patience 3",
        "--trainer.strategy anything --trainer.profiler simple",
        "--model evil.yaml",
        "--print_config",
        "--model.optimizer_args.eps 1",
        "--model.init_args.lr 1e-3",
        "--lr 1 --help",
    ):
        check_words("fit", words.split(), index)


def test_the_short_help_names_options_that_exist(index: OptionIndex) -> None:
    arguments = {
        f"--{section}.{name}"
        for section, cls in (("model", "MultiHead"), ("data", "RoundRobinDataModule"))
        for name in index.arguments[cls]
    }
    for command, options in (("fit", FIT), ("validate", EVALUATION), ("test", EVALUATION)):
        names = {option.name.removesuffix("+") for option in options}
        assert names <= {*index.options[command], *arguments}
    named = " ".join(option.help for option in FIT).replace(",", " ").split()
    classes = {word for word in named if re.search("[a-z][A-Z]|LoRA|PALs", word)}
    assert len(classes) > 4 and classes <= set(index.arguments)


@pytest.mark.parametrize("name", [name for name in config_names() if name[:6] != "tasks/"])
def test_no_configuration_that_ships_is_refused(name: str, index: OptionIndex) -> None:
    check_words("fit", ["-c", str(CONFIGS / f"{name}.yaml")], index)


def test_the_configuration_of_a_run_is_not_refused(index: OptionIndex, in_tmp: Path) -> None:
    command = parse_command(["fit", INLINE, "--trainer.callbacks+=ModelCheckpoint"])
    config = command.plain_config("fit")
    Path("config.yaml").write_text(yaml.safe_dump(config))
    check_words("fit", ["-c", "config.yaml"], index)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--score median", "--score 'median': write sums, products and quotients"),
        ("--score (rte.accuracy", "--score '\\(rte.accuracy': not an expression"),
        ("--score rtee.accuracy", "--score 'rtee.accuracy': unknown task 'rtee'"),
        ("--score rte.f1", "--score 'rte.f1': task 'rte': unknown metric 'f1'"),
        ("--model.losses {rtee: focal}", "--model.losses: unknown task 'rtee'. .* mean 'rte'"),
        ("--data.max_examples {cola: 3}", "--data.max_examples: unknown task 'cola'"),
        ("--tasks+ tasks/rte", "the name 'rte' occurs twice; give every task its own"),
    ],
)
def test_options_name_the_tasks_of_the_command(words: str, message: str, in_tmp: Path) -> None:
    command = ["--tasks+=tasks/rte", *words.split(" ", 1)]
    with pytest.raises(UserError, match=message):
        check_files("fit", command)
    if "tasks/rte" in words:
        return
    # A configuration or a checkpoint may name further tasks.
    Path("more.yaml").write_text("tasks: [tasks/cola]")
    for more in (["-c", "more.yaml"], ["--tasks", "[tasks/cola]"]):
        if not re.search("write sums|not an expression", message):
            check_files("fit", [*command, *more])


KEYS = {
    "lr: 1": "line 1: unknown option lr. Did you mean model.init_args.lr?",
    "trainer:\n  max_epoch: 3": "line 2: unknown option trainer.max_epoch. "
    "Did you mean trainer.max_epochs",
    "model:\n  class_path: PALs\n  init_args:\n    sise: 3": "line 4: unknown option model.sise. "
    "Did you mean model.init_args.size?",
    "data: {class_path: RoundRobin}": "line 1: RoundRobin: there is no such class. "
    "Did you mean RoundRobinDataModule?",
    "trainer:\n  callbacks:\n    - class_path: EarlyStop": "line 3: EarlyStop: there is no such "
    "class. Did you mean EarlyStopping?",
    "model: {init_args: {warmup: 2}}": "line 1: model.warmup 2: give 0 or more, and at most 1",
}


@pytest.mark.parametrize("content", KEYS)
def test_mistakes_in_a_configuration_name_file_and_line(
    content: str, index: OptionIndex, in_tmp: Path
) -> None:
    Path("my.yaml").write_text(content)
    error = message("-c my.yaml", index)
    assert error.startswith("my.yaml, ") and KEYS[content] in error


ODD = ["nan", "inf", "2.5", "1e3", "yes", "on", "True", "None", "null", "NULL", "b", "-1", "7"]


@pytest.mark.parametrize(
    "hint",
    [
        *(int, float, bool, int | None, int | bool, bool | None, int | float | None),
        *(Literal["a", "b"], Literal["a", "1"] | None, Literal["a"] | int | None),
        *(dict[str, int] | int | None, float | dict[str, float]),
    ],
    ids=str,
)
def test_a_word_is_refused_only_if_the_parser_refuses_it(hint: Any) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--x", type=hint)
    values = index_builder._values(hint)
    refused = 0
    for word in ODD:
        try:
            check_value("--x", word, values)
        except UserError:
            refused += 1
            with pytest.raises(ArgumentError):
                parser.parse_args([f"--x={word}"])
    assert refused > 3


def values_of(hint: Values) -> st.SearchStrategy[str]:
    """Accepted values. Not null for others: the parser leaves its refusal to the classes."""
    if not hint.number:
        return st.sampled_from(hint.words)
    low, high = (hint.bounds or [0, 1])[:2]
    numbers = st.floats(max(low, 1e-3), min(high, 1e3), exclude_max=True, allow_nan=False)
    return numbers.map(lambda value: str(int(value) + 1 if hint.number == "int" else value))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_command_that_the_parser_accepts_is_not_refused(
    index: OptionIndex, data: st.DataObject
) -> None:
    options = {name: hint for name, hint in index.options["fit"].items() if hint is not None}
    options |= {
        f"--{section}.{name}": hint
        for section, cls in (("model", "MultiHead"), ("data", "RoundRobinDataModule"))
        for name, hint in index.arguments[cls].items()
        if hint is not None
    }
    names = data.draw(st.lists(st.sampled_from(sorted(options)), min_size=1, max_size=3))
    words = [f"{name}={data.draw(values_of(options[name]))}" for name in names]
    try:
        parse_command(["fit", INLINE, *words])
    except (SystemExit, UserError):
        return
    check_words("fit", [INLINE, *words], index)


def test_an_index_holds_for_one_state_of_the_sources(
    index: OptionIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    read_index.cache_clear()
    assert read_index() is None
    write_index(index)
    assert read_index() == index
    monkeypatch.setattr(option_index, "__version__", "0.0.0")
    read_index.cache_clear()
    assert read_index() is None
    write_index(index)
    file = tmp_path / "mtl/options.json"
    file.write_text(file.read_text()[:-20])
    read_index.cache_clear()
    assert read_index() is None


def test_a_cache_that_cannot_be_written_is_no_error(
    index: OptionIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    read_index.cache_clear()
    write_index(index)
    assert read_index() is None


@pytest.fixture
def filled_cache(index: OptionIndex) -> Iterator[None]:
    read_index.cache_clear()
    write_index(index)
    yield
    read_index.cache_clear()


def test_mistakes_are_reported_before_the_libraries_are_imported(
    filled_cache: None, in_tmp: Path
) -> None:
    code = """
import sys
from mtl.__main__ import main
try:
    main(sys.argv[1:])
finally:
    print("torch" in sys.modules or "lightning" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for words in (
        "fit --lr 1",
        "fit --model MutliHead",
        "fit -c methods/palz",
        "fit --tasks+=nowhere.yaml",
        "test --ckpt_path nowhere",
        "predict --ckpt_path nowhere --input texts.txt",
        "predict --ckpt_path nowhere",
        "export --ckpt_path nowhere --out x",
        "export --onxx",
        "ensemble nowhere --out x",
        "merge nowhere --out x",
        "merge --help",
        "compare --tasks+=nowhere.yaml --trainer.max_epoch 3",
        "compare --tasks+=tasks/rte --budget soon",
        "fit --tasks+=tasks/rte --score median",
        "doctor --lr 3",
        "export --help",
        "predict --help",
        "fit --help",
    ):
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", code, *words.split()],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert done.stdout.splitlines()[-1:] == ["False"], (words, done.stderr)
        assert "Traceback" not in done.stderr
        assert done.returncode == (0 if "--help" in words else 2)
        assert time.perf_counter() - start < 20


def test_help_is_the_same_the_second_time(
    capsys: pytest.CaptureFixture[str], index: OptionIndex, filled_cache: None
) -> None:
    main(["validate", "--help", "all"])
    first = capsys.readouterr().out
    main(["validate", "--help", "all"])
    assert capsys.readouterr().out == first
    assert "--trainer.max_epochs" in first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--tasks tasks/rte", r"--tasks tasks/rte: .* with a plus, --tasks\+=tasks/rte"),
        ("-c /", "-c /: that is a folder"),
        ("-c folder", "-c folder: that is a folder"),
        ("-c text.csv", "text.csv: not a configuration: it holds 'review' instead of options"),
    ],
)
def test_files_of_another_kind_are_refused(words: str, message: str, in_tmp: Path) -> None:
    Path("folder").mkdir()
    Path("text.csv").write_text("review\n")
    with pytest.raises(UserError, match=message):
        check_files("fit", words.split())
        check_words("fit", words.split(), OptionIndex({"fit": {}}, {}, {}, {}))


@pytest.mark.parametrize(
    ("word", "hint"),
    [("--tasks+=a.yaml", ""), ("-v", ""), ("--versoin", "Did you mean '--version'?")],
)
def test_a_command_precedes_its_options(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main([word])
    error = capsys.readouterr().err
    assert exit.value.code == 2 and f"{word}: a command comes first" in error and hint in error


def test_a_configuration_names_the_encoder_at_its_top(in_tmp: Path) -> None:
    Path("own.yaml").write_text("model: {class_path: PALs, init_args: {backbone: x}}\n")
    with pytest.raises(SystemExit):
        parse_command(["fit", INLINE, "-c", "own.yaml"])
    with pytest.raises(
        UserError, match="own.yaml: model: backbone has no effect; give `backbone:`"
    ):
        check_linked(["-c", "own.yaml"])


def test_a_run_is_resumed_or_begun_with_the_weights_of_another() -> None:
    words = ["--ckpt_path", "last", "--out", "run", "--model.init_from", "other"]
    with pytest.raises(UserError, match="init_from begins a new run .* give one of them"):
        check_early("fit", words)
