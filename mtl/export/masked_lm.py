"""A prompt method's model as the `AutoModelForMaskedLM` of its family."""

import copy

import torch
from transformers import AutoModelForMaskedLM, PreTrainedModel

from mtl.modules.masked_lm import MaskedLM


def masked_lm(encoder: MaskedLM) -> PreTrainedModel:
    """The whole masked language model: its last layer is put back, tied to the word embeddings where it was.

    Args:
        encoder: The model as the method has it.
    """
    config = copy.deepcopy(encoder.model.config)
    config.dtype = torch.float32
    model = AutoModelForMaskedLM.from_config(config)
    model.load_state_dict(encoder.model.state_dict(), strict=False)
    decoder = model.get_output_embeddings()
    with torch.no_grad():
        if encoder.weight is not None:
            decoder.weight.copy_(encoder.weight)
        if encoder.bias is not None:
            decoder.bias.copy_(encoder.bias)
    model.tie_weights()
    return model.eval()
