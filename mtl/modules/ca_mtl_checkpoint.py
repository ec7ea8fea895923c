"""Weights of the authors' CA-MTL release under our names."""

import re
from collections.abc import Mapping

from torch import Tensor

from mtl.errors import UserError, shorten
from mtl.modules.ca_mtl import ConditionalEncoder

# The release's names, and ours; the first that matches is taken. Of the large variant's ladder only the parts' names are
# known: it is recognised by the number of the layer that it stands beside.
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


def load_ca_mtl_checkpoint(encoder: ConditionalEncoder, weights: Mapping[str, Tensor]) -> None:
    """Loads the encoder of the authors' release: of a checkpoint of theirs, what its names begin with `bert.`.

    Args:
        encoder: Of the release's shape and variant, with all of its parts.
        weights: The authors' names and their tensors.

    Raises:
        UserError: If a tensor has no place, or a place no tensor, or they differ in shape.
    """
    whole = {
        name.removeprefix("bert."): value
        for name, value in weights.items()
        if name.startswith("bert.")
    }
    renamed = {_ours(name, encoder.variant): value for name, value in (whole or weights).items()}
    kept = encoder.state_dict()
    if extra := sorted(renamed.keys() - kept.keys()):
        raise UserError(
            f"no place for {shorten(extra)}: is this the {encoder.variant} variant of CA-MTL, with all parts?"
        )
    # Positions may be stored beside the weights as a buffer, which a release of transformers made anew.
    if missing := sorted(
        name
        for name in kept.keys() - renamed.keys()
        if not name.endswith(("position_ids", "token_type_ids"))
    ):
        raise UserError(
            f"no tensor for {shorten(missing)}: is this the {encoder.variant} variant of CA-MTL, with all parts?"
        )
    if unlike := [name for name, value in renamed.items() if value.shape != kept[name].shape]:
        sizes = f"{tuple(renamed[unlike[0]].shape)}, not {tuple(kept[unlike[0]].shape)}"
        raise UserError(
            f"{unlike[0]} has shape {sizes}: another backbone, number of tasks or longest row"
        )
    encoder.load_state_dict(renamed, strict=False)


def _ours(name: str, variant: str) -> str:
    name = name.replace(".new_", ".")  # the base variant's top layer
    for pattern, ours in NAMES:
        if re.match(pattern, name):
            found = re.sub(pattern, ours, name, count=1)
            return (
                re.sub(r"^bottlenecks\.\d+", "bottlenecks.0", found) if variant == "base" else found
            )
    return name
