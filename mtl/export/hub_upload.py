"""Upload an exported directory to a model hub, with the credentials of the hub client."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError  # type: ignore[attr-defined]
from huggingface_hub.utils._validators import validate_repo_id

from mtl.errors import UserError


def check_name(name: str) -> None:
    """Checks the name of a model on a hub.

    Raises:
        UserError: If it is not a valid name.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"--push {name}: {error}") from error


def upload(folder: Path, name: str) -> str:
    """Uploads a directory as a model. The model is created if it does not exist.

    Args:
        folder: The directory.
        name: Name of the model on the hub, such as `organisation/model`.

    Returns:
        The URL of the model.

    Raises:
        UserError: If the hub rejects the upload or cannot be reached; the directory is kept.
    """
    api = HfApi()
    try:
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(
            repo_id=name, folder_path=folder, commit_message=f"mtl export: {folder.name}"
        )
    except (HTTPError, LocalTokenNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--push {name}: {reason} (log in with `hf auth login`). The directory {folder} is "
            f"complete; upload it later with `hf upload {name} {folder}`"
        ) from error
    return str(address)
