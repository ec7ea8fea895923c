import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mtl.__main__ import main
from mtl.cli.parsed import run_name_of
from mtl.cli.short_help import DESCRIPTIONS
from mtl.methods import MultiHead
from mtl.tasks import Task

TASK = "--tasks+=tasks/samples/sentiment"
QUICK = [
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
    "--trainer.enable_model_summary",
    "false",
]


def task_options(files: list[Path]) -> list[str]:
    return [f"--tasks+={file}" for file in files]


def fit(task_files: list[Path], backbone: str, *options: str) -> None:
    common = [
        "--backbone",
        backbone,
        "--data.batch_size",
        "8",
        "--data.max_length",
        "16",
        "--trainer.max_epochs",
        "2",
    ]
    main(["fit", *task_options(task_files), *common, *QUICK, "--out", "run", *options])


def test_a_run_writes_everything_to_its_folder(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit(task_files, backbone)
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert set(metrics["validation"]["tasks"]) == {"mood", "same", "near"}
    assert metrics["validation"]["tasks"]["same"]["examples"] == 17
    assert set(metrics["validation"]["tasks"]["near"]["metrics"]) == {"pearson", "spearman"}
    assert metrics["validation"]["mean"] == pytest.approx(
        sum(task["score"] for task in metrics["validation"]["tasks"].values()) / 3
    )
    assert {"seed", "versions", "seconds", "steps", "parameters", "backbone"} <= set(metrics)
    assert sorted(file.name for file in Path("run/checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
    ]
    assert list(Path("run").glob("events.out.tfevents.*"))
    saved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert [task["name"] for task in saved["tasks"]] == ["mood", "same", "near"]


def test_a_checkpoint_alone_can_be_tested(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(task_files, backbone)
    Path("elsewhere").mkdir()
    Path("run/checkpoints/best.ckpt").rename("elsewhere/model.ckpt")
    main(["test", "--ckpt_path", "elsewhere/model.ckpt", "--out", "tested", *QUICK])
    scores = json.loads(Path("tested/metrics.json").read_text())["test"]
    lines = [
        json.loads(line)
        for line in Path("tested/predictions/test/mood.jsonl").read_text().splitlines()
    ]
    assert [line["row"] for line in lines] == list(range(15))
    accuracy = sum(line["prediction"] == line["label"] for line in lines) / 15
    assert scores["tasks"]["mood"]["metrics"]["accuracy"] == pytest.approx(accuracy)
    assert "spearman" in capsys.readouterr().out


def test_predictions_do_not_depend_on_labels(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit(task_files[:1], backbone)
    lines = (Path(str(Task.read(task_files[0]).source.path)) / "test.csv").read_text().splitlines()
    Path("unlabelled/mood").mkdir(parents=True)
    Path("unlabelled/mood/test.csv").write_text(
        "\n".join(["text"] + [line.rpartition(",")[0] for line in lines[1:]]) + "\n"
    )
    main(["predict", "--ckpt_path", "run", *QUICK, "--out", "with"])
    main(["predict", "--ckpt_path", "run", *QUICK, "--out", "without", "--data.root", "unlabelled"])
    labelled, unlabelled = [
        [
            json.loads(line)
            for line in Path(f"{out}/predictions/predict/mood.jsonl").read_text().splitlines()
        ]
        for out in ("with", "without")
    ]
    assert [line["prediction"] for line in labelled] == [line["prediction"] for line in unlabelled]
    assert "label" in labelled[0]
    assert "label" not in unlabelled[0]


def test_predict_writes_submission_files_for_glue(
    data_root: Path, backbone: str, in_tmp: Path
) -> None:
    tasks: list[dict[str, Any]] = [
        {
            "name": "sst2",
            "texts": ["text"],
            "classes": ["bad", "good"],
            "source": {"path": str(data_root / "mood")},
        },
        {
            "name": "stsb",
            "texts": ["first", "second"],
            "range": [0, 5],
            "source": {"path": str(data_root / "near")},
        },
        {
            "name": "rte",
            "texts": ["first", "second"],
            "classes": ["entailment", "neutral", "not_entailment"],
        }
        | {"source": {"path": str(data_root / "same")}},
    ]
    for task in tasks:
        Path(f"{task['name']}.yaml").write_text(yaml.safe_dump(task))
    fit([Path(f"{task['name']}.yaml").resolve() for task in tasks], backbone)
    main(["predict", "--ckpt_path", "run", *QUICK])
    lines = {
        name: Path(f"run/predictions/glue/{name}.tsv").read_text().splitlines()
        for name in ("SST-2", "STS-B", "RTE")
    }
    assert {file[0] for file in lines.values()} == {"index\tprediction"}
    assert [line.split("\t")[0] for line in lines["RTE"][1:]] == [str(index) for index in range(15)]
    assert {line.split("\t")[1] for line in lines["SST-2"][1:]} <= {"0", "1"}
    assert {line.split("\t")[1] for line in lines["RTE"][1:]} <= {
        "entailment",
        "neutral",
        "not_entailment",
    }
    assert all(0 <= float(line.split("\t")[1]) <= 5 for line in lines["STS-B"][1:])


def test_a_checkpoint_holds_plain_values_only_and_loads_with_its_class(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit(task_files, backbone, "--model.balancer", "BySize", "--model.pooling", "mean")
    checkpoint = torch.load("run/checkpoints/best.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["tasks"][0]["name"] == "mood"
    module = MultiHead.load_from_checkpoint("run/checkpoints/best.ckpt", weights_only=True)
    assert module.encoder.pooling == "mean"
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(weight, checkpoint["state_dict"][name], atol=0, rtol=0)


def test_configurations_compose_and_the_resolved_one_is_printed(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("suite.yaml").write_text(yaml.safe_dump({"tasks": [str(file) for file in task_files]}))
    Path("model.yaml").write_text("model:\n  class_path: MultiHead\n  init_args: {pooling: mean}\n")
    with pytest.raises(SystemExit) as exit:
        main(
            [
                "fit",
                "-c",
                "model.yaml",
                "-c",
                "suite.yaml",
                "--backbone",
                backbone,
                "--model.lr",
                "0.001",
                "--print_config",
            ]
        )
    assert exit.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["pooling"] == "mean"
    assert printed["model"]["init_args"]["lr"] == 0.001
    assert printed["tasks"][2]["range"] == [0, 5]


def test_the_folder_is_named_after_the_configuration(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    common = [
        "fit",
        *task_options(task_files),
        "--backbone",
        backbone,
        *QUICK,
        "--trainer.max_epochs",
        "1",
        "--data.max_examples",
        "8",
    ]
    for options in ([], ["--model.lr", "0.001"]):
        main(common + options)
    names = sorted(folder.name for folder in Path("runs").iterdir())
    assert len(names) == 2
    assert all(name.startswith("MultiHead-RoundRobin-") for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fti"], "Did you mean 'fit'?"),
        (["fit"], "no tasks: "),
        (["predict"], "mtl predict needs a run"),
        (["fit", "--tasks+=nowhere.yaml"], "nowhere.yaml"),
        (["fit", TASK, "--model", "MutliHead"], "Did you mean MultiHead?"),
        (
            ["fit", TASK, "--model", "mtl.methods.MutliHead"],
            "--model mtl.methods.MutliHead: there is no such class. Did you mean MultiHead?",
        ),
        (
            ["fit", TASK, "--model", "my_methods.Mine"],
            "there is no module 'my_methods'",
        ),
        (["fit", TASK, "--model.lrr", "1"], "Did you mean --model.lr?"),
        (["fit", TASK, "--trainer.max_epcohs", "1"], "Did you mean --trainer.max_epochs?"),
        (["fit", TASK, "--model.pooling", "maen"], "Did you mean 'mean'?"),
        (["test", "--ckpt_path", "nowhere"], "neither a checkpoint file nor a run's folder"),
    ],
)
def test_a_mistake_gets_one_message_with_a_remedy(
    arguments: list[str], message: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_unusable_rows_stop_the_command_before_training(
    backbone: str, data_root: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("typos").mkdir()
    for split in ("train", "validation"):
        Path(f"typos/{split}.csv").write_text(
            "text,label\ngood,1\n" + "bad,maybe\n" * 7 + "fine,ja\n"
        )
    Path("typos.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "typos",
                "texts": ["text"],
                "classes": ["no", "yes"],
                "source": {"path": "typos"},
            }
        )
    )
    with pytest.raises(SystemExit):
        fit([Path("typos.yaml").resolve()], backbone)
    error = capsys.readouterr().err
    assert "8 of 9 rows cannot be used" in error and "train.csv, row 2: label 'maybe'" in error
    assert "labels that are not among the classes: 'maybe' (7), 'ja' (1)" in error
    assert not Path("run/checkpoints").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_checkpoint_gets_one_message(
    content: bytes, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("damaged.ckpt").write_bytes(content)
    with pytest.raises(SystemExit) as exit:
        main(["test", "--ckpt_path", "damaged.ckpt"])
    assert exit.value.code == 2
    assert "damaged.ckpt: cannot be read as a checkpoint" in capsys.readouterr().err


def test_a_run_without_a_step_is_no_finished_run(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--trainer.callbacks+=Timer", "--trainer.callbacks.duration=00:00:00:00"]
    with pytest.raises(SystemExit):
        fit(task_files[:1], backbone, *options)
    assert "nothing was trained: the time" in capsys.readouterr().err
    assert not Path("run/metrics.json").exists()


def test_an_interrupted_run_is_not_overwritten(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/last.ckpt").touch()
    with pytest.raises(SystemExit):
        fit(task_files[:1], backbone)
    assert "holds an interrupted run; resume it with --ckpt_path run" in capsys.readouterr().err


def test_a_finished_run_is_not_overwritten(
    task_files: list[Path], backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(task_files[:1], backbone)
    with pytest.raises(SystemExit):
        fit(task_files[:1], backbone)
    assert "holds a finished run" in capsys.readouterr().err


def test_validate_scores_a_checkpoint_as_training_did(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit(task_files, backbone)
    main(["validate", "--ckpt_path", "run", *QUICK])
    metrics = json.loads(Path("run/metrics.json").read_text())
    for task in metrics["validated"]["tasks"].values():
        task.pop("calibration_error", None)  # `mtl validate` alone computes it
    assert metrics["validated"]["tasks"] == metrics["validation"]["tasks"]


def test_the_completion_script_contains_the_options(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--print_completion=shtab-bash"])
    assert exit.value.code == 0
    script = capsys.readouterr().out
    assert "--trainer.max_epochs" in script
    assert script.rstrip().endswith("_shtab_mtl mtl")


def test_a_test_on_the_validation_split_is_reported(
    data_root: Path, backbone: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = {
        "name": "mood",
        "texts": ["text"],
        "classes": ["bad", "good"],
        "splits": {"test": ["validation"]},
    }
    Path("mood.yaml").write_text(
        yaml.safe_dump(fields | {"source": {"path": str(data_root / "mood")}})
    )
    for out, options in (("run", []), ("held", ["--data.holdout", "0.2"])):
        arguments = [
            "--backbone",
            backbone,
            "--trainer.max_epochs",
            "1",
            *options,
            *QUICK,
            "--out",
            out,
        ]
        main(["fit", "--tasks+=mood.yaml", *arguments])
        main(["test", "--ckpt_path", out, *QUICK])
        reported = "selected with the test examples of these tasks: mood" in capsys.readouterr().out
        assert reported == (out == "run")
        assert json.loads(Path(out, "metrics.json").read_text())["test"]["selected_on_test"] == (
            ["mood"] if reported else []
        )


@pytest.mark.parametrize(
    "options", [["--trainer.precision", "bf16-mixed"], ["--model.optimizer", "torch.optim.Adamax"]]
)
def test_gradients_are_clipped_under_amp_and_with_other_optimizers(
    options: list[str], task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit(task_files[:1], backbone, "--trainer.gradient_clip_val", "0.5", *options)
    assert Path("run/metrics.json").exists()


def test_a_run_is_resumed_from_its_folder_alone(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit(task_files[:1], backbone)
    first = json.loads(Path("run/metrics.json").read_text())
    main(["fit", "--ckpt_path", "run", "--trainer.max_epochs", "3"])
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert (first["epochs"], metrics["epochs"]) == (2, 3)
    assert metrics["steps"] == first["steps"] // 2 * 3
    assert metrics["seconds"] > first["seconds"]


def test_a_named_class_keeps_its_own_defaults(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    method = ["--model", "MetaFineTuning", "--model.scores", "none"]
    scheme = [
        "--data.k",
        "3",
        "--data",
        "LeaveOneOutKShotDataModule",
        "--data.held_out",
        "same",
    ]  # the class may come after its options
    main(
        [
            "fit",
            *task_options(task_files[:2]),
            "--backbone",
            backbone,
            *method,
            *scheme,
            *QUICK,
            "--trainer.max_epochs",
            "1",
            "--out",
            "run",
        ]
    )
    saved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert saved["model"]["init_args"]["pooling"] == "pooler"  # MultiHead's is cls
    assert saved["data"]["init_args"]["batch_size"] == 10  # RoundRobinDataModule's is 32


def test_metrics_record_examples_memory_code_and_data(
    task_files: list[Path], backbone: str, in_tmp: Path
) -> None:
    fit(task_files[:1], backbone)
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert metrics["examples_drawn"] == {"mood": 2 * 44}  # two epochs
    assert 10**8 < metrics["memory"] < 10**11
    assert set(metrics["data"]) == {"mood, train", "mood, validation"}
    main(["test", "--ckpt_path", "run", *QUICK])
    tested = json.loads(Path("run/metrics.json").read_text())
    assert (
        tested["examples_drawn"] == metrics["examples_drawn"] and tested["code"] == metrics["code"]
    )
    assert set(tested["data"]) == {"mood, train", "mood, validation", "mood, test"}


def test_the_name_of_a_run_depends_on_its_own_configuration_only(task_files: list[Path]) -> None:
    one = ["fit", f"--tasks+={task_files[0]}", "--model", "PALs"]
    name = run_name_of(one)
    assert name.startswith("PALs-RoundRobin-")
    other = run_name_of(
        ["fit", f"--tasks+={task_files[1]}", "--model", "CAMTL", "--trainer.max_epochs", "7"]
    )
    assert run_name_of(one) == name != other
    assert (
        run_name_of([*one, "--out", "elsewhere"])
        == name
        != run_name_of([*one, "--model.lr", "1e-3"])
    )


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_the_help_of_a_command_begins_with_what_it_does(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["--help"], ["--help", "all"]):
        main([command, *words])
        usage, description = capsys.readouterr().out.split("\n\n")[:2]
        assert usage == f"usage: mtl {command} [-c FILE] [options]"
        assert " ".join(description.split()) == DESCRIPTIONS[command]
