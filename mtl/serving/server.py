"""Run a server until a signal stops it."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import uvicorn
from litserve import LitServer
from litserve.utils import LitAPIStatus, WorkerSetupStatus, wrap_litserve_start

from mtl._version import __version__
from mtl.errors import UserError
from mtl.serving.api import STOP, ModelOptions, PredictionAPI
from mtl.serving.openapi import describe
from mtl.serving.requests import Limits, RequestReader
from mtl.tasks import Task

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds: how long a request may wait for its turn, how long the server waits for answers when it
# stops, and how long for the model's process.
QUEUE_TIMEOUT, STOP_TIMEOUT, END_TIMEOUT = 30, 60, 5


class Stopped(Exception):
    """A signal asks to stop."""


def open_socket(host: str, port: int) -> socket.socket:
    """Reserves an address; connections are refused until the server is ready.

    Raises:
        UserError: If the address cannot be used.
    """
    opened = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
    except OSError as error:
        if opened:
            opened.close()
        raise UserError(
            f"--host {host} --port {port}: {error.strerror or error}; choose another address"
        ) from error
    return opened


class Server(uvicorn.Server):
    """A server that stops if a process of its model ends.

    Args:
        config: The configuration.
        server: LitServe's server.
        greeting: Printed when requests are accepted.
    """

    def __init__(self, config: uvicorn.Config, server: LitServer, greeting: str) -> None:
        super().__init__(config)
        self.server, self.greeting = server, greeting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to accept requests."""
        await super().startup(sockets)
        sys.stderr.write(f"{self.greeting}\n")

    async def on_tick(self, counter: int) -> bool:
        """Called every tenth of a second; returns whether to stop."""
        if _exit_code(self.server) is not None:
            for waiting in self.server.response_buffer.values():
                waiting.response = (None, LitAPIStatus.ERROR)
                waiting.event.set()
            await asyncio.sleep(0)
            return True
        stop: bool = await super().on_tick(counter)
        return stop


def serve(
    tasks: Sequence[Task], options: ModelOptions, limits: Limits, address: socket.socket
) -> None:
    """Serves a model until SIGTERM or Ctrl-C. Requests that were received are answered.

    Args:
        tasks: The tasks of the model.
        options: How the model is loaded and run, in a process of its own.
        limits: What a request may hold.
        address: Where to listen.

    Raises:
        UserError: If the model cannot be loaded, or its process ends.
    """
    server = LitServer(
        PredictionAPI(options),
        accelerator=options.device.partition(":")[0],
        devices=_devices(options.device),
        timeout=QUEUE_TIMEOUT,
        max_payload_size=limits.body,
        model_metadata=_metadata(tasks),
    )
    server.app.state.reader = RequestReader(tasks, limits)
    describe(server.app, tasks, limits.texts)
    config = uvicorn.Config(
        server.app, log_level="warning", timeout_graceful_shutdown=STOP_TIMEOUT, ws="none"
    )
    try:
        with _model_process(server):
            _wait_until_ready(server)
            Server(config, server, _greeting(options.run, tasks, address)).run(sockets=[address])
            if (code := _exit_code(server)) is not None:
                raise UserError(
                    f"the process of the model ended with status {code}; requests in progress "
                    "got status 500. If memory ran out, reduce --batch_size or --max_texts"
                )
    except (Stopped, KeyboardInterrupt):
        sys.stderr.write("stopped; all requests that were received are answered\n")


def _greeting(run: str, tasks: Sequence[Task], address: socket.socket) -> str:
    host, port = address.getsockname()[:2]
    names = ", ".join(task.name for task in tasks)
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    return f"{run}: serving {names} on {url} ({url}/docs describes the requests); stop with Ctrl-C"


@contextmanager
def _model_process(server: LitServer) -> Iterator[None]:
    """Context manager: runs the process of the model; signals reach this process only.

    Not `LitServer.run`, which SIGTERM ends without an answer to the requests in progress.
    """
    resource_tracker.ensure_running()  # it would unblock the signals
    # The processes that start here inherit the mask: a signal to all processes of a service, or
    # Ctrl-C, must not end them before the answers are sent.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        with wrap_litserve_start(server):
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
                _end_processes(server)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # discards a signal that came twice
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        signal.signal(signal.SIGTERM, before)


def _stop(*_: Any) -> None:
    raise Stopped


def _end_processes(server: LitServer) -> None:
    for queue in server.litapi_request_queues.values():
        queue.put(STOP)
    for process in server.inference_workers:
        process.join(END_TIMEOUT)
        process.kill()


def _wait_until_ready(server: LitServer) -> None:
    """Waits until the model is loaded.

    Raises:
        UserError: If it cannot be loaded.
    """
    while not all(status == WorkerSetupStatus.READY for status in _statuses(server)):
        if WorkerSetupStatus.ERROR in _statuses(server) or _exit_code(server) is not None:
            raise UserError("the model cannot be loaded for serving; the reason is logged above")
        time.sleep(0.05)


def _statuses(server: LitServer) -> Sequence[str]:
    return list(server.workers_setup_status.values())


def _exit_code(server: LitServer) -> int | None:
    """The exit status of a process of the model that has ended; None if none has."""
    codes = (process.exitcode for process in server.inference_workers)
    return next((code for code in codes if code is not None), None)


def _devices(device: str) -> int | list[int]:
    kind, _, index = device.partition(":")
    return 1 if kind == "cpu" else [int(index or 0)]


def _metadata(tasks: Sequence[Task]) -> dict[str, Any]:
    """What `/info` says about the model."""
    described = {
        task.name: {"reads": task.text_columns, "predicts": task.kind.description} for task in tasks
    }
    return {"mtl": __version__, "tasks": described}
