from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mtl.errors import UserError
from mtl.tasks import Prompt, Source, Task
from mtl.tasks.prompts import fill_template, label_word_ids
from mtl.tasks.templates import parse_template
from tests.conftest import save_backbone

TEXT = (
    "It was great. It is so. This is terrible! Yes, no, maybe: what? A good film, and a bad book. "
    "The man sees it? Is it Good"
)
CONFIGS = Path(__file__).parents[2] / "configs/tasks"
# Table A.2 of the specification, in the notation of LM-BFF's release.
PUBLISHED = {
    "sst2": "*cls**sent_0*_It_was*mask*.*sep+*",
    "sst5": "*cls**sent_0*_It_was*mask*.*sep+*",
    "mr": "*cls**sent_0*_It_was*mask*.*sep+*",
    "cr": "*cls**sent_0*_It_was*mask*.*sep+*",
    "mpqa": "*cls**sent_0*_It_was*mask*.*sep+*",
    "subj": "*cls**sent_0*_This_is*mask*.*sep+*",
    "trec": "*cls**mask*:*+sent_0**sep+*",
    "cola": "*cls**sent_0*_This_is*mask*.*sep+*",
    "mnli": "*cls**sent-_0*?*mask*,*+sentl_1**sep+*",
    "snli": "*cls**sent-_0*?*mask*,*+sentl_1**sep+*",
    "qnli": "*cls**sent-_0*?*mask*,*+sentl_1**sep+*",
    "rte": "*cls**sent-_0*?*mask*,*+sentl_1**sep+*",
    "mrpc": "*cls**sent_0**mask*,*+sentl_1**sep+*",
    "qqp": "*cls**sent_0**mask*,*+sentl_1**sep+*",
    "stsb": "*cls**sent_0**mask*,*+sentl_1**sep+*",
}


