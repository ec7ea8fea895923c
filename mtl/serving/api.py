"""The model behind a server, in a process of its own: LitServe's `LitAPI`."""

import json
import logging
import multiprocessing
import time
from collections.abc import Sequence
from importlib import import_module
from queue import Empty
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, HTTPException, Request, Response
from litserve import LitAPI
from litserve.loops import LitLoop
from litserve.utils import LitAPIStatus, LoopResponseType

from mtl.inference.graph import Runtime
from mtl.inference.predictor import Predictor
from mtl.serving.answers import predict_together
from mtl.serving.requests import TOO_LARGE, ReadText, RequestError, RequestReader

# A request that ends the process of the model.
STOP = (None, None, None, None)
# Seconds between two checks of whether the server's process is alive.
IDLE = 1.0


class ModelOptions(NamedTuple):
    """How the model is loaded and run.

    Attributes:
        run: A run folder, a checkpoint file or a native export.
        device: The device to run on.
        batch_size: Number of texts in a forward pass.
        bf16: Whether to run under bfloat16 autocast.
        modules: Modules that define classes of the run.
        runtime: What computes the logits.
    """

    run: str
    device: str
    batch_size: int
    bf16: bool
    modules: tuple[str, ...] = ()
    runtime: Runtime = "torch"


async def read_request(request: Request) -> list[ReadText]:
    """Reads and checks a request, in the server's process: an invalid one reaches no batch."""
    reader: RequestReader = request.app.state.reader
    try:
        return reader(await request.body())
    except RequestError as error:
        raise HTTPException(error.status, str(error)) from error
    except HTTPException as error:
        if error.status_code == TOO_LARGE:  # LitServe stops reading
            error.detail = reader.too_large()
        raise


class WaitingRequests(LitLoop):
    """Predicts for all requests that are waiting together.

    While a batch is computed, the next one gathers. A request never waits for a batch to fill, as
    it does in LitServe's own loop.
    """

    def run(self, lit_api: Any, device: str, worker_id: int, *queues: Any) -> None:
        """Answers the requests that are waiting."""
        requests, transport = queues[:2]
        batch = []
        for queue, key, received, texts in _waiting(requests, lit_api.options.batch_size):
            if time.monotonic() - received > lit_api.request_timeout:
                late = HTTPException(503, "the server is overloaded; try again later")
                self._put(transport, queue, key, late, LitAPIStatus.ERROR)
            else:
                batch.append((queue, key, texts))
        if not batch:
            return
        try:
            answers = lit_api.predict([texts for _, _, texts in batch])
        except Exception as error:
            logging.getLogger(__name__).exception("predictions for %d requests failed", len(batch))
            for queue, key, _ in batch:
                self.put_error_response(transport, queue, key, error, LoopResponseType.REGULAR)
            return
        for (queue, key, _), answer in zip(batch, answers, strict=True):
            self._put(transport, queue, key, lit_api.encode_response(answer), LitAPIStatus.OK)

    def _put(self, transport: Any, queue: int, key: str, data: Any, status: str) -> None:
        self.put_response(transport, queue, key, data, status, LoopResponseType.REGULAR)


def _waiting(requests: Any, texts: int) -> list[Any]:
    """The requests that are waiting, up to a number of texts; at least one.

    The process ends if the server asks for it, or has ended.
    """
    found: list[Any] = []
    while not found:
        try:
            found.append(requests.get(timeout=IDLE))
            while sum(len(request[-1] or ()) for request in found) < texts:
                found.append(requests.get_nowait())
        except Empty:
            server = multiprocessing.parent_process()
            if server is not None and not server.is_alive():
                raise SystemExit from None
        except (EOFError, OSError):  # the queue ended with the server
            raise SystemExit from None
    if STOP in found:
        raise SystemExit
    return found


class PredictionAPI(LitAPI):
    """Predictions of a model for the texts of requests.

    Args:
        options: How the model is loaded and run.
    """

    def __init__(self, options: ModelOptions) -> None:
        super().__init__(loop=WaitingRequests())
        self.options = options

    def setup(self, device: str) -> None:
        """Loads the model."""
        for module in self.options.modules:
            import_module(module)
        options = self.options
        self.predictor = Predictor(options.run, options.device, options.runtime)

    def decode_request(self, request: Annotated[Any, Depends(read_request)]) -> Any:
        """What `read_request` returns."""
        return request

    def predict(self, requests: Sequence[Sequence[ReadText]]) -> list[list[dict[str, Any]]]:
        """Predicts for the texts of several requests.

        Returns:
            For each request and each of its texts, the record of each task by name.
        """
        texts = [text for request in requests for text in request]
        batch_size, bf16 = self.options.batch_size, self.options.bf16
        records = iter(predict_together(self.predictor, texts, batch_size, bf16))
        return [[next(records) for _ in request] for request in requests]

    def encode_response(self, output: list[dict[str, Any]]) -> Response:
        """The response to one request."""
        content = json.dumps({"predictions": output}, ensure_ascii=False)
        return Response(content.encode(), media_type="application/json")
