import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mtl
from mtl.methods import MultiHead
from mtl.modules import Encoder
from mtl.serving.answers import predict_together
from mtl.serving.openapi import describe
from mtl.serving.requests import Limits, ReadText, RequestError, RequestReader
from mtl.tasks import Task
from tests.export.runs import save_run

LIMITS = Limits(texts=3, body=1000)


@pytest.fixture(scope="module")
def reader(tasks: list[Task]) -> RequestReader:
    return RequestReader(tasks, LIMITS)


def read(reader: RequestReader, **fields: Any) -> list[ReadText]:
    return reader(json.dumps(fields).encode())


def test_a_text_is_read_by_the_tasks_that_read_one_text(reader: RequestReader) -> None:
    assert read(reader, texts=["good film"]) == [ReadText((("mood", (0,)),), ("good film",))]


def test_columns_are_read_by_the_tasks_whose_columns_they_are(reader: RequestReader) -> None:
    pair = {"second": "a dog", "first": "a cat", "id": 7}
    positions = (("same", (0, 1)), ("near", (0, 1)))
    assert read(reader, texts=[pair]) == [ReadText(positions, ("a cat", "a dog"))]
    (text,) = read(reader, texts=[pair | {"text": ["good", "film"]}], tasks=["near", "mood"])
    assert dict(text.positions) == {"near": (0, 1), "mood": (2,)}
    assert text.texts == ("a cat", "a dog", "good film")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ("", 400, "the body is empty; send JSON, such as"),
        ('{"texts": ["good"', 400, "the body is not JSON: Expecting ',' delimiter: line 1"),
        ("[" * 100_000, 400, "the body is not JSON: it is nested too deeply"),
        ('["good"]', 422, "the body is ['good']; send an object, such as"),
        ('{"text": ["good"]}', 422, "the body: unknown field 'text'. Choose from: texts, tasks"),
        ("{}", 422, 'texts is missing; give a list of texts, such as {"texts": ["a text"]}'),
        ('{"texts": "good"}', 422, "texts is 'good'; give a list of texts"),
        ('{"texts": []}', 422, "texts is []; give a list of texts"),
        ('{"texts": [1, 2, 3, 4]}', 413, "4 texts; this server accepts 3 in a request"),
        ('{"texts": ["a", " "]}', 422, "texts[1] is empty (' ')"),
        ('{"texts": [null]}', 422, "texts[0] is empty (None)"),
        ('{"texts": [5]}', 422, "texts[0] holds 5, which is not text"),
        ('{"texts": ["a\\u0000"]}', 422, "texts[0] "),
        ('{"texts": [{}]}', 422, "texts[0] is empty; give a text for each column, such as"),
        (
            '{"texts": [{"txt": "a"}]}',
            422,
            "texts[0] has no column 'text', which task 'mood' reads; its columns are 'txt'",
        ),
        ('{"texts": [{"first": "a"}], "tasks": ["near"]}', 422, "texts[0] has no column 'second'"),
        ('{"texts": [{"text": ""}]}', 422, "texts[0].text is empty ('')"),
        ('{"texts": [{"text": 5}]}', 422, "texts[0].text holds 5, which is not text"),
        ('{"texts": ["a"], "tasks": ["mod"]}', 422, "unknown task 'mod'. Choose from: mood, same"),
        ('{"texts": ["a"], "tasks": [{}]}', 422, "tasks: unknown task '{}'"),
        ('{"texts": ["a"], "tasks": []}', 422, "tasks is []; give a list of names"),
        (
            '{"texts": ["a"], "tasks": ["near"]}',
            422,
            "texts[0] is a single text, but task 'near' reads 'first' and 'second'; give an object",
        ),
    ],
)
def test_requests_that_cannot_be_answered_get_a_status_and_a_sentence(
    reader: RequestReader, body: str, status: int, message: str
) -> None:
    with pytest.raises(RequestError) as refused:
        reader(body.encode())
    assert refused.value.status == status
    assert message in str(refused.value)


@settings(max_examples=50, deadline=None)
@given(
    body=st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(),
        lambda each: (
            st.lists(each) | st.dictionaries(st.sampled_from(["texts", "tasks", "x"]), each)
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_body_is_read_or_refused(reader: RequestReader, body: bytes) -> None:
    try:
        assert reader(body)
    except RequestError as refused:
        assert 400 <= refused.status < 500


def test_texts_of_several_requests_share_passes_and_keep_their_order(
    tasks: list[Task], backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = mtl.load(save_run(tmp_path / "run", MultiHead, tasks, backbone), "cpu")
    reader = RequestReader(tasks, LIMITS)
    pair = {"first": "a cat", "second": "a dog"}
    texts = [*read(reader, texts=["good", pair]), *read(reader, texts=["bad film", pair])]
    passes, forward = [], Encoder.forward

    def counted(encoder: Encoder, *args: Any, **options: Any) -> Any:
        passes.append(1)
        return forward(encoder, *args, **options)

    monkeypatch.setattr(Encoder, "forward", counted)
    records = predict_together(predictor, texts, batch_size=64)
    assert len(passes) == 2  # one for single texts, one for both tasks of the pairs
    assert [list(record) for record in records] == [["mood"], ["same", "near"]] * 2
    for record, text in zip(records[::2], ["good", "bad film"], strict=True):
        (prediction,) = predictor.predict([text], "mood")
        assert record["mood"]["prediction"] == prediction.value
        assert record["mood"]["probabilities"] == pytest.approx(prediction.probabilities)
    assert records[1]["near"]["prediction"] == pytest.approx(
        predictor.predict([("a cat", "a dog")], "near")[0].value
    )


def test_the_description_names_the_tasks_and_an_example_that_is_accepted(
    tasks: list[Task], reader: RequestReader
) -> None:
    class App:
        openapi_schema: Any = None

        def openapi(self) -> Any:
            self.openapi_schema = {"paths": {"/predict": {"post": {}}}}
            return self.openapi_schema

    app = App()
    describe(app, tasks, max_texts=3)
    operation = app.openapi()["paths"]["/predict"]["post"]
    assert set(operation["responses"]) == {"200", "400", "413", "422", "500", "503"}
    request = operation["requestBody"]["content"]["application/json"]["schema"]
    assert request["properties"]["tasks"]["items"] == {"enum": ["mood", "same", "near"]}
    assert read(reader, **request["example"])
