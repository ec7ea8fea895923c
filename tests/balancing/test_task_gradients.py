from mtl.balancing.task_gradients import layer_group


def test_parameters_are_grouped_by_the_index_of_their_layer() -> None:
    assert layer_group("encoder.backbone.encoder.layer.3.output.dense.weight") == "layer 3"
    assert layer_group("encoder.backbone.layers.11.mlp.Wo.weight") == "layer 11"
    assert layer_group("encoder.backbone.embeddings.word_embeddings.weight") == "embeddings"
    assert layer_group("encoder.backbone.pooler.dense.bias") == "other"
