"""Loads data sets from the Hugging Face Hub, or from its cache if the Hub cannot be reached."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtl.errors import UserError
from mtl.system.hardware import cached_hub_error

_NAME = re.compile(r"[\w-]+[\w.-]*(/[\w-]+[\w.-]*)?")


def load_hub_split(name: str, config: str | None, split: str, revision: str | None) -> Any:
    """A split of a data set.

    Args:
        name: The data set's name on the Hub, or a folder.
        config: Its configuration.
        split: The split.
        revision: A branch, a tag or a commit. Default: the newest.

    Raises:
        UserError: If it cannot be loaded.
    """
    if not _NAME.fullmatch(name) and not Path(name).is_dir():
        raise UserError(
            "neither a data set's name on the Hub, such as nyu-mll/glue, nor a folder; local files "
            "are named by source.path"
        )
    import datasets  # takes a second to import, and only the hub needs it

    unreachable = None if Path(name).is_dir() else cached_hub_error()
    try:
        with _cache_only(unreachable is not None):
            return datasets.load_dataset(name, config, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"{error}; {unreachable}" if unreachable else str(error)) from error


@contextmanager
def _cache_only(active: bool) -> Iterator[None]:
    """Context manager: nothing is requested from the Hub, which would be tried for 40 seconds."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if active:
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
