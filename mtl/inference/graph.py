"""Run the ONNX graph of an export instead of PyTorch: `onnx/model.onnx`, or its int8 version."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mtl._version import DISTRIBUTION
from mtl.batch import Batch, length_groups
from mtl.errors import UserError
from mtl.methods import MultiTaskModule
from mtl.modules.thresholds import Thresholds

Runtime = Literal["torch", "onnx", "int8"]
"""What computes the logits: PyTorch, the graph in fp32, or the graph with int8 weights."""

# The files of the graphs in an export. `mtl export` has an option of the same name for each.
GRAPHS = {"onnx": Path("onnx", "model.onnx"), "int8": Path("onnx", "model_int8.onnx")}
# What `mtl export --int8` measured.
INT8_SCORES = Path("onnx", "model_int8.json")


def check_runtime(run: str | Path, runtime: Runtime, device: object = None) -> None:
    """Checks that a graph is there, and what runs it.

    Args:
        run: The folder of the export.
        runtime: What computes the logits.
        device: The device that the user named, if any.

    Raises:
        UserError: If one is missing, or the device is not the CPU.
    """
    if runtime == "torch":
        return
    if device is not None and str(device) != "cpu":
        raise UserError(f"--runtime {runtime} runs on the CPU; omit --device {device}")
    if not (Path(run) / GRAPHS[runtime]).is_file():
        raise UserError(
            f"--runtime {runtime}: {run} has no {GRAPHS[runtime]}; write it with `mtl export "
            f"--ckpt_path RUN --format mtl --{runtime} --out DIR`, and give DIR"
        )
    if not find_spec("onnxruntime"):
        raise UserError(
            f"--runtime {runtime} needs onnxruntime: pip install '{DISTRIBUTION}[onnx]'"
        )


def use_graph(module: MultiTaskModule, file: Path) -> None:
    """Lets a method compute its logits with the graph of its export.

    The weights of the method are released; its losses and temperatures stay in use.

    Args:
        module: The method, on the CPU.
        file: The graph.
    """
    task_specific = module.encoder_is_task_specific
    module.forward = Graph(file, task_specific)  # type: ignore[method-assign]
    module.thresholds = Thresholds(())  # the graph has subtracted them
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.new_empty(0)


class Int8Scores(NamedTuple):
    """The scores of int8 weights next to those of the run, on the same examples.

    Attributes:
        split: The examples: `validation`.
        fp32: Metrics by task (or by `task/split`) and name.
        int8: The same with int8 weights.
    """

    split: str
    fp32: Mapping[str, Mapping[str, float]]
    int8: Mapping[str, Mapping[str, float]]

    def lines(self) -> list[str]:
        """A line for each task, such as `kettles: accuracy 0.81 (fp32 0.82)`."""
        return [
            f"{task}: "
            + ", ".join(
                f"{name} {value:.4f} (fp32 {self.fp32[task][name]:.4f})"
                for name, value in metrics.items()
            )
            for task, metrics in self.int8.items()
        ]


def read_int8_scores(export: Path) -> Int8Scores:
    """Reads what `mtl export --int8` measured.

    Raises:
        UserError: If the file is missing or damaged.
    """
    path = export / INT8_SCORES
    try:
        return Int8Scores(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path}: cannot be read: {error}; write the export again") from error


def write_int8_scores(export: Path, scores: Int8Scores) -> None:
    """Writes what `read_int8_scores` reads."""
    text = json.dumps(scores._asdict(), indent=2) + "\n"
    (export / INT8_SCORES).write_text(text, encoding="utf-8")


class Graph:
    """The forward pass of a method as an ONNX graph, on the CPU.

    Args:
        file: The graph.
        task_specific: Whether the encoder depends on the task.
    """

    def __init__(self, file: Path, task_specific: bool) -> None:
        self.session, self.task_specific = _session(file), task_specific
        self.inputs = [each.name for each in self.session.get_inputs()]

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Logits of each task present; the thresholds of a task are subtracted already."""
        if self.task_specific:
            return {
                segment.task: self._run(batch, segment.examples, segment.length, [segment.task])[0]
                for segment in batch.segments
            }
        logits: dict[str, Tensor] = {}
        for examples, length in length_groups(batch):
            segments = [
                segment
                for segment in batch.segments
                if examples.start <= segment.examples.start
                and segment.examples.stop <= examples.stop
            ]
            outputs = self._run(batch, examples, length, [segment.task for segment in segments])
            for segment, values in zip(segments, outputs, strict=True):
                first = segment.examples.start - examples.start
                count = segment.examples.stop - segment.examples.start
                logits[segment.task] = values[first : first + count]
        return logits

    def _run(
        self, batch: Batch, examples: slice, length: int, tasks: Sequence[str]
    ) -> list[Tensor]:
        """The outputs of tasks for some examples, whose tokens end at a length."""
        import onnxruntime

        fields = {name: batch.tokens[name][examples] for name in self.inputs}
        tokens = {
            name: (value[:, :length] if value.ndim > 1 else value).numpy()
            for name, value in fields.items()
        }
        options = onnxruntime.RunOptions()
        # A task-specific encoder is in the graph once for each task.
        options.only_execute_path_to_fetches = True
        return [torch.from_numpy(each) for each in self.session.run(list(tasks), tokens, options)]


def _session(file: Path) -> Any:
    import onnxruntime  # here: an extra

    options = onnxruntime.SessionOptions()
    # OMP_NUM_THREADS limits torch, and so both.
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
