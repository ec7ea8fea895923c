from transformers import AutoConfig

from mtl.modules.families import BERT_LAYOUT, FAMILIES, family
from tests.conftest import FAMILIES as TESTED


def test_every_family_is_a_model_type_of_transformers() -> None:
    assert {AutoConfig.for_model(name).model_type for name in FAMILIES} == FAMILIES.keys()


def test_families_with_bert_layout_have_query_and_value_layers() -> None:
    assert {"bert", "roberta", "electra"} <= set(BERT_LAYOUT) & TESTED.keys()
    assert all(family(name).query_and_value == ("query", "value") for name in BERT_LAYOUT)


def test_an_unlisted_family_has_no_known_names() -> None:
    assert not family("gpt2").query_and_value and not family("gpt2").bert_layout