@pytest.fixture(scope="session")
def byte_level() -> Any:
    """A byte-level BPE tokenizer like RoBERTa's, trained on a few words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        [TEXT] * 50,
        trainers.BpeTrainer(vocab_size=2000, special_tokens=special, initial_alphabet=alphabet),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", mask_token="<mask>", **names
    )


@pytest.fixture(scope="session")
def word_piece(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(
        save_backbone("bert", tmp_path_factory.mktemp("wordpiece"))
    )


def task(template: str, texts: list[str], **options: Any) -> Task:
    prompt = Prompt(template, {"no": "bad", "yes": "good"}, **options)
    return Task(
        name="toy", texts=texts, classes=["no", "yes"], source=Source(path="."), prompt=prompt
    )


def encoded(task: Task, texts: list[str], tokenizer: Any, length: int = 128) -> list[str]:
    ids, segments, mask, _ = fill_template(task, parse_template(task), texts, tokenizer, length)
    assert ids[mask] == tokenizer.mask_token_id
    assert ids.count(tokenizer.mask_token_id) == 1
    assert len(segments) == len(ids)
    return list(tokenizer.convert_ids_to_tokens(ids))


def test_a_sentence_is_encoded_with_the_leading_spaces_of_roberta(byte_level: Any) -> None:
    tokens = encoded(task("{text} It was {mask}.", ["text"]), ["It is good"], byte_level)
    assert tokens == ["<s>", "It", "Ġis", "Ġgood", "ĠIt", "Ġwas", "<mask>", ".", "</s>"]


def test_the_first_text_loses_its_punctuation_mark_and_the_second_its_capital(
    byte_level: Any,
) -> None:
    tokens = encoded(
        task("{a-}? {mask}, {b:lower}", ["a", "b"]),
        ["The man sees it.", "It was great"],
        byte_level,
    )
    text = byte_level.convert_tokens_to_string(tokens)
    assert text == "<s>The man sees it?<mask>, it was great</s>"


def test_only_a_punctuation_mark_is_dropped_unless_exact_is_set(byte_level: Any) -> None:
    for exact, remaining in ((False, "The man"), (True, "The ma")):
        prompted = task("{a-}? {mask}, {b}", ["a", "b"], exact=exact)
        text = byte_level.convert_tokens_to_string(encoded(prompted, ["The man", "it"], byte_level))
        assert text == f"<s>{remaining}?<mask>, it</s>"


@given(
    body=st.text("abc ", max_size=8).map(str.strip),
    mark=st.sampled_from(["", ".", "!", "?", ","]),
    space=st.text(" \t\n", max_size=3),
)
def test_a_final_punctuation_mark_is_dropped_whatever_white_space_follows(
    byte_level: Any, body: str, mark: str, space: str
) -> None:
    prompted = task("{a-} {mask}", ["a"])
    dropped = encoded(prompted, [f"{body}{mark}{space}"], byte_level)
    assert dropped == encoded(prompted, [body if mark else f"{body}{space}"], byte_level)


@given(text=st.text("ab. ", min_size=1, max_size=8))
def test_exact_drops_the_last_character_whatever_it_is(byte_level: Any, text: str) -> None:
    dropped = encoded(task("{a-} {mask}", ["a"], exact=True), [text], byte_level)
    assert dropped == encoded(task("{a} {mask}", ["a"]), [text[:-1]], byte_level)


def test_word_pieces_have_no_leading_spaces(word_piece: Any) -> None:
    tokens = encoded(task("{text} it was {mask}.", ["text"]), ["the film is good"], word_piece)
    assert tokens == ["[CLS]", "the", "film", "is", "good", "it", "was", "[MASK]", "[UNK]", "[SEP]"]


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("tokenizer", ["byte_level", "word_piece"])
def test_both_notations_give_the_same_ids(
    name: str, tokenizer: str, request: pytest.FixtureRequest
) -> None:
    ours = Task.read(CONFIGS / f"{name}.yaml")
    assert ours.prompt is not None
    texts = ["The man sees it, is it Good?", "Yes, it was Great. No book."][: len(ours.texts)]
    theirs = replace(ours, prompt=replace(ours.prompt, template=PUBLISHED[name]))
    loaded = request.getfixturevalue(tokenizer)
    assert encoded(ours, texts, loaded) == encoded(theirs, texts, loaded)


@given(
    st.lists(st.sampled_from(TEXT.split()), min_size=1, max_size=40),
    st.lists(st.sampled_from(TEXT.split()), max_size=40),
    st.integers(12, 40),
)
def test_truncation_cuts_only_texts(
    byte_level: Any, first: list[str], second: list[str], length: int
) -> None:
    prompted = task("{a-}? {mask}, {b:lower}", ["a", "b"])
    complete, _, _, _ = fill_template(
        prompted, parse_template(prompted), [" ".join(first), " ".join(second)], byte_level, 1000
    )
    ids, _, mask, cut = fill_template(
        prompted, parse_template(prompted), [" ".join(first), " ".join(second)], byte_level, length
    )
    assert cut == (len(complete) > length)
    assert len(ids) == min(length, len(complete))
    tokens = byte_level.convert_ids_to_tokens(ids)
    assert tokens[0] == "<s>"
    assert tokens[-1] == "</s>"
    assert tokens[mask - 1 : mask + 2] == ["?", "<mask>", ","]


def test_texts_are_cut_to_their_own_limits(byte_level: Any) -> None:
    tokens = encoded(
        task("{text} It was {mask}.", ["text"], limits={"text": 2}), ["It is good"], byte_level
    )
    assert tokens == ["<s>", "It", "Ġis", "ĠIt", "Ġwas", "<mask>", ".", "</s>"]


def test_a_template_that_is_too_long_is_refused(byte_level: Any) -> None:
    with pytest.raises(UserError, match="the template alone has more than 4 tokens"):
        encoded(task("{text} It was {mask}.", ["text"]), ["good"], byte_level, 4)


def test_a_label_word_with_its_leading_space_must_be_one_token_of_its_own(byte_level: Any) -> None:
    prompted = task("{text} It was {mask}.", ["text"])
    assert byte_level.convert_ids_to_tokens(label_word_ids(prompted, byte_level)) == [
        "Ġbad",
        "Ġgood",
    ]
    assert prompted.prompt is not None
    long = replace(
        prompted, prompt=replace(prompted.prompt, words={"no": "bad", "yes": "goodness"})
    )
    with pytest.raises(
        UserError, match=r"'goodness' is not one token of this backbone but \['Ġgood', "
    ):
        label_word_ids(long, byte_level)
    same = replace(prompted, prompt=replace(prompted.prompt, words={"no": "good", "yes": "good"}))
    with pytest.raises(UserError, match="two classes have the same token"):
        label_word_ids(same, byte_level)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("*cls**sent_0*_It_was*.*sep+*", r"write \*mask\* exactly once"),
        ("*cls**sent_2**mask*.*sep+*", "'sent_2': there is no text 2"),
        ("*cls**sentx_0**mask*.*sep+*", "unsupported: 'sentx_0'"),
    ],
)
def test_a_template_that_cannot_be_parsed_is_refused(template: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_template(task(template, ["text"]))
