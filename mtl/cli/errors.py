"""How commands report errors: one message on standard error, exit status 2."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from mtl.errors import UserError


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
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: " Tip: " not in record.getMessage()
    )
    try:
        yield
    except Exception as error:
        if not (cause := user_error_behind(error)):
            raise
        exit_with_error(cause)


def user_error_behind(error: BaseException | None) -> UserError | None:
    """Returns the `UserError` that caused an exception, if any.

    jsonargparse wraps what a constructor raises.
    """
    while error:
        if isinstance(error, UserError):
            return error
        error = error.__cause__ or error.__context__
    return None
