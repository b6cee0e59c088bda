"""Files of a Hugging Face repository, through huggingface_hub's cache."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@.+)?")
"""``owner/name``, or ``owner/name@revision``."""

Fetch = Callable[[str], Path]
"""Fetches a file of the repository by name and returns its local path."""

_TIMEOUT = 5  # seconds to wait for the hub's answer about a file


def download(hub_id: str, probe: str, collect: Callable[[Fetch], Path], cache_dir: str | Path | None = None) -> Path:
    """Download files of a repository; use the cache if the hub cannot be reached.

    Args:
        hub_id: ``owner/name``, or ``owner/name@revision``.
        probe: A file that the repository must have; a request for it tests whether the hub answers.
        collect: Fetches the needed files and returns their folder.
        cache_dir: Folder of huggingface_hub's cache, if not the default one.

    Raises:
        ValueError: The repository or a file is missing or not readable, or the hub cannot be reached.
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
            f"The hub returned an error for {hub_id}: {error} Check the id and your access to it."
        ) from error
    except ValueError:
        raise
    except Exception as error:  # the transport library and its errors depend on the version
        raise ValueError(f"Downloading {hub_id} failed: {error} Run it again; complete files are kept.") from error


@contextmanager
def asked_once(hub_id: str | None) -> Iterator[None]:
    """Context in which another library reads from the cache, or fails at once, if the hub does not answer.

    Without it, huggingface_hub waits and retries for each file.

    Args:
        hub_id: ``owner/name``, or ``owner/name@revision``; ``None`` for another server, for which only the timeout
            is set.

    Raises:
        ValueError: The hub does not answer, and a file is not in the cache.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import HfHubHTTPError

    before, waits, answers = constants.HF_HUB_OFFLINE, socket.getdefaulttimeout(), True
    if hub_id is not None:
        repo, _, revision = hub_id.partition("@")
        try:
            answers = _reachable(repo, "config.json", revision or None)
        except HfHubHTTPError:  # a missing file or denied access is an answer
            answers = True
    try:
        constants.HF_HUB_OFFLINE = before or not answers
        socket.setdefaulttimeout(waits or _TIMEOUT)
        yield
    except OSError as error:
        if answers:
            raise
        raise ValueError(
            f"The hub does not answer, and {hub_id} is not complete in huggingface_hub's cache. Check the connection."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = before
        socket.setdefaulttimeout(waits)


def _reachable(repo: str, probe: str, revision: str | None) -> bool:
    """Whether the hub answers a single request; hf_hub_download retries for half a minute before it uses its cache."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError

    try:
        get_hf_file_metadata(hf_hub_url(repo, probe, revision=revision), timeout=_TIMEOUT)
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        return False  # the hub is down; the cache may suffice
    except Exception:  # the transport library and its errors depend on the version
        return False
    return True


def shared_source(source: str) -> str:
    """The source of weights for files that are shared, without local folders.

    Args:
        source: A Hugging Face id, a web address, "random", or a path.

    Returns:
        The source unchanged, or the last part of a path.
    """
    path = Path(source.removeprefix("local-dir:")).expanduser()
    elsewhere = HUB_ID.fullmatch(source) or source.startswith(("https://", "http://"))
    return source if elsewhere and not path.exists() else path.absolute().name
