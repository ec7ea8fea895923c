"""Exceptions that a user can fix become one message with a remedy; defects keep their traceback."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import StochasticWeightAveraging
from lightning.pytorch.strategies import FSDPStrategy

from mtl.cli.early import check_named
from mtl.cli.precision import FastTrainer
from mtl.cli.refusals import SYSTEM, refusal_behind, user_error_behind
from mtl.errors import UserError
from mtl.inference.loading import _instantiate
from mtl.methods import MultiTaskModule
from mtl.modules.loss_options import LossOptions
from mtl.training.run_folder import read_metrics
from mtl.training.trainer_checks import BOUNDS, UNSUITABLE, check_trainer_options


def raised(action: Any, *arguments: Any, **options: Any) -> BaseException:
    with pytest.raises(Exception) as error:
        action(*arguments, **options)
    return error.value


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("onnx", "pip install 'mtl-text[onnx]'"),
        ("onnxruntime.tools", "pip install 'mtl-text[onnx]'"),
        ("optuna", "pip install 'mtl-text[search]'"),
        ("submitit.core", "pip install 'mtl-text[slurm]'"),
        ("seqeval", "pip install 'seqeval'"),
        ("wandb", "pip install 'wandb'"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(module: str, remedy: str) -> None:
    message = refusal_behind(ModuleNotFoundError(f"No module named {module!r}"))
    assert message and message.startswith(f"{module.partition('.')[0]}: ")
    assert message.endswith(remedy)


def test_a_missing_module_of_mtl_is_a_defect() -> None:
    assert refusal_behind(ModuleNotFoundError("No module named 'mtl.missing'")) is None


@pytest.mark.parametrize("number", SYSTEM, ids=errno.errorcode.get)
def test_what_the_system_refuses_names_the_path_and_a_remedy(number: int) -> None:
    message = refusal_behind(OSError(number, os.strerror(number), "runs/a/last.ckpt"))
    assert message and message.startswith(f"runs/a/last.ckpt: {os.strerror(number)}; ")
    assert SYSTEM[number] in message


def test_a_folder_for_a_file_and_a_file_for_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, action in ((tmp_path, Path.read_text), (tmp_path / "file" / "x", Path.read_text)):
        message = refusal_behind(raised(action, path))
        assert message and message.startswith(f"{path}: ")


@pytest.mark.parametrize(
    "options",
    [
        {"devices": -1},
        {"devices": 0},
        {"strategy": "nosuch"},
        {"barebones": True, "logger": True},
        {"max_steps": -7},
        {"limit_val_batches": -1},
        {"max_time": "soon"},
    ],
    ids=str,
)
def test_what_lightning_refuses_is_a_message(options: dict[str, Any]) -> None:
    message = refusal_behind(raised(Trainer, accelerator="cpu", **options))
    assert message and message.startswith("trainer: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit"], "no tasks"),
        (["fit", "--model.lr", "1"], "no tasks"),
        (["test"], "mtl test needs a run"),
        (["predict", "--out", "run"], "mtl predict needs a run"),
    ],
    ids=str,
)
def test_a_command_names_what_it_works_on(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_named(words[0], words[1:])
    for named in (["--tasks+=a"], ["-c", "a"], ["--ckpt_path", "a"], ["--help"], ["-ca.yaml"]):
        check_named(words[0], [*words[1:], *named])


def test_a_wrong_call_of_lightning_is_a_defect() -> None:
    assert refusal_behind(raised(Trainer, no_such_argument=1)) is None
    assert refusal_behind(raised(int, "x")) is None


@pytest.mark.parametrize("option", BOUNDS)
def test_numbers_that_lightning_does_not_check_are_refused(option: str) -> None:
    with pytest.raises(UserError, match=f"--trainer.{option} -2: give "):
        FastTrainer(None, **{option: -2})


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": 0},
        {"max_epochs": "0"},
        {"limit_train_batches": 0.0},
        {"min_epochs": "5", "max_epochs": "1"},
        {"min_steps": 5, "max_steps": 4},
        {"max_time": "soon"},
        {"barebones": "true"},
        {"enable_checkpointing": False},
        {"callbacks": "StochasticWeightAveraging"},
        {"callbacks+": "lightning.pytorch.callbacks.StochasticWeightAveraging"},
        {"callbacks": [{"class_path": "EarlyStopping"}, StochasticWeightAveraging(1e-3)]},
        {"callbacks": "BatchSizeFinder"},
        {"callbacks": ["LearningRateFinder"]},
    ],
    # The text of an object has its address, which differs between the processes that run tests.
    ids=", ".join,
)
def test_options_with_which_nothing_is_trained_or_kept_are_refused(options: dict[str, Any]) -> None:
    name, value = next(iter(options.items()))
    shown = str(value).lower()
    if "callbacks" in name:
        shown = next(
            (each for each in UNSUITABLE if each in str(value)), "StochasticWeightAveraging"
        )
    with pytest.raises(UserError, match=f"--trainer.{name.strip('+')} {shown}"):
        check_trainer_options(options, training=True)


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        ("fsdp_cpu_offload", "fsdp_cpu_offload"),
        ("deepspeed_stage_2", "deepspeed_stage_2"),
        ("ModelParallelStrategy", "ModelParallelStrategy"),
        ({"class_path": "lightning.pytorch.strategies.FSDPStrategy"}, "FSDPStrategy"),
        (FSDPStrategy(), "FSDPStrategy"),
    ],
    ids=["name", "stage", "class", "path", "object"],
)
def test_strategies_that_divide_the_weights_are_refused(strategy: Any, name: str) -> None:
    with pytest.raises(UserError, match=f"--trainer.strategy {name}: unsupported: it divides"):
        check_trainer_options({"strategy": strategy}, training=True)
    for supported in ("auto", "ddp", {"class_path": "DDPStrategy"}, None):
        check_trainer_options({"strategy": supported}, training=True)


@pytest.mark.parametrize(
    "options",
    [
        {"max_steps": -1, "max_epochs": "-1", "max_time": "00:01:00:00"},
        {"max_steps": "1e3", "min_steps": 5, "limit_train_batches": 0.5, "num_sanity_val_steps": 0},
        {"max_epochs": None, "min_epochs": 3, "barebones": False, "max_time": {"hours": 1}},
        {"enable_checkpointing": "false", "fast_dev_run": "2"},
        {"callbacks": [{"class_path": "EMAWeightAveraging"}]},
    ],
    ids=str,
)
def test_options_with_which_something_is_trained_are_accepted(options: dict[str, Any]) -> None:
    check_trainer_options(options, training=True)


@pytest.mark.parametrize("devices", [-1, 0, "-1", "99999", 99999])
def test_the_processor_has_as_many_processes_as_cores(devices: Any) -> None:
    with pytest.raises(UserError, match=f"--trainer.devices {devices}: on the processor"):
        FastTrainer(None, accelerator="cpu", devices=devices)


def test_the_error_of_any_type_of_a_union_is_found() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--losses", type=dict[str, str | LossOptions] | None)
    config = parser.parse_object({"losses": {"a": {"gamma": -2.0}}})
    error = user_error_behind(raised(parser.instantiate, config))
    assert str(error) == "--model.losses: gamma -2.0: give 0 or more"


def test_weights_of_another_model_are_refused() -> None:
    one, other = torch.nn.Linear(2, 3), torch.nn.Linear(2, 2)
    message = refusal_behind(raised(one.load_state_dict, other.state_dict()))
    assert message and "do not fit Linear with these options: size mismatch for weight" in message
    assert message.endswith("--model.init_from")


def test_a_stored_configuration_that_cannot_be_used_names_the_checkpoint() -> None:
    task = {"name": "../up", "texts": ["t"], "classes": ["x", "y"]}
    arguments = {"tasks": [task], "backbone": "none"}
    description = {"class_path": "mtl.methods.MultiHead", "init_args": arguments}
    with pytest.raises(UserError, match=r"^a.ckpt: its configuration cannot .* name '../up'"):
        _instantiate(MultiTaskModule, description, Path("a.ckpt"))


@pytest.mark.parametrize("text", ["", "[1]", '{"test": '])
def test_damaged_metrics_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(UserError, match=r"metrics.json: not a JSON object; delete the file"):
        read_metrics(tmp_path)
