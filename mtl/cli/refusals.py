"""Exceptions of the libraries and the system that a user can fix, as messages with a remedy.

Exceptions are recognized by their names and messages, because importing the libraries takes
seconds.
"""

import errno
import re
import traceback
from pathlib import Path

from mtl._version import DISTRIBUTION
from mtl.errors import UserError, error_causes

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
_WEIGHTS = re.compile(r"Error\(s\) in loading state_dict for (\w+):\s+(.+?)\.?(?:\n|$)")
_MISSING = re.compile(r"No module named '([\w.]+)'|Requirement '([^']+)' not met")


def refusal_behind(error: BaseException) -> str | None:
    """The message for an exception that a user can fix; None for any other exception.

    Args:
        error: The exception; what caused it is looked at too.
    """
    if cause := user_error_behind(error):
        return str(cause)
    for each in error_causes(error):
        for explain in (
            _missing_package,
            _of_lightning,
            _other_weights,
            _out_of_memory,
            _of_system,
        ):
            if message := explain(each):
                return message
    return None


def user_error_behind(error: BaseException | None) -> UserError | None:
    """Returns the `UserError` that caused an exception, if any.

    jsonargparse wraps what a constructor raises.
    """
    return next((each for each in error_causes(error) if isinstance(each, UserError)), None)


def _raised_in(error: BaseException, package: str) -> bool:
    """Whether a `raise` statement of a package's own source raised an exception.

    Errors that a defect causes, such as a call with wrong arguments, are raised by Python itself.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or package not in Path(frames[-1].filename).parts:
        return False
    return (frames[-1].line or "").startswith("raise ")


def _missing_package(error: BaseException) -> str | None:
    """A package that an option needs is not installed."""
    found = _MISSING.search(str(error)) if isinstance(error, ImportError) else None
    if not found:
        return None
    package = found[1] or found[2]
    if package.partition(".")[0] == "mtl":
        return None
    name = re.match(r"[\w-]+", package)
    top = name[0] if name else package
    extra = _extra_with(top)
    return (
        f"{top}: this package is not installed, and an option of this command needs it: "
        f"pip install '{f'{DISTRIBUTION}[{extra}]' if extra else package}'"
    )


def _extra_with(package: str) -> str | None:
    """The extra of mtl that installs a package; None if there is none."""
    from mtl.system.libraries import own_requirements  # here: most refusals do not need it

    for line in own_requirements():
        found = re.match(r"([\w-]+).*; extra == .(\w+).$", line)
        if found and found[1] == package and found[2] != "dev":
            return found[2]
    return None


def _of_lightning(error: BaseException) -> str | None:
    """Lightning refuses options of the Trainer."""
    text = " ".join(str(error).split())
    if "No supported gpu backend found" in text or "CUDAAccelerator can not run" in text:
        return (
            "--trainer.accelerator gpu: torch finds no GPU on this machine; `mtl doctor` says why. "
            "--trainer.accelerator cpu trains on the processor"
        )
    refuses = isinstance(error, ValueError | TypeError | RuntimeError)
    if refuses and _raised_in(error, "lightning"):
        return f"trainer: {text}"
    if type(error).__name__ == "MisconfigurationException":
        return f"trainer: {text}"
    return None


def _other_weights(error: BaseException) -> str | None:
    """A checkpoint does not fit the model that the options describe."""
    found = _WEIGHTS.search(str(error)) if isinstance(error, RuntimeError) else None
    if not found:
        return None
    return (
        f"--ckpt_path: the weights of the checkpoint do not fit {found[1]} with these options: "
        f"{found[2]}. Resume with the tasks, classes and method of the training, or train a new "
        "model with --model.init_from"
    )


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
