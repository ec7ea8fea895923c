"""What a backbone's folder, a task file and a configuration from someone else can do.

Each test is a sentence of docs/security.md. The payloads are harmless: they create the file
`created`.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import BertModel

from mtl.__main__ import main
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
        with pytest.raises(UserError, match="cannot be loaded"):
            load(str(stranger))
    assert not Path("created").exists()


def test_safetensors_are_preferred(stranger: Path) -> None:
    torch.save({"weights": Creates()}, stranger / "pytorch_model.bin")
    model, _ = load_encoder(str(stranger))
    assert isinstance(model, BertModel)
    assert not Path("created").exists()


TAGGED = '!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ["created"]]'


@pytest.mark.parametrize("content", [TAGGED, f"name: {TAGGED}"])
def test_yaml_tags_create_no_objects(
    content: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file.yaml").write_text(content)
    with pytest.raises(UserError, match=r"file\.yaml"):
        Task.read(Path("file.yaml"))
    for arguments in (["fit", "-c", "file.yaml"], ["fit", "--tasks+=file.yaml"]):
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
