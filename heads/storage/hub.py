"""Upload an exported head to the Hugging Face hub, where ``heads.load`` finds it by its id."""

import json
import shutil
import tempfile
from pathlib import Path

from siglip2_backbone.hub import HUB_ID
from siglip2_backbone.json_files import read_json

from .export_page import is_unedited, with_page
from .loading import DESCRIPTION, FILES, PAGE, read_export
from .shared_card import without_paths

_MESSAGE = "Upload a head of siglip2-backbone"


def push(directory: str | Path, repository: str, *, private: bool = False) -> str:
    """Upload only ``head.safetensors``, ``head.json`` and ``README.md`` of a folder, in one commit.

    The uploaded files contain no local paths, see :func:`heads.storage.shared_card.without_paths`.

    Args:
        directory: A directory that ``export`` wrote.
        repository: ``owner/name``; created if missing.
        private: Make a new repository visible only to you or your organisation.

    Returns:
        The address of the repository.

    Raises:
        ValueError: The export is incomplete, you are not logged in, the hub refuses or cannot be reached, or
            ``private`` is set and the repository already exists and is public.
    """
    from huggingface_hub import HfApi

    folder = Path(directory).expanduser()
    read_export(folder)
    if not (folder / PAGE).is_file():
        raise ValueError(f"{folder} has no {PAGE}; expected a directory that `siglip2 export` wrote.")
    if not HUB_ID.fullmatch(repository) or "@" in repository:
        raise ValueError(f"The repository is {repository!r}; expected owner/name.")
    token = _token()
    try:
        api = HfApi(token=token)
        address = str(api.create_repo(repository, private=private, exist_ok=True))
        public = private and not api.repo_info(repository).private  # an existing one keeps its visibility
        if not public:
            with tempfile.TemporaryDirectory() as copy:
                _copy(folder, Path(copy))
                api.upload_folder(
                    repo_id=repository, folder_path=Path(copy), allow_patterns=list(FILES), commit_message=_MESSAGE
                )
    except Exception as error:  # from the hub or the transport library, which differs between versions
        # a chained traceback would show the request, and with it the token
        raise ValueError(f"Pushing to {repository} failed: {_reason(error, token)}") from None
    if public:
        raise ValueError(
            f"{repository} already exists and is public. Make it private on its page, or use another name."
        )
    return address


def _copy(folder: Path, copy: Path) -> None:
    """Copy an export without local paths, which exports of earlier versions may contain."""
    for name in FILES:
        shutil.copyfile(folder / name, copy / name)
    card = read_json(copy / DESCRIPTION)
    shared = without_paths(card)
    if is_unedited((copy / PAGE).read_text(encoding="utf-8"), card):
        shared, page = with_page(shared)
        (copy / PAGE).write_text(page, encoding="utf-8")
    (copy / DESCRIPTION).write_text(json.dumps(shared, indent=2) + "\n", encoding="utf-8")


def _token() -> str:
    from huggingface_hub import get_token

    token = get_token()
    if token is None:
        raise ValueError("Not logged in to the hub. Run `hf auth login`, or set HF_TOKEN to a write token.")
    return str(token)


def _reason(error: Exception, token: str) -> str:
    """The error in one line, without the token, and the remedy."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    lines = str(error).replace(token, "***").split("\n")
    said = next((line.strip() for line in lines if line.strip()), type(error).__name__).rstrip(".")
    if isinstance(error, HfHubHTTPError):
        return f"{said}. Check the name and your token's write permission."
    if isinstance(error, OfflineModeIsEnabled):
        return f"{said}. Unset HF_HUB_OFFLINE."
    return f"{said}. Check the connection and run it again; the hub has either the old files or all new ones."
