"""All heads of a model as one ONNX graph."""

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from mtl.export.verification import asked_by, batch_of, refuse_differing
from mtl.inference.predictor import Predictor
from mtl.methods import MultiTaskModule
from mtl.tasks import Task

FILE = Path("onnx") / "model.onnx"
# Other kernels in fp32: about what two machines differ by.
TOLERANCE = 1e-4
# Protobuf's limit on a file; the weights of larger models stand beside it.
INSIDE = 2_000_000_000


class Graph(nn.Module):
    """A method as tensors in, tensors out: every row is asked by every task.

    Args:
        method: The method.
        tasks: Names of the tasks.
        names: Names of the inputs.
    """

    def __init__(self, method: MultiTaskModule, tasks: Sequence[str], names: Sequence[str]) -> None:
        super().__init__()
        self.method, self.tasks, self.names = method, list(tasks), list(names)
        self.places = {task.name: place for place, task in enumerate(method.tasks)}

    def forward(self, *tokens: Tensor) -> tuple[Tensor, ...]:
        """Logits or values of each task, each (rows, outputs), of tokens (rows, length)."""
        logits: dict[str, Tensor] = {}
        for together in (
            [[task] for task in self.tasks]
            if self.method.encoder_is_task_specific
            else [self.tasks]
        ):
            task_ids = torch.full_like(tokens[0][:, 0], self.places[together[-1]])
            logits |= self.method(
                asked_by(together, dict(zip(self.names, tokens, strict=True)), task_ids)
            )
        return tuple(logits[task] for task in self.tasks)


@torch.no_grad()  # attention takes other ways where something in it wants a gradient, and not all of them can be exported
def write_onnx(trained: Predictor, tasks: list[Task], folder: Path) -> list[str]:
    """Writes `onnx/model.onnx` and holds it against torch on several shapes.

    There is an output for each task. Methods whose encoder knows no task answer all of them in one pass; in the others a row
    passes through the encoder once for each.

    Args:
        trained: The model.
        tasks: The tasks of the export, the one asked for first.
        folder: The directory.

    Raises:
        UserError: If the graph's logits differ.
    """
    method = trained.module
    asked = list(trained.tasks.values())
    rows = batch_of(trained, tasks[0])
    names = [
        name
        for name in rows.tokens
        if name in ("input_ids", "attention_mask", "token_type_ids", "mask_position")
    ]
    graph = Graph(method, [task.name for task in asked], names).eval()
    path = folder / FILE
    path.parent.mkdir()
    size = sum(weight.numel() * weight.element_size() for weight in method.parameters())
    shapes = tuple(
        {0: "batch", 1: "length"} if rows.tokens[name].ndim > 1 else {0: "batch"} for name in names
    )
    logging.getLogger("torch.onnx").setLevel(
        logging.ERROR
    )  # it tells of operators of libraries that are not installed
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # torch's exporter calls parts of its own by names that it has deprecated
        program = torch.onnx.export(
            graph,
            tuple(rows.tokens[name] for name in names),
            input_names=names,
            output_names=[task.name for task in asked],
            dynamic_shapes=(shapes,),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=size > INSIDE)
    _describe(path, trained, asked)
    largest = _checked(path, graph, rows.tokens, names)
    return [
        f"`{FILE}`: logits of {', '.join(task.name for task in asked)}; largest difference from torch's {largest:.1e}, in fp32."
    ]


def _describe(path: Path, trained: Predictor, tasks: Sequence[Task]) -> None:
    """Writes into the graph what its outputs say: `tasks`, JSON of each task's classes or range, and `max_length`."""
    model = onnx.load(path, load_external_data=False)
    meaning = {task.name: task.classes or task.range for task in tasks}
    onnx.helper.set_model_props(
        model, {"tasks": json.dumps(meaning), "max_length": str(trained.max_length)}
    )
    onnx.save(model, path)


@torch.no_grad()
def _checked(path: Path, graph: Graph, tokens: dict[str, Tensor], names: Sequence[str]) -> float:
    """The largest difference from torch, on one row, on some, on all; each cut to its longest row."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    largest = 0.0
    for rows in (1, 3, len(tokens["input_ids"])):
        length = int(tokens["attention_mask"][:rows].sum(1).max())
        given = {
            name: tokens[name][:rows, :length] if tokens[name].ndim > 1 else tokens[name][:rows]
            for name in names
        }
        found = session.run(None, {name: value.numpy() for name, value in given.items()})
        for task, theirs, ours in zip(graph.tasks, found, graph(*given.values()), strict=True):
            largest = max(
                largest,
                refuse_differing(
                    f"{path}, task {task!r}", torch.from_numpy(theirs), ours, TOLERANCE
                ),
            )
    return largest
