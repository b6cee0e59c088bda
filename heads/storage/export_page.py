"""Whether the README.md of an export is as ``export`` wrote it, by this version or an earlier one."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from .model_card import model_card

_HASH = "page_sha256"  # key of head.json; other versions write another page for the same card


def with_page(card: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The card with the hash of its page, and the page.

    Args:
        card: Contents of ``head.json``.
    """
    page = model_card(card)
    return {**card, _HASH: _hash(page)}, page


def is_unedited(page: str, card: Mapping[str, Any]) -> bool:
    """Whether nobody has edited a page since it was written.

    Args:
        page: Text of ``README.md``.
        card: Contents of ``head.json``.

    Raises:
        KeyError, TypeError, AttributeError: The card is damaged.
    """
    return card.get(_HASH) == _hash(page) or page == model_card(card)


def _hash(page: str) -> str:
    return sha256(page.encode()).hexdigest()
