"""The name of a run's folder."""

import json
from typing import Any

from jsonargparse import ArgumentParser

from mtl.training.run_folder import config_digest

# Options that do not change what a run computes, and so do not change the name of its folder.
NOT_IN_NAME = ("config", "out", "ckpt_path", "save_every")


def run_name(parser: ArgumentParser, config: Any) -> str:
    """Returns `<method>-<scheme>-<digest>`; the digest depends on the whole resolved configuration.

    Args:
        parser: The parser of the command.
        config: The parsed configuration of the command.
    """
    values = json.loads(parser.dump(config, format="json", skip_none=False))
    method, scheme = (values[key]["class_path"].rpartition(".")[2] for key in ("model", "data"))
    digest = config_digest({key: value for key, value in values.items() if key not in NOT_IN_NAME})
    return f"{method}-{scheme.removesuffix('DataModule')}-{digest}"
