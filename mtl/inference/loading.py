"""Load a trained method from a run folder, a checkpoint file or a native export."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jsonargparse import ArgumentError, ArgumentParser

from mtl.data.encoding import Encoding, Plain
from mtl.errors import UserError, error_causes
from mtl.inference.native_format import WEIGHTS, is_exported, read_exported
from mtl.methods import MultiTaskModule
from mtl.modules.backbone import load_config, without_weights
from mtl.modules.backbone_checks import position_limit
from mtl.training.calibration_file import read_temperatures
from mtl.training.checkpoints import read_checkpoint
from mtl.training.run_folder import find_checkpoint, run_folder_of
from mtl.training.stored_config import check_classes

# Arguments of a method that matter in training only. Their values may be objects, which are not
# rebuilt for inference.
TRAINING_ONLY = (
    *("balancer", "regularizer", "optimizer", "optimizer_args", "init_from", "train_only", "score"),
    *("best", "attention"),
)


class TrainedModel(NamedTuple):
    """A method with its trained weights, and how it was configured.

    Attributes:
        checkpoint: The checkpoint file, or the weight file of an export.
        folder: The run folder or the export directory; None if the checkpoint was moved out of its
            run folder.
        module: The method, on the CPU, in evaluation mode.
        encoding: How texts become token ids.
        max_length: Maximum length of an example in tokens.
        hyperparameters: Arguments of the method (`model`) and of the data module (`data`), as plain
            values.
    """

    checkpoint: Path
    folder: Path | None
    module: MultiTaskModule
    encoding: Encoding
    max_length: int
    hyperparameters: dict[str, dict[str, Any]]


def load_trained_model(run: Path) -> TrainedModel:
    """Loads a trained model.

    Args:
        run: A run folder (its best checkpoint is used), a checkpoint file, or a directory that
            `mtl export --format mtl` wrote.

    Raises:
        UserError: If there is no such run, its checkpoint or its backbone cannot be used, or it
            names a class that is neither of mtl nor imported already.
    """
    exported = is_exported(run)
    folder: Path | None = run
    if exported:
        checkpoint, contents = run / WEIGHTS, read_exported(run)
    else:
        checkpoint = checkpoint_of(run)
        folder, contents = run_folder_of(checkpoint), read_checkpoint(checkpoint)
    model: dict[str, Any] = contents["hyper_parameters"]
    data: dict[str, Any] = contents.get("datamodule_hyper_parameters", {})
    encoding = data.get("encoding")
    check_classes({"model": _description(model), "data": {"encoding": encoding}}, checkpoint)
    module = _method(contents, checkpoint, has_all_weights=exported)
    module.temperatures = contents["temperatures"] if exported else read_temperatures(checkpoint)
    return TrainedModel(
        checkpoint=checkpoint,
        folder=folder,
        module=module,
        encoding=_instantiate(Encoding, encoding, checkpoint) if encoding else Plain(),
        max_length=_max_length(data, str(model["backbone"])),
        hyperparameters={"model": model, "data": data},
    )


def _max_length(data: dict[str, Any], backbone: str) -> int:
    """The length at which texts are truncated: that of the training, if it fits the backbone."""
    length = int(data.get("max_length", 128))
    limit = position_limit(load_config(backbone))
    return length if limit is None else min(length, limit)


def inference_arguments(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a method without those that matter in training only."""
    return {
        name: value
        for name, value in hyperparameters.items()
        if name[0] != "_" and name not in TRAINING_ONLY
    }


def inference_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights of a method without those of modules that matter in training only."""
    return {
        name: value for name, value in state.items() if name.partition(".")[0] not in TRAINING_ONLY
    }


def checkpoint_of(run: Path) -> Path:
    """The checkpoint of a run folder, or the file itself.

    Raises:
        UserError: If there is none.
    """
    try:
        return find_checkpoint(str(run), None, "predict")
    except UserError as error:
        # The message is for the command line; here there is no option.
        raise UserError(str(error).removeprefix("--ckpt_path ")) from error


def _method(contents: dict[str, Any], checkpoint: Path, has_all_weights: bool) -> MultiTaskModule:
    """The method that a checkpoint describes, with its weights.

    Args:
        contents: The contents of the checkpoint.
        checkpoint: The file.
        has_all_weights: Whether it holds the frozen weights of the backbone too, so that the
            backbone's own are not loaded.
    """
    description = _description(contents["hyper_parameters"])
    with without_weights() if has_all_weights else nullcontext():
        module: MultiTaskModule = _instantiate(MultiTaskModule, description, checkpoint)
    load_weights(module, contents, checkpoint)
    return module.eval()


def load_weights(module: MultiTaskModule, contents: dict[str, Any], checkpoint: Path) -> None:
    """Loads the weights of a checkpoint into the method that it describes.

    Args:
        module: The method.
        contents: The contents of the checkpoint.
        checkpoint: The file.

    Raises:
        UserError: If the weights do not fit the method.
    """
    module.on_load_checkpoint(contents)
    weights = inference_weights(contents["state_dict"])
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        found = "; ".join(_differences(module.state_dict(), weights))
        trained = str(contents["hyper_parameters"]["_class_path"]).rpartition(".")[2]
        raise UserError(
            f"{checkpoint}: its weights do not fit {type(module).__name__} with its options "
            f"({found}). It was trained as {trained}: omit options of the method, such "
            "as --model and --backbone; without any, the file is incomplete or was written by "
            "another version"
        ) from error


def _differences(
    expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]
) -> Iterator[str]:
    """Yields how the weights in a checkpoint differ from those of the method."""
    both = expected.keys() & given.keys()
    kinds = {
        "missing": expected.keys() - both,
        "unknown": given.keys() - both,
        "of another size": {name for name in both if expected[name].shape != given[name].shape},
    }
    for kind, names in kinds.items():
        if names:
            yield f"{len(names)} {kind}, such as {min(names)}"


def _description(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """The method that hyper-parameters describe: its class and its arguments."""
    return {
        "class_path": hyperparameters["_class_path"],
        "init_args": inference_arguments(hyperparameters),
    }


def _instantiate(base: type[Any], description: dict[str, Any], checkpoint: Path) -> Any:
    """Instantiates the class that a checkpoint names. It must be a subclass of `base`."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "object")
    try:
        return parser.instantiate(parser.parse_object({"object": description})).object
    except (ArgumentError, ValueError, TypeError) as error:
        causes = list(error_causes(error))
        known = next((each for each in causes if isinstance(each, UserError)), None)
        if known and not isinstance(error, ArgumentError):
            raise
        plain = next((each for each in causes if "Union subtypes" not in str(each)), error)
        reason = " ".join(str(known or plain).split())
        raise UserError(f"{checkpoint}: its configuration cannot be used: {reason}") from error
