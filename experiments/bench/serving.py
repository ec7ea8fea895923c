"""Load test of `mtl serve` on the loopback: requests per second and the 95th percentile of latency.

Clients in threads ask for one text at a time, each as soon as it has its answer. The baseline
calls `predict` of `mtl.load` for one text at a time in this process.

    python -m experiments.bench.serving RUN [--seconds 10] [--clients '[1, 8, 32]'] [--runtime onnx]
"""

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import cycle, islice

import numpy as np
from jsonargparse import auto_cli

import mtl
from mtl.inference.graph import Runtime

WORDS = (
    "the delivery was late and the parcel arrived damaged please send me a new kettle soon".split()
)
# Texts of 8 to 40 words.
TEXTS = [" ".join(islice(cycle(WORDS), start, start + 8 + 4 * (start % 9))) for start in range(64)]


@contextmanager
def server(run: str, runtime: Runtime) -> Iterator[int]:
    """Context manager: a server of a run; gives its port."""
    command = [sys.executable, "-m", "mtl", "serve", run, "--port", "0", "--runtime", runtime]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        found = next(filter(None, (re.search(r"//[^/]+:(\d+)", line) for line in process.stderr)))
        yield int(found[1])
        process.terminate()


def measure(clients: int, seconds: float, client: Callable[[], Callable[[str], object]]) -> str:
    """Requests per second and the 95th percentile of latency for a number of clients.

    Args:
        clients: Number of threads.
        seconds: How long they ask.
        client: Makes a function that asks for one text.
    """
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    def ask() -> None:
        one, texts = client(), cycle(TEXTS)
        while (start := time.perf_counter()) < end:
            one(next(texts))
            latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p95 = 1000 * np.quantile(latencies, 0.95)
    return f"| {clients} | {len(latencies) / seconds:.0f} | {p95:.1f} ms |"


def http_client(port: int) -> Callable[[str], None]:
    """A client with a connection of its own."""
    connection = HTTPConnection("127.0.0.1", port)

    def ask(text: str) -> None:
        connection.request("POST", "/predict", json.dumps({"texts": [text]}))
        answer = connection.getresponse()
        assert answer.read() and answer.status == 200, answer.status

    return ask


def serving(
    run: str,
    seconds: float = 10,
    clients: Sequence[int] = (1, 8, 32),
    runtime: Runtime = "torch",
) -> None:
    """Prints a table of requests per second and latencies.

    Args:
        run: A run's folder, or the folder of an export.
        seconds: How long each number of clients asks.
        clients: Numbers of clients.
        runtime: What computes.
    """
    print("| clients | requests/s | p95 |\n|---:|---:|---:|")
    model = mtl.load(run, runtime=runtime)
    baseline = measure(1, seconds, lambda: lambda text: model.predict([text]))
    print(baseline.replace("| 1 |", "| `predict` |"), flush=True)
    with server(run, runtime) as port:
        for count in clients:
            measure(count, 1, lambda: http_client(port))  # warms up
            print(measure(count, seconds, lambda: http_client(port)), flush=True)


if __name__ == "__main__":
    auto_cli(serving)
