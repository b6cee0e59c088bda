"""Put an exported head on the Hugging Face hub, where ``heads.load`` finds it by its id."""

import json
import shutil
import tempfile
from pathlib import Path

from siglip2_backbone.hub import HUB_ID
from siglip2_backbone.json_files import read_json

from .loading import DESCRIPTION, FILES, PAGE, read_export
from .model_card import model_card
from .shared_card import without_paths

_MESSAGE = "Upload a head of siglip2-backbone"


def push(directory: str | Path, repository: str, *, private: bool = False) -> str:
    """Upload ``head.safetensors``, ``head.json`` and ``README.md`` in one commit, and nothing else of the folder.

    Nothing that is uploaded has a path of this machine, see :func:`heads.storage.shared_card.without_paths`.

    Args:
        directory: A directory that ``export`` wrote.
        repository: ``owner/name``; made if it is not there.
        private: Only you, or your organisation, can see it.

    Returns:
        The address of the repository.

    Raises:
        ValueError: The directory is no whole export, nobody is logged in, the hub refuses or cannot be reached, or a
            private repository is asked for and the one that is there is public.
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
        public = private and not api.repo_info(repository).private  # one that was there stays what it was
        if not public:
            with tempfile.TemporaryDirectory() as copy:
                _copy(folder, Path(copy))
                api.upload_folder(
                    repo_id=repository, folder_path=Path(copy), allow_patterns=list(FILES), commit_message=_MESSAGE
                )
    except Exception as error:  # of the hub or of whatever transport library this version has
        # the chain would show the request, and with it the token
        raise ValueError(f"Pushing to {repository} failed: {_reason(error, token)}") from None
    if public:
        raise ValueError(
            f"{repository} is there already, and public. Make it private on its page, or use another name."
        )
    return address


def _copy(folder: Path, copy: Path) -> None:
    """The files of an export, without a path of this machine, which exports of earlier versions may have."""
    for name in FILES:
        shutil.copyfile(folder / name, copy / name)
    card = read_json(copy / DESCRIPTION)
    shared = without_paths(card)
    (copy / DESCRIPTION).write_text(json.dumps(shared, indent=2) + "\n", encoding="utf-8")
    if (copy / PAGE).read_text(encoding="utf-8") == model_card(card):  # nobody has edited it
        (copy / PAGE).write_text(model_card(shared), encoding="utf-8")


def _token() -> str:
    from huggingface_hub import get_token

    token = get_token()
    if token is None:
        raise ValueError("Nobody is logged in to the hub. Run `hf auth login`, or set HF_TOKEN to a write token.")
    return str(token)


def _reason(error: Exception, token: str) -> str:
    """What went wrong in one line, without the token, and what to do."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    lines = str(error).replace(token, "***").split("\n")
    said = next((line.strip() for line in lines if line.strip()), type(error).__name__).rstrip(".")
    if isinstance(error, HfHubHTTPError):
        return f"{said}. Check the name, and that your token may write there."
    if isinstance(error, OfflineModeIsEnabled):
        return f"{said}. Unset HF_HUB_OFFLINE."
    return f"{said}. Check the connection and run it again; what is on the hub is as it was, or whole."
