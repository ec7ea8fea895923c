"""Build the language model of a prompt-based method."""

import copy

import torch
from transformers import PreTrainedModel

from mtl.modules.backbone import language_model_class
from mtl.modules.masked_lm import MaskedLM


def build_language_model(encoder: MaskedLM) -> PreTrainedModel:
    """Builds the complete language model, masked or causal.

    `MaskedLM` removes the output layer of the model. Here it is restored, and tied to the word
    embeddings if it was.

    Args:
        encoder: The language model of the method.
    """
    config = copy.deepcopy(encoder.model.config)
    config.dtype = torch.float32
    model: PreTrainedModel = language_model_class(config).from_config(config)
    model.load_state_dict(encoder.model.state_dict(), strict=False)
    output_layer = model.get_output_embeddings()
    with torch.no_grad():
        if encoder.weight is not None:
            output_layer.weight.copy_(encoder.weight)
        if encoder.bias is not None:
            output_layer.bias.copy_(encoder.bias)
    model.tie_weights()
    return model.eval()
