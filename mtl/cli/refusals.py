"""Exceptions of the libraries and the system that a user can fix, as messages with a remedy.

Exceptions are recognized by their names and messages, because importing the libraries takes
seconds.
"""

import errno
import re
from collections.abc import Iterator

from mtl.errors import UserError

# What the system may refuse to a program, as far as a user can fix it.
SYSTEM = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EACCES: "change its permissions",
    errno.EPERM: "change its permissions",
    errno.EROFS: "choose another folder",
    errno.ENOTDIR: "choose another folder",
    errno.EISDIR: "give a file",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_MISSING = re.compile(r"No module named '([\w.]+)'|Requirement '([^']+)' not met")


def refusal_behind(error: BaseException) -> str | None:
    """The message for an exception that a user can fix; None for any other exception.

    Args:
        error: The exception; what caused it is looked at too.
    """
    if cause := user_error_behind(error):
        return str(cause)
    for each in _causes(error):
        for explain in (_missing_package, _of_lightning, _out_of_memory, _of_system):
            if message := explain(each):
                return message
    return None


def user_error_behind(error: BaseException | None) -> UserError | None:
    """Returns the `UserError` that caused an exception, if any.

    jsonargparse wraps what a constructor raises.
    """
    return next((each for each in _causes(error) if isinstance(each, UserError)), None)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _missing_package(error: BaseException) -> str | None:
    """A package that an option needs is not installed."""
    found = _MISSING.search(str(error)) if isinstance(error, ImportError) else None
    if not found:
        return None
    package = found[1] or found[2]
    if package.partition(".")[0] == "mtl":
        return None
    name = re.match(r"[\w.-]+", package)
    return (
        f"{name[0] if name else package}: this package is not installed, and an option of this "
        f"command needs it: pip install '{package}'"
    )


def _of_lightning(error: BaseException) -> str | None:
    """Lightning refuses options of the Trainer."""
    text = " ".join(str(error).split())
    if "No supported gpu backend found" in text or "CUDAAccelerator can not run" in text:
        return (
            "--trainer.accelerator gpu: torch finds no GPU on this machine; `mtl doctor` says why. "
            "--trainer.accelerator cpu trains on the processor"
        )
    refuses = type(error).__name__ == "MisconfigurationException"
    if refuses or (isinstance(error, ValueError) and "`val_check_interval`" in text):
        return f"trainer: {text}"
    return None


def _out_of_memory(error: BaseException) -> str | None:
    if type(error).__name__ != "OutOfMemoryError":
        return None
    return (
        "the memory of the GPU is full; give a smaller --data.batch_size or --data.max_length, "
        "--model.gradient_checkpointing true, or a smaller encoder; `mtl doctor` with the same "
        "options estimates the memory"
    )


def _of_system(error: BaseException) -> str | None:
    """A file that cannot be read or written."""
    if not isinstance(error, OSError) or error.errno not in SYSTEM:
        return None
    where = f"{error.filename}: " if error.filename else ""
    return (
        f"{where}{error.strerror}; {SYSTEM[error.errno]}, or name another path (--out is the run's "
        "folder, --data.cache that of encoded examples)"
    )
