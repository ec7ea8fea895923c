"""What a run's folder from someone else can do: each test is a sentence of docs/security.md.

The payloads are harmless: they create the file `created`.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import mtl
from mtl.__main__ import main
from mtl.errors import UserError
from mtl.training.stored_config import check_classes, is_known_class

# The runs here are copies.
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")

PAYLOAD = """
from pathlib import Path
Path("created").touch()
from lightning.pytorch import Callback
from torch.optim import AdamW
from mtl.balancing import Equal
from mtl.data import RoundRobinDataModule
from mtl.methods import MultiHead
class Method(MultiHead): pass
class Data(RoundRobinDataModule): pass
class Weights(Equal): pass
class Optimizer(AdamW): pass
class Monitor(Callback): pass
def function(*args, **kwargs): pass
"""
QUICK = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
USES = {
    "test": ["test", "--ckpt_path", "run", *QUICK],
    "validate": ["validate", "--ckpt_path", "run", *QUICK],
    "predict": ["predict", "--ckpt_path", "run", *QUICK],
    "predict texts": ["predict", "--ckpt_path", "run", "--input", "texts.txt", "--device", "cpu"],
    "export": ["export", "--ckpt_path", "run", "--out", "exported", "--task", "mood"],
    "ensemble": ["ensemble", "run", "twin", "--out", "both", *QUICK],
    "resume": ["fit", "--ckpt_path", "run", *QUICK],
}

# Commands that are tested with a refused run only.
ONLY_REFUSED = {
    "merge": ["merge", "run", "run", "--out", "merged", *QUICK],
    "calibrate": ["calibrate", "run", *QUICK],
}


@pytest.fixture(scope="module")
def trained(
    task_files: list[Path], backbone: str, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    options = ["--data.batch_size=16", "--data.max_length=16", "--trainer.max_epochs=1"]
    tasks = [f"--tasks+={task_files[0]}", "--backbone", backbone]
    options += ["--data.cache", str(folder / "cache"), "--out", str(folder / "run")]
    main(["fit", *tasks, *options, *QUICK])
    return folder / "run"


@pytest.fixture
def run(trained: Path, in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stranger's run, whose folder and whose working directory hold a module `evil`."""
    shutil.copytree(trained, "run")
    shutil.copytree(trained, "twin")
    for folder in (Path(), Path("run")):
        (folder / "evil.py").write_text(PAYLOAD)
    Path("texts.txt").write_text("good film\n")
    monkeypatch.syspath_prepend(in_tmp)  # as for `python -m mtl`
    monkeypatch.delitem(__import__("sys").modules, "evil", raising=False)
    return in_tmp / "run"


