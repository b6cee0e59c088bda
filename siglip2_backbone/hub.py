"""Files of a Hugging Face repository, through huggingface_hub's cache."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@.+)?")
"""``owner/name``, or ``owner/name@revision``."""

Fetch = Callable[[str], Path]
"""From the name of a file in the repository to the file here."""

_TIMEOUT = 5  # seconds to wait for the hub's answer about a file


def download(hub_id: str, probe: str, collect: Callable[[Fetch], Path], cache_dir: str | Path | None = None) -> Path:
    """Fetch files of a repository whole; without the hub, from the cache.

    Args:
        hub_id: ``owner/name``, or ``owner/name@revision``.
        probe: A file that the repository must have, by which the hub is asked for an answer.
        collect: Fetches the files that are needed; returns the folder that they lie in.
        cache_dir: Folder of huggingface_hub's cache, where not the usual one.

    Raises:
        ValueError: The repository or a file is not there or not readable, or the hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo, _, revision = hub_id.partition("@")
    try:
        offline = not _reachable(repo, probe, revision or None)

        def fetch(name: str) -> Path:
            path = hf_hub_download(
                repo,
                name,
                revision=revision or None,
                cache_dir=cache_dir,
                local_files_only=offline,
                etag_timeout=_TIMEOUT,
            )
            return Path(path)

        return collect(fetch)
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"{hub_id} is neither a path here nor complete in huggingface_hub's cache, and the hub cannot be reached. "
            "Check the name and the connection, or download the repository elsewhere and pass its directory."
        ) from error
    except HfHubHTTPError as error:
        raise ValueError(
            f"The hub gave nothing usable for {hub_id}: {error} Check the id and your access to it."
        ) from error
    except ValueError:
        raise
    except Exception as error:  # whatever the transport library of this version raises when a connection breaks
        raise ValueError(
            f"Downloading {hub_id} stopped: {error} Run it again; what has arrived whole is kept."
        ) from error


@contextmanager
def asked_once(hub_id: str | None) -> Iterator[None]:
    """Where the hub gives no answer, what another library fetches within this comes from the cache at once, or fails.

    Left to itself, huggingface_hub waits and tries again for each file that the library asks for.

    Args:
        hub_id: ``owner/name``, or ``owner/name@revision``; ``None`` for what comes from another server, which is waited
            for as long, and not for ever.

    Raises:
        ValueError: The hub gives no answer, and something is not in the cache.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    before, waits, answers = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout(), True
    if hub_id is not None:
        repo, _, revision = hub_id.partition("@")
        try:
            answers = _reachable(repo, "config.json", revision or None)
        except (
            HfHubHTTPError
        ):  # the repository may have no such file, and may be closed to this user: that is an answer
            answers = True
    try:
        constants.HF_HUB_OFFLINE = before or not answers
        socket.setdefaulttimeout(waits or _TIMEOUT)
        yield
    except OSError as error:
        if answers:
            raise
        raise ValueError(
            f"The hub gives no answer, and {hub_id} is not complete in huggingface_hub's cache. Check the connection."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before
        socket.setdefaulttimeout(waits)


def _reachable(repo: str, probe: str, revision: str | None) -> bool:
    """Whether the hub answers, asked once: hf_hub_download itself tries for half a minute before it takes its cache."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repo, probe, revision=revision), timeout=_TIMEOUT)
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return False  # the hub is down: the cache may do
    except Exception:  # its transport library differs from version to version, and so do the errors
        return False
    return True


def shared_source(source: str) -> str:
    """What a file that leaves this machine says of where weights come from.

    Args:
        source: A Hugging Face id, a web address, "random", or a path.

    Returns:
        All of it, or the last part of a path.
    """
    path = Path(source.removeprefix("local-dir:")).expanduser()
    elsewhere = HUB_ID.fullmatch(source) or source.startswith(("https://", "http://"))
    return source if elsewhere and not path.exists() else path.absolute().name
