"""The name of a run's folder."""

from collections.abc import Mapping
from typing import Any

from mtl.training.run_folder import config_digest

# Options that do not change what a run computes, and so do not change the name of its folder.
NOT_IN_NAME = ("config", "out", "ckpt_path", "save_every")


def run_name(config: Mapping[str, Any]) -> str:
    """Returns `<method>-<scheme>-<digest>`; the digest depends on the whole resolved configuration.

    Args:
        config: The resolved configuration of the command, as plain values.
    """
    method, scheme = (config[key]["class_path"].rpartition(".")[2] for key in ("model", "data"))
    digest = config_digest({key: value for key, value in config.items() if key not in NOT_IN_NAME})
    return f"{method}-{scheme.removesuffix('DataModule')}-{digest}"
