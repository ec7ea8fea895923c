"""Loads weights of the authors' CA-MTL release into our encoder."""

import re
from collections.abc import Mapping

from torch import Tensor

from mtl.errors import UserError, shorten
from mtl.modules.ca_mtl import ConditionalEncoder

# Patterns of the release's names, and our names; the first match is used. Of the large variant's
# ladder only the names of its modules are known, so the layer number identifies the bottleneck.
NAMES = (
    (r"task_type_embeddings\.", r"task_embedding."),
    (r"conditional_alignment\.gb_weights\.", r"alignment.gamma_beta."),
    (r"encoder\.task_transformation\.", r"transformation."),
    (r"encoder\.layer\.(\d+)\.attention\.self\.random_weight_matrix", r"biases.\1.matrix"),
    (
        r"encoder\.layer\.(\d+)\.attention\.self\.cond_block_diag_attn\.gb_weights\.",
        r"biases.\1.film.gamma_beta.",
    ),
    (r"encoder\.\D+(\d+)\..*emb_transf\.", r"bottlenecks.\1.condition."),
    (r"encoder\.\D+(\d+)\..*hidden_modulation\.gb_weights\.", r"bottlenecks.\1.film.gamma_beta."),
    (r"encoder\.\D+(\d+)\..*down_proj_layer\.", r"bottlenecks.\1.down."),
    (r"encoder\.\D+(\d+)\..*up_proj_layer\.", r"bottlenecks.\1.up."),
    (
        r"encoder\.layer\.\d+\.adapter\.condlayernorm\.ln_weight_modulation\.gb_weights\.",
        r"top_norm.film.gamma_beta.",
    ),
    (r"encoder\.layer\.\d+\.adapter\.condlayernorm\.", r"top_norm."),
    (r"(.*LayerNorm)\.ln_weight_modulation\.gb_weights\.", r"backbone.\1.film.gamma_beta."),
    (r"(embeddings|encoder|pooler)\.", r"backbone.\1."),
)
# Some versions of transformers store these buffers, others compute them.
POSITION_BUFFERS = ("position_ids", "token_type_ids")


def load_ca_mtl_checkpoint(encoder: ConditionalEncoder, weights: Mapping[str, Tensor]) -> None:
    """Loads the encoder of a checkpoint of the authors' release.

    Args:
        encoder: An encoder of the release's shape and variant, with all conditional parts.
        weights: The tensors by the authors' names. If some names start with `bert.`, all other
            tensors are ignored.

    Raises:
        UserError: If tensors are missing, unknown or of another shape.
    """
    prefixed = {
        name.removeprefix("bert."): value
        for name, value in weights.items()
        if name.startswith("bert.")
    }
    variant = encoder.options.variant
    renamed = {_our_name(name, variant): value for name, value in (prefixed or weights).items()}
    expected = encoder.state_dict()
    advice = f"is this the {variant} variant of CA-MTL, with all conditional parts?"
    if unknown := sorted(renamed.keys() - expected.keys()):
        raise UserError(f"CA-MTL checkpoint: unknown tensors {shorten(unknown)}; {advice}")
    missing = sorted(
        name for name in expected.keys() - renamed.keys() if not name.endswith(POSITION_BUFFERS)
    )
    if missing:
        raise UserError(f"CA-MTL checkpoint: missing tensors {shorten(missing)}; {advice}")
    for name, value in renamed.items():
        if value.shape != expected[name].shape:
            raise UserError(
                f"CA-MTL checkpoint: {name} has shape {tuple(value.shape)}, expected "
                f"{tuple(expected[name].shape)}; the backbone, the number of tasks or the maximum "
                "length differ"
            )
    encoder.load_state_dict(renamed, strict=False)


def _our_name(name: str, variant: str) -> str:
    name = name.replace(".new_", ".")  # prefix in the top layer of the base variant
    for pattern, ours in NAMES:
        if re.match(pattern, name):
            renamed = re.sub(pattern, ours, name, count=1)
            if variant == "base":
                return re.sub(r"^bottlenecks\.\d+", "bottlenecks.0", renamed)
            return renamed
    return name
