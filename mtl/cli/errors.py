"""How commands report errors: one message on standard error, exit status 2."""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from mtl.errors import UserError

LIGHTNING_FILES = "lightning"  # the folder of the library's source files


def exit_with_error(message: object) -> NoReturn:
    """Prints an error message and exits with status 2."""
    sys.stderr.write(f"mtl: error: {message}\n")
    sys.exit(2)


@contextmanager
def report_user_errors() -> Iterator[None]:
    """Context manager: report a `UserError` as one message without a traceback.

    Warnings of the libraries that a user cannot act on are hidden.
    """
    # Lightning 2.6 uses deprecated names of jsonargparse.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # A resumed run writes to the same folder.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_concerns_the_user)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        cause = user_error_behind(error) or _refusal_of_lightning(error)
        if not cause:
            raise
        exit_with_error(cause)


def _concerns_the_user(record: logging.LogRecord) -> bool:
    """Whether a log record is mtl's, a warning, or says which checkpoint is used."""
    own = LIGHTNING_FILES not in Path(record.pathname).parts
    return own or record.levelno > logging.INFO or record.getMessage().startswith("Restor")


def _refusal_of_lightning(error: Exception) -> str | None:
    """The message of an exception with which Lightning refuses options of the Trainer."""
    # By name, because importing Lightning takes seconds.
    refuses = type(error).__name__ == "MisconfigurationException"
    if refuses or (isinstance(error, ValueError) and "`val_check_interval`" in str(error)):
        return f"trainer: {' '.join(str(error).split())}"
    return None


def user_error_behind(error: BaseException | None) -> UserError | None:
    """Returns the `UserError` that caused an exception, if any.

    jsonargparse wraps what a constructor raises.
    """
    while error:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None
