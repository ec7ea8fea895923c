"""`mtl export`: write a trained model as a directory that others can load."""

import argparse
from importlib.util import find_spec
from pathlib import Path

from mtl._version import DISTRIBUTION
from mtl.cli.command import add_model_option, import_model_classes, run_command
from mtl.cli.early import check_files
from mtl.errors import UserError
from mtl.inference.options import MANIFEST


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the command."""
    parser.set_defaults(unknown=[], options=[])
    parser.description = (
        "Write a trained model as a directory: weights as safetensors, tokenizer, label names and "
        "a model card. The logits of the exported model are compared with those of the trained "
        "model for a few texts before the directory is created."
    )
    parser.add_argument(
        "--ckpt_path",
        required=True,
        metavar="RUN",
        help="a run folder (its best checkpoint is exported), or a checkpoint file",
    )
    parser.add_argument(
        "--task",
        metavar="NAME",
        help="task to export for transformers; required if the run has several",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="directory to write; must be empty or not exist",
    )
    parser.add_argument(
        "--format",
        choices=["transformers", "peft", "mtl"],
        help="transformers: one task, loads with AutoModelForSequenceClassification, "
        "AutoModelForTokenClassification (labels of words), AutoModelForMultipleChoice, or "
        "AutoModelForMaskedLM or AutoModelForCausalLM (prompt-based fine-tuning). peft: the "
        "updates and the head of one task of the method LoRA, for peft.PeftModel. mtl: all tasks, "
        "loads with mtl.load. "
        "Default: transformers, or mtl for methods that transformers has no class for",
    )
    parser.add_argument(
        "--onnx",
        action="store_true",
        help="also write onnx/model.onnx, with an output for each task",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="also write the graph with 8-bit weights for the CPU, onnx/model_int8.onnx, and print "
        "its scores on the run's validation data next to those in fp32. Further options are then "
        "those of `mtl validate`, such as --data.root",
    )
    parser.add_argument(
        "--space",
        action="store_true",
        help="with --format mtl: also write space/, a Gradio demo for a Space of the hub",
    )
    parser.add_argument(
        "--license",
        metavar="ID",
        help="licence of the model in the model card, such as apache-2.0 (default: none is named)",
    )
    add_model_option(parser)
    parser.add_argument(
        "--push",
        metavar="NAME",
        help=(
            "also upload the directory to the hub under this name, with the credentials of the "
            "hub client"
        ),
    )


def run(args: argparse.Namespace) -> None:
    """Runs the command.

    Raises:
        UserError: If the run cannot be exported in the requested format, or the export differs from
            it.
    """
    folder = Path(args.out)
    _check_options(args, folder)
    # Here, because they import the libraries.
    from mtl.export.directory import complete_or_absent
    from mtl.export.formats import (
        calibration_notes,
        choose_format,
        choose_tasks,
        format_of_task,
    )
    from mtl.export.model_card import model_card
    from mtl.inference.predictor import Predictor
    from mtl.modules.backbone import quiet

    import_model_classes(args.model)
    if args.int8:
        from mtl.cli.int8_scores import validation_scores, write_int8

        reference = validation_scores(args.ckpt_path, args.unknown, args.options)
    predictor = Predictor(args.ckpt_path, device="cpu")
    export_format = choose_format(predictor, args.format)
    tasks = choose_tasks(predictor, args.task, export_format)
    export_format = format_of_task(export_format, tasks[0])
    with_graph = args.onnx or args.int8
    with complete_or_absent(folder) as temporary, quiet():
        notes = export_format.write(predictor, tasks, temporary)
        notes += calibration_notes(predictor, tasks, export_format, with_graph)
        if with_graph:
            from mtl.export.onnx import write_onnx

            notes += write_onnx(predictor, tasks, temporary)
        if args.int8:
            notes += write_int8(temporary, reference)
        if args.space:
            from mtl.export.space import write_space

            notes.append(write_space(temporary, tasks))
        card = model_card(predictor, export_format, tasks, notes, args.license)
        (temporary / "README.md").write_text(card, encoding="utf-8")
    print(f"{folder}: for {export_format.loader}")
    print("\n".join(notes))
    if args.push:
        from mtl.export.hub_upload import upload

        print(f"pushed: {upload(folder, args.push)}")


def _check_options(args: argparse.Namespace, folder: Path) -> None:
    """Rejects what cannot succeed before the model is loaded."""
    check_files("predict", ["--ckpt_path", args.ckpt_path, "--out", args.out])
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"--out {folder}: already exists and is not an empty folder; choose another folder, or "
            "delete it"
        )
    if option := "--int8" if args.int8 else args.onnx and "--onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            if not find_spec(package):
                raise UserError(f"{option} needs {package}: pip install '{DISTRIBUTION}[onnx]'")
    if args.int8 and Path(args.ckpt_path, MANIFEST).exists():
        raise UserError(
            f"{args.ckpt_path}: an export has no validation examples, with which --int8 measures "
            "the scores; export its run"
        )
    if args.space and args.format != "mtl":
        raise UserError("--space is for exports with all tasks: add --format mtl")
    if args.format == "peft" and not find_spec("peft"):
        raise UserError("--format peft needs peft: pip install peft")
    if args.push:
        from mtl.export.hub_upload import check_name

        check_name(args.push)


def main(arguments: list[str]) -> None:
    """Runs `mtl export`."""
    run_command("export", arguments, add_arguments, run, accept_unknown="--int8" in arguments)
