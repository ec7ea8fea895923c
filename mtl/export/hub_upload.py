"""An exported directory onto a hub, with the hub client's own login."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError, HTTPError, LocalTokenNotFoundError  # type: ignore[attr-defined]
from huggingface_hub.utils._validators import validate_repo_id

from mtl.errors import UserError


def check_name(name: str) -> None:
    """Refuses a name that no hub takes, before anything is computed.

    Raises:
        UserError: If it is none.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"--push {name}: {error}") from error


def upload(folder: Path, name: str) -> str:
    """Uploads a directory as a model, which is made where there is none of the name.

    Args:
        folder: The directory.
        name: The model's name on the hub, such as `organisation/model`.

    Returns:
        Its address.

    Raises:
        UserError: If the hub refuses, or cannot be reached; the directory stays.
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
            f"--push {name}: {reason} (log in with `hf auth login`). {folder} is whole; upload it later with "
            f"`hf upload {name} {folder}`"
        ) from error
    return str(address)
