"""Quantize the graph of an export: weights as 8-bit integers, for the CPU."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

from mtl.inference.graph import GRAPHS


def quantize(export: Path) -> None:
    """Writes `onnx/model_int8.onnx` from the graph of an export.

    Weights of matrix products and embeddings become 8-bit integers, with a scale for each output
    of a matrix product. Activations are quantized for each batch when they are computed.
    """
    source, target = (export / GRAPHS[name] for name in ("onnx", "int8"))
    external = bool(list(source.parent.glob(f"{source.name}.data")))
    model = onnx.load(source)
    # The shapes that torch stores contradict those of the products that replace its layers.
    del model.graph.value_info[:]
    unshaped = target.with_suffix(".unshaped.onnx")
    onnx.save(model, unshaped, save_as_external_data=external, location=f"{unshaped.name}.data")
    with _quiet():
        quantize_dynamic(
            unshaped,
            target,
            per_channel=True,
            # Seven bits: products of eight overflow on CPUs without VNNI instructions, so that the
            # scores would depend on the machine.
            reduce_range=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=external,
        )
    for file in unshaped.parent.glob(f"{unshaped.name}*"):
        file.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager: without the advice to preprocess the graph, which the exporter has done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
