"""Export all heads of a model as one ONNX graph."""

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from mtl.errors import UserError
from mtl.export.verification import check_difference, multi_task_batch, sample_batch
from mtl.inference.graph import GRAPHS
from mtl.inference.predictor import Predictor
from mtl.methods import MultiTaskModule
from mtl.tasks import Task

FILE = GRAPHS["onnx"]
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mask_position")
# Kernels of another library in fp32: about the difference between two machines.
TOLERANCE = 1e-4
# Protobuf limits the size of a file in bytes; the weights of larger models are written to a file
# next to it.
MAX_FILE_SIZE = 2_000_000_000


class Graph(nn.Module):
    """A method as a function of tensors: all tasks predict for all examples.

    Args:
        method: The method.
        tasks: Names of the tasks.
        inputs: Names of the inputs.
    """

    def __init__(
        self, method: MultiTaskModule, tasks: Sequence[str], inputs: Sequence[str]
    ) -> None:
        super().__init__()
        self.method, self.tasks, self.inputs = method, list(tasks), list(inputs)
        self.task_indices = {task.name: index for index, task in enumerate(method.tasks)}

    def forward(self, *tokens: Tensor) -> tuple[Tensor, ...]:
        """Logits or values of each task, shape (examples, outputs)."""
        # A task-specific encoder needs a forward pass per task.
        separately = self.method.encoder_is_task_specific
        logits: dict[str, Tensor] = {}
        for tasks in [[task] for task in self.tasks] if separately else [self.tasks]:
            task_ids = torch.full_like(tokens[0][:, 0], self.task_indices[tasks[-1]])
            named = dict(zip(self.inputs, tokens, strict=True))
            logits |= self.method(multi_task_batch(tasks, named, task_ids))
        thresholds = self.method.thresholds
        return tuple(thresholds.shifted(task, logits[task]) for task in self.tasks)


# Attention takes other code paths when gradients are needed, some of which cannot be exported.
@torch.no_grad()
def write_onnx(predictor: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    """Writes `onnx/model.onnx` and compares its outputs with PyTorch's for several shapes.

    The graph has an output for each task of the model. If the encoder does not depend on the task,
    examples pass through it once, otherwise once per task.

    Args:
        predictor: The trained model.
        tasks: The tasks of the export; sample examples of the first one are used as inputs.
        folder: The folder of the export.

    Returns:
        Notes for the model card.

    Raises:
        UserError: If the logits differ.
    """
    method = predictor.module
    if choices := [task.name for task in predictor.tasks.values() if task.choices]:
        raise UserError(
            f"--onnx: {choices[0]!r} is a multiple choice, whose examples have several sequences; "
            "such models cannot be exported to ONNX. Omit --onnx"
        )
    names = list(predictor.tasks)
    tokens = sample_batch(predictor, tasks[0]).tokens
    inputs = [name for name in tokens if name in INPUTS]
    graph = Graph(method, names, inputs).eval()
    path = folder / FILE
    path.parent.mkdir()
    size = sum(weight.numel() * weight.element_size() for weight in method.parameters())
    _export_graph(graph, tokens, path, external_data=size > MAX_FILE_SIZE)
    _write_metadata(path, predictor)
    largest = _compare(path, graph, tokens)
    return [
        f"`{FILE}` computes the logits of {', '.join(names)}. Largest difference from PyTorch: "
        f"{largest:.1e}, in fp32."
    ]


def _export_graph(graph: Graph, tokens: dict[str, Tensor], path: Path, external_data: bool) -> None:
    shapes = tuple(
        {0: "batch", 1: "length"} if tokens[name].ndim > 1 else {0: "batch"}
        for name in graph.inputs
    )
    # It logs operators of libraries that are not installed.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's exporter uses names that torch has deprecated
        program = torch.onnx.export(
            graph,
            tuple(tokens[name] for name in graph.inputs),
            input_names=graph.inputs,
            output_names=graph.tasks,
            dynamic_shapes=(shapes,),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=external_data)


def _write_metadata(path: Path, predictor: Predictor) -> None:
    """Adds metadata: `tasks` (JSON: the classes or the range of each task) and `max_length`."""
    model = onnx.load(path, load_external_data=False)
    tasks = {task.name: task.kind.label_space for task in predictor.tasks.values()}
    onnx.helper.set_model_props(
        model, {"tasks": json.dumps(tasks), "max_length": str(predictor.max_length)}
    )
    onnx.save(model, path)


@torch.no_grad()
def _compare(path: Path, graph: Graph, tokens: dict[str, Tensor]) -> float:
    """The largest difference from PyTorch, for batches of one, three and all sample examples."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    largest = 0.0
    for count in (1, 3, len(tokens["input_ids"])):
        length = int(tokens["attention_mask"][:count].sum(1).max())
        batch = {
            name: tokens[name][:count, :length] if tokens[name].ndim > 1 else tokens[name][:count]
            for name in graph.inputs
        }
        outputs = session.run(None, {name: value.numpy() for name, value in batch.items()})
        for task, exported, trained in zip(
            graph.tasks, outputs, graph(*batch.values()), strict=True
        ):
            difference = check_difference(
                f"{path.name}, task {task!r}", torch.from_numpy(exported), trained, TOLERANCE
            )
            largest = max(largest, difference)
    return largest
