"""Reading the scalars that a run logged for TensorBoard."""

from pathlib import Path


def read_scalars(folder: Path, prefix: str) -> dict[str, list[tuple[int, float]]]:
    """The (step, value) pairs of all scalars whose tag starts with a prefix, by tag.

    A run that was interrupted and resumed may have a step twice; the later value comes last.

    Args:
        folder: The run's folder.
        prefix: The prefix.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if tag.startswith(prefix)
    }
