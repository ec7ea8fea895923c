"""The server as a process of its own, asked over HTTP on the loopback."""

import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from mtl.cli.command import parse_arguments
from mtl.cli.serve import add_arguments, run
from mtl.errors import UserError
from mtl.inference.predictor import Predictor
from mtl.methods import MultiHead
from mtl.tasks import Task
from tests.export.runs import export, save_run


@pytest.fixture(scope="module")
def run_folder(tasks: list[Task], backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("serving") / "run", MultiHead, tasks, backbone)


class Served:
    """A running server."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = ["-m", "mtl", "serve", str(folder), "--port", "0", "--device", "cpu", *options]
        self.process = subprocess.Popen(
            [sys.executable, *command], stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stderr
        line = next(line for line in self.process.stderr if "serving" in line)
        found = re.search(r"http://127\.0\.0\.1:([0-9]+)", line)
        assert found
        self.port = int(found[1])

    def ask(self, body: object, path: str = "/predict") -> tuple[int, Any]:
        method = "POST" if path == "/predict" else "GET"
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body if isinstance(body, str) else json.dumps(body))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() if path != "/health" else "null")


@pytest.fixture
def served(run_folder: Path) -> Iterator[Served]:
    pytest.importorskip("litserve")
    server = Served(run_folder, "--max_texts", "256", "--max_body", "50000")
    yield server
    if server.process.poll() is None:
        os.killpg(server.process.pid, signal.SIGKILL)
    server.process.communicate()


# Starts a server, which takes several seconds.
@pytest.mark.slow
def test_requests_are_answered_and_sigterm_loses_none(served: Served) -> None:
    assert served.ask("", "/health")[0] == 200
    pair = {"first": "a cat", "second": "a dog"}
    status, answer = served.ask({"texts": ["good film", pair]})
    assert status == 200
    assert [list(record) for record in answer["predictions"]] == [["mood"], ["same", "near"]]
    assert served.ask({"texts": ["good"], "tasks": ["mod"]})[0] == 422
    assert served.ask('{"texts": ')[0] == 400
    too_large = served.ask({"texts": ["good " * 20_000]})
    assert too_large == (
        413,
        {"detail": "the body has more than 50,000 bytes; send fewer texts in a request"},
    )
    assert served.ask({"texts": ["good"] * 257})[0] == 413
    schema = served.ask("", "/openapi.json")[1]["paths"]["/predict"]["post"]
    assert schema["requestBody"]["content"]["application/json"]["schema"]["example"]

    waiting = [send_request(served.port, texts=256) for _ in range(30)]
    assert served.ask("", "/health")[0] == 200  # connections are accepted in their order
    # To all of its processes, as a service manager and Ctrl-C do.
    os.killpg(served.process.pid, signal.SIGTERM)
    answered, _, _ = select.select(waiting, [], [], 0)
    assert len(answered) < len(waiting), "nothing was in progress when the signal came"
    for connection in waiting:
        with connection, connection.makefile("rb") as file:
            assert b" 200 " in file.readline()
            assert file.read().count(b'"mood"') == 256
    assert served.process.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        served.ask({"texts": ["good film"]})


@pytest.mark.slow
def test_the_graph_of_an_export_gives_the_answers_of_the_run(
    run_folder: Path, tmp_path: Path
) -> None:
    for package in ("litserve", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    folder = export(run_folder, tmp_path / "exported", "--format", "mtl", "--onnx")
    server = Served(folder, "--runtime", "onnx")
    try:
        status, answer = server.ask({"texts": ["good film", "the slow train was bad"]})
    finally:
        os.killpg(server.process.pid, signal.SIGTERM)
        server.process.communicate(timeout=60)
    assert status == 200
    expected = Predictor(run_folder, "cpu").predict(["good film", "the slow train was bad"], "mood")
    for record, prediction in zip(answer["predictions"], expected, strict=True):
        assert record["mood"]["prediction"] == prediction.value
        assert record["mood"]["probabilities"] == pytest.approx(prediction.probabilities, abs=1e-4)


def send_request(port: int, texts: int) -> socket.socket:
    """Sends a request; the answer is read later."""
    body = json.dumps({"texts": ["good film was not very slow"] * texts}).encode()
    connection = socket.create_connection(("127.0.0.1", port), 60)
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}"
    connection.sendall(head.encode() + b"\r\n\r\n" + body)
    return connection


def test_what_cannot_be_served_is_refused_at_once(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--runtime onnx: .*/run has no onnx/model.onnx; write it"):
        serve(str(run_folder), "--runtime", "onnx")
    with pytest.raises(UserError, match="/none: neither a checkpoint file nor a run's folder"):
        serve(str(tmp_path / "none"))
    pytest.importorskip("litserve")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(UserError, match=f"--port {port}: Address already in use; choose"):
            serve(str(run_folder), "--port", port)


def test_without_litserve_the_remedy_is_shown(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtl.cli.serve.find_spec", lambda _: None)
    with pytest.raises(
        UserError, match=r"`mtl serve` needs litserve: pip install 'mtl-text\[serve\]'"
    ):
        serve(str(run_folder))


def serve(*arguments: str) -> None:
    run(parse_arguments("serve", list(arguments), add_arguments))
