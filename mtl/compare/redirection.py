"""Redirection of everything that a run prints or logs to its log file."""

import contextlib
import logging
import traceback
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def redirect_output(log: TextIO) -> Iterator[None]:
    """Context manager: stdout, stderr and logging go to a log.

    An error of the command line becomes a `RuntimeError`.
    """
    handlers = _stream_handlers()
    before = [handler.stream for handler in handlers]
    for handler in handlers:
        handler.stream = log  # `setStream` would flush the old stream, which may be closed
    with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
        try:
            yield
        except SystemExit as error:
            # 2 is the exit status of the command line; submitit exits with another one when it has
            # queued a preempted run again.
            # preempted run again.
            if error.code != 2:
                raise
            raise RuntimeError(f"the command ended with {error.code}") from error
        except Exception:
            traceback.print_exc()
            raise
        finally:
            for handler, stream in zip(handlers, before, strict=True):
                handler.stream = stream


def _stream_handlers() -> list["logging.StreamHandler[TextIO]"]:
    """The handlers that keep a reference to the stderr of when their library was imported."""
    loggers = logging.root.manager.loggerDict.values()
    return [
        handler
        for logger in loggers
        if isinstance(logger, logging.Logger)
        for handler in logger.handlers
        if type(handler) is logging.StreamHandler
    ]