def edit_checkpoints(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    for path in (run / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)


def edit_config(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Runs a command that must fail without running the payload; returns its message."""
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    error = capsys.readouterr().err
    assert exit.value.code == 2 and "Traceback" not in error
    assert not Path("created").exists()
    return error


def name_own_method(content: dict[str, Any]) -> None:
    content["hyper_parameters"]["_class_path"] = "evil.Method"


def name_own_method_in_config(config: dict[str, Any]) -> None:
    config["model"]["class_path"] = "evil.Method"


@pytest.mark.parametrize("use", [*USES, *ONLY_REFUSED])
def test_a_class_that_only_the_folder_names_is_not_imported(
    use: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_checkpoints(run, name_own_method)
    edit_config(run, name_own_method_in_config)
    error = refused((USES | ONLY_REFUSED)[use], capsys)
    assert "'evil.Method' is not a class of mtl" in error and "--model evil.Method" in error


@pytest.mark.parametrize("use", USES)
def test_a_class_that_the_user_names_is_used(use: str, run: Path) -> None:
    edit_checkpoints(run, name_own_method)
    edit_config(run, name_own_method_in_config)
    main([*USES[use], "--model", "evil.Method"])
    assert Path("created").exists()


def test_python_loads_a_run_whose_class_is_imported(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit_checkpoints(run, name_own_method)
    with pytest.raises(UserError, match=r"evil.Method' is not a class of mtl"):
        mtl.load(run, "cpu")
    assert not Path("created").exists()
    import evil  # type: ignore[import-not-found]

    assert type(mtl.load(run, "cpu").module) is evil.Method


def test_an_export_names_no_other_classes(run: Path) -> None:
    export = ["export", "--ckpt_path", "run", "--out", "exported", "--format", "mtl"]
    main(export)
    manifest = json.loads(Path("exported/mtl.json").read_text())
    Path("exported/mtl.json").write_text(json.dumps(manifest | {"class_path": "evil.Method"}))
    with pytest.raises(UserError, match=r"evil.Method' is not a class of mtl"):
        mtl.load("exported", "cpu")
    Path("exported/mtl.json").write_text(json.dumps(manifest | {"encoding": "evil.function"}))
    with pytest.raises(UserError, match=r"evil.function' is not a class of mtl"):
        mtl.load("exported", "cpu")
    assert not Path("created").exists()


@pytest.mark.parametrize("use", [use for use in USES if use != "resume"])
def test_what_matters_in_training_only_is_not_created_elsewhere(use: str, run: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        names = ("balancer", "regularizer", "optimizer")
        content["hyper_parameters"] |= {name: {"class_path": "evil.Weights"} for name in names}

    edit_checkpoints(run, change)
    main(USES[use])
    assert not Path("created").exists()


CONFIGS: dict[str, dict[str, Any]] = {
    "balancer": {"model": {"init_args": {"balancer": {"class_path": "evil.Weights"}}}},
    "short form": {"model": {"init_args": {"balancer": "evil.Weights"}}},
    "optimizer": {"model": {"init_args": {"optimizer": "evil.Optimizer"}}},
    "module that does not exist": {"model": {"init_args": {"optimizer": "nowhere.Optimizer"}}},
    "value of any type": {
        "model": {"init_args": {"optimizer_args": {"eps": {"class_path": "evil.function"}}}}
    },
    "data": {"data": {"class_path": "evil.Data"}},
    "callback": {"trainer": {"callbacks": [{"class_path": "evil.Monitor"}]}},
    "callable": {
        "trainer": {
            "callbacks": [
                {"class_path": "LambdaCallback", "init_args": {"on_fit_start": "evil.function"}}
            ]
        }
    },
    "function of a library": {
        "trainer": {
            "callbacks": [
                {
                    "class_path": "lightning.pytorch.callbacks.LambdaCallback",
                    "init_args": {"on_fit_start": "pathlib.Path.touch"},
                }
            ]
        }
    },
    "logger that sends": {"trainer": {"logger": {"class_path": "WandbLogger"}}},
    "plugin": {"trainer": {"plugins": ["evil.function"]}},
    "another file": {"model": "model.yaml"},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_resumed_run_creates_known_classes_only(
    name: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(config: dict[str, Any]) -> None:
        for section, values in CONFIGS[name].items():
            if isinstance(values, str):
                config[section] = values
                continue
            init_args = config[section].get("init_args", {}) | values.get("init_args", {})
            config[section] |= values | ({"init_args": init_args} if init_args else {})

    Path("model.yaml").write_text("class_path: evil.Method\n")
    edit_config(run, change)
    before = (run / "config.yaml").read_text()
    error = refused(USES["resume"], capsys)
    assert "run/config.yaml" in error and ("-c" in error or "--data evil.Data" in error)
    assert (run / "config.yaml").read_text() == before


def test_a_configuration_that_the_user_names_may_hold_own_classes(run: Path) -> None:
    edit_config(
        run, lambda config: config["trainer"].update(callbacks=[{"class_path": "evil.Monitor"}])
    )
    main([*USES["resume"], "-c", "run/config.yaml", "--trainer.max_epochs", "2"])
    assert Path("created").exists()


@pytest.mark.parametrize(
    "config",
    [
        {"default_root_dir": "/tmp/elsewhere"},
        {
            "callbacks": [
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"dirpath": "elsewhere", "filename": "x"},
                }
            ]
        },
        {
            "callbacks": [
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"filename": "../../x"},
                }
            ]
        },
        {
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": "memory://x"},
            }
        },
    ],
    ids=["root", "checkpoint", "name", "logger"],
)
def test_a_resumed_run_writes_to_its_folder_only(
    config: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit_config(run, lambda stored: stored["trainer"].update(config))
    assert "outside of the run's folder" in refused(USES["resume"], capsys)


@pytest.mark.parametrize("linked", ["checkpoints", "metrics.json"])
def test_a_resumed_run_does_not_write_through_links(
    linked: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = Path("outside") / linked
    outside.parent.mkdir()
    (run / linked).rename(outside)
    (run / linked).symlink_to(outside.resolve())
    assert "outside of run, and the command would write" in refused(USES["resume"], capsys)
    main([*USES["resume"], "--out", "continued", "--trainer.max_epochs", "2"])
    assert Path("continued/metrics.json").is_file()


WRITING = {
    **{use: USES[use] for use in ("test", "validate", "predict", "resume")},
    "train": ["fit", "--tasks=[]", "--out", "run", *QUICK],
    "ensemble": ["ensemble", "twin", "other", "--out", "run", *QUICK],
}


@pytest.mark.parametrize("use", WRITING)
def test_no_command_writes_through_links(
    use: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("twin", "other")
    outside = Path("outside")
    outside.mkdir()
    (run / "predictions").symlink_to(outside.resolve())
    assert "outside of run, and the command would write" in refused(WRITING[use], capsys)
    assert not list(outside.iterdir())


def test_a_resumed_run_is_written_to_the_folder_that_is_named(run: Path) -> None:
    edit_config(run, lambda config: config.update(out="elsewhere"))
    main([*USES["resume"], "--trainer.max_epochs", "2"])
    assert not Path("elsewhere").exists()


def test_the_state_of_callbacks_deletes_no_files(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    precious = Path("precious")
    precious.touch()
    for name in (f"local://{precious.resolve()}", str(run / "checkpoints/../../precious")):

        def change(content: dict[str, Any], name: str = name) -> None:
            content["callbacks"] = {
                key: state | ({"kth_best_model_path": name} if "best_k_models" in state else {})
                for key, state in content.get("callbacks", {}).items()
            }

        edit_checkpoints(run, change)
        assert "the state of its callbacks names" in refused(USES["resume"], capsys)
    assert precious.exists()


def test_paths_outside_of_the_run_are_printed_before_they_are_read(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = run.parent / "cache of a stranger"

    def change(content: dict[str, Any]) -> None:
        content["datamodule_hyper_parameters"]["cache"] = str(cache)

    edit_checkpoints(run, change)
    main(USES["test"])
    printed = next(text for text in caplog.messages if "uses paths outside of the run" in text)
    assert str(cache) in printed and "/mood" in printed
    assert any(cache.iterdir())


def test_links_in_an_export_are_read_and_not_written(run: Path) -> None:
    main(["export", "--ckpt_path", "run", "--out", "exported", "--format", "mtl"])
    elsewhere = run.parent / "elsewhere"
    elsewhere.mkdir()
    for path in [path for path in Path("exported").rglob("*") if path.is_file()]:
        path.rename(elsewhere / path.name)
        path.symlink_to(elsewhere / path.name)
    before = {path: path.read_bytes() for path in elsewhere.iterdir()}
    assert mtl.load("exported", "cpu").predict(["good film"], task="mood")
    assert {path: path.read_bytes() for path in elsewhere.iterdir()} == before


class Creates:
    """Creates a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("created"),)


@pytest.mark.parametrize("use", [*USES, "init_from"])
def test_no_pickled_code_of_a_checkpoint_is_executed(
    use: str,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    task_files: list[Path],
    backbone: str,
) -> None:
    def change(content: dict[str, Any]) -> None:
        content["extra"] = Creates()

    for path in (run / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)
    tasks = [f"--tasks+={task_files[0]}", "--backbone", backbone]
    new = ["fit", *tasks, "--model.init_from", "run", "--out", "new", *QUICK]
    error = refused(USES.get(use, new), capsys)
    assert ".ckpt: cannot be read as a checkpoint: it holds pickled objects" in error


@pytest.mark.parametrize(
    ("path", "known"),
    [
        ("mtl.methods.pals.PALs", True),
        ("mtl.methods.PALs", True),
        ("PALs", True),
        ("torch.optim.AdamW", True),
        ("torch.optim.adamw.AdamW", True),
        ("lightning.pytorch.callbacks.EarlyStopping", True),
        ("torchjd.aggregation.CAGrad", True),
        ("lightning.pytorch.loggers.TensorBoardLogger", True),
        ("lightning.pytorch.loggers.wandb.WandbLogger", False),
        ("mtl.methods.base.Path", False),
        ("mtl.methods.base.inspect.os", False),
        ("mtl.cli.parsed.ParsedCommandLine", False),
        ("mtl.compare.jobs.run_job", False),
        ("mtl.data.checks.checked_examples", False),
        ("subprocess.Popen", False),
        ("os.system", False),
        ("WandbLogger", False),
        ("Popen", False),
    ],
)
def test_known_classes(path: str, known: bool) -> None:
    assert is_known_class(path) == known


def test_texts_that_look_like_import_paths_are_no_classes() -> None:
    check_classes({"score": "os.accuracy", "backbone": "os.path", "tasks": [{"name": "os.x"}]}, "")
    check_classes({"data": {"init_args": {"root": "folder.v2"}}}, "")
