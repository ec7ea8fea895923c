"""What a backbone's folder, a task file and a configuration from someone else can do.

Each test is a sentence of docs/security.md. The payloads are harmless: they create the file
`created`.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import BertModel

import mtl
from mtl.__main__ import main
from mtl.data.sources import open_split
from mtl.errors import UserError
from mtl.modules.backbone import load_config, load_encoder, load_language_model, load_tokenizer
from mtl.tasks import Task
from mtl.tasks.templates import parse_template

CODE = """
from pathlib import Path
Path("created").touch()
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
class Config(BertConfig): pass
class Model(BertModel): pass
class Tokens(PreTrainedTokenizerFast): pass
"""
LOADERS = (load_tokenizer, load_config, load_encoder, load_language_model)


class Creates:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("created"),)


@pytest.fixture
def stranger(masked_backbone: str, in_tmp: Path) -> Path:
    """A copy of a backbone in the working directory, with a module `code` in it."""
    shutil.copytree(masked_backbone, "backbone")
    Path("backbone/code.py").write_text(CODE)
    return in_tmp / "backbone"


def edit_json(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("load", LOADERS)
@pytest.mark.parametrize("model_type", ["bert", "mine"])
def test_no_code_in_a_backbones_folder_is_imported(
    load: Any, model_type: str, stranger: Path
) -> None:
    classes = {
        "AutoConfig": "code.Config",
        "AutoModel": "code.Model",
        "AutoModelForMaskedLM": "code.Model",
        "AutoTokenizer": [None, "code.Tokens"],
    }
    edit_json(stranger / "config.json", auto_map=classes, model_type=model_type)
    edit_json(stranger / "tokenizer_config.json", auto_map=classes)
    try:
        load(str(stranger))
    except UserError as error:
        assert "cannot be loaded" in str(error)
    assert not Path("created").exists()


def test_a_kernel_of_the_hub_is_refused(stranger: Path) -> None:
    edit_json(stranger / "config.json", attn_implementation="someone/kernel")
    for load in (load_encoder, load_language_model):
        with pytest.raises(UserError, match="asks for the attention kernel someone/kernel"):
            load(str(stranger))


def test_a_pickle_in_a_backbones_folder_executes_nothing(stranger: Path) -> None:
    (stranger / "model.safetensors").unlink()
    torch.save({"weights": Creates()}, stranger / "pytorch_model.bin")
    for load in (load_encoder, load_language_model):
        with pytest.raises(UserError, match="cannot be loaded: it holds pickled objects"):
            load(str(stranger))
    assert not Path("created").exists()


def test_safetensors_are_preferred(stranger: Path) -> None:
    torch.save({"weights": Creates()}, stranger / "pytorch_model.bin")
    model, _ = load_encoder(str(stranger))
    assert isinstance(model, BertModel)
    assert not Path("created").exists()


def test_links_in_a_backbones_folder_are_read_and_not_written(stranger: Path) -> None:
    (stranger.parent / "elsewhere").mkdir()
    names = ("config.json", "model.safetensors", "tokenizer.json")
    for name in names:
        (stranger / name).rename(stranger.parent / "elsewhere" / name)
        (stranger / name).symlink_to(stranger.parent / "elsewhere" / name)
    before = contents(stranger.parent)
    for load in LOADERS:
        load(str(stranger))
    assert contents(stranger.parent) == before
    secret = stranger.parent / "secret"
    secret.write_text("password")
    for name in names:
        (stranger / name).unlink()
        (stranger / name).symlink_to(secret)
        with pytest.raises(UserError, match="cannot be loaded") as refusal:
            for load in LOADERS:
                load(str(stranger))
        assert "password" not in str(refusal.value)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_task_file_reads_data_through_links(in_tmp: Path) -> None:
    Path("elsewhere.csv").write_text("text,label\ngood,good\n")
    Path("data").mkdir()
    Path("data/train.csv").symlink_to(in_tmp / "elsewhere.csv")
    source = {"path": str(in_tmp / "data")}
    task = {"name": "mood", "texts": ["text"], "classes": ["bad", "good"], "source": source}
    records = open_split(Task.read(task), "train").records()
    assert [record["text"] for record in records] == ["good"]


def test_modules_in_the_working_directory_replace_no_installed_ones(in_tmp: Path) -> None:
    for name in ("yaml", "json", "torch"):
        Path(f"{name}.py").write_text('open("created", "w")')
    environment = {**os.environ, "PYTHONPATH": str(Path(mtl.__file__).parents[1])}
    command = [sys.executable, "-m", "mtl", "--version"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert not Path("created").exists()


TAGGED = '!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["created"]]'


@pytest.mark.parametrize("content", [TAGGED, f"name: {TAGGED}"])
def test_yaml_tags_create_no_objects(
    content: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file.yaml").write_text(content)
    with pytest.raises(UserError, match=r"file\.yaml"):
        Task.read(Path("file.yaml"))
    for arguments in (
        ["fit", "-c", "file.yaml"],
        ["fit", "--tasks+=file.yaml"],
        ["compare", "file.yaml", "--plan"],
    ):
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        assert exit.value.code == 2
    assert not Path("created").exists()


def test_a_task_file_names_no_classes_and_evaluates_nothing(in_tmp: Path) -> None:
    task = {"name": "mood", "texts": ["text"], "classes": ["bad", "good"]}
    for extra in (
        {"class_path": "pathlib.Path"},
        {"source": {"path": ".", "class_path": "pathlib.Path"}},
        {"metrics": ["pathlib.Path.touch"]},
    ):
        Path("mood.yaml").write_text(yaml.safe_dump(task | extra))
        with pytest.raises(UserError):
            Task.read(Path("mood.yaml"))
    prompt = {"template": "{text.__class__} {mask}", "words": {"bad": "a", "good": "b"}}
    Path("mood.yaml").write_text(yaml.safe_dump(task | {"prompt": prompt}))
    with pytest.raises(UserError):
        parse_template(Task.read(Path("mood.yaml")))
