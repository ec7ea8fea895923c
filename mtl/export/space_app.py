"""A demo of the exported model, for a Space of the hub or on this machine: `python app.py`.

The model is in the folder `model` next to this file, or in the folder above it.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mtl

HERE = Path(__file__).resolve().parent


def load() -> Any:
    """The model."""
    inside = HERE / "model"
    return mtl.load(inside if inside.is_dir() else HERE.parent)


def predict(model: Any, task: str, *texts: str) -> Any:
    """The answer for one example: the probability of each class, a value, or spans.

    Args:
        model: The model.
        task: Name of the task.
        texts: The texts that the task reads.
    """
    if not all(text.strip() for text in texts):
        return None
    (prediction,) = model.predict([texts if len(texts) > 1 else texts[0]], task=task)
    if prediction.probabilities is not None:
        return prediction.probabilities
    return prediction.value


def pages(model: Any) -> dict[str, tuple[Callable[..., Any], list[str], bool]]:
    """For each task what predicts it, its columns, and whether it answers with spans."""
    return {
        name: (partial(predict, model, name), list(task.text_columns), bool(task.tokens))
        for name, task in model.tasks.items()
    }


def main() -> None:
    """Starts the demo."""
    import gradio as gr

    found = pages(load())
    interfaces = [
        gr.Interface(
            function,
            [gr.Textbox(label=column, lines=3) for column in columns],
            gr.JSON(label="spans") if spans else gr.Label(label=name),
            flagging_mode="never",
        )
        for name, (function, columns, spans) in found.items()
    ]
    gr.TabbedInterface(interfaces, list(found)).launch()


if __name__ == "__main__":
    main()
