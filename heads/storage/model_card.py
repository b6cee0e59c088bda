"""The README.md of an exported head, which the Hugging Face hub shows as its model card."""

import html
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from siglip2_backbone.hub import HUB_ID

# characters that Markdown, or the hub's extensions, read as markup; an underscore within a word is not
_MARKUP = re.compile(r'[\\`*{}\[\]()#+!|~$:@^=".]|(?<![^\W_])_|_(?![^\W_])')


def model_card(card: Mapping[str, Any]) -> str:
    """Describe a head, its scores and how to load it, as Markdown that is the same for the same card.

    ``export`` and ``push`` rely on that to see whether a page was edited. The page names no licence, which the head's
    owner has to choose, and no path of the training machine.

    Args:
        card: Contents of ``head.json``.
    """
    parts = [_front_matter(card), _introduction(card), _usage(card), *_measurements(card), _classes(card)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(card: Mapping[str, Any]) -> str:
    """Metadata for the hub."""
    hub_id = _hub_id(card)
    base = {"base_model": hub_id.partition("@")[0]} if hub_id else {}
    known = {"library_name": "siglip2-backbone", **base, "tags": ["siglip2", "dense-features", str(card["task"])]}
    return f"---\n{yaml.safe_dump(known, sort_keys=False, allow_unicode=True)}---"


def _hub_id(card: Mapping[str, Any]) -> str | None:
    """The backbone's id, if its weights came from the hub."""
    source = str(card["backbone"]["source"])
    return source if HUB_ID.fullmatch(source) else None


def _introduction(card: Mapping[str, Any]) -> str:
    backbone, tune = card["backbone"], card["reading"]["tune"]
    tuned = {"full": ", which was trained as well and is included", "lora": ", with adapters that are included"}
    before = " before training" if tune == "full" else ""
    useless = backbone["source"] == "random" and tune != "full"
    random = " They were random, so nobody else can use the head." if useless else ""
    return (
        f"# {_text(card['task'].capitalize())} on {_text(backbone['name'])}\n\n"
        f"A head for {_text(card['task'])} on {_code(backbone['name'])}{tuned.get(tune, '')}. Fingerprint of the "
        f"backbone's weights{before}: {_code(backbone['fingerprint'])}.{random}"
    )


def _usage(card: Mapping[str, Any]) -> str:
    """How to load the head; backbone weights that were local files have to be passed."""
    source = _hub_id(card)
    needed = source or f"path or id of {card['backbone']['name']} with the fingerprint above"
    backbone = (
        "" if source or card["reading"]["tune"] == "full" else f", backbone={json.dumps(needed, ensure_ascii=False)}"
    )
    return (
        "```python\nimport heads  # pip install siglip2-backbone\n\n"
        f'task = heads.load("OWNER/NAME or the folder of this file"{backbone})\n'
        'prediction = task.predict("photograph.jpg")\n```'
    )


def _measurements(card: Mapping[str, Any]) -> list[str]:
    """The scores of each split with their protocol."""
    if not card["metrics"] and not card.get("test"):
        return ["These weights were not evaluated."]
    found = [_split("Validation", card["metrics"], card["protocol"])] if card["metrics"] else []
    if test := card.get("test"):
        found.append(_split("Test", test["metrics"], test["protocol"]))
    return found


def _split(title: str, metrics: Mapping[str, Any], protocol: Mapping[str, Any]) -> str:
    rows = [(_text(name.rpartition("/")[2]), _number(value)) for name, value in metrics.items()]
    how = [(_text(key), _code(value).replace("|", "\\|")) for key, value in protocol.items()]
    return f"## {title}\n\n{_table('metric', 'value', rows)}\n\n{_table('protocol', '', how)}"


def _classes(card: Mapping[str, Any]) -> str:
    """Names and colours in the order of the label values."""
    if "classes" not in card:
        return ""
    rows = [
        (f"{i} {_text(name)}", _text(", ".join(map(str, rgb)))) for i, (name, rgb) in enumerate(card["classes"].items())
    ]
    return f"## Classes\n\n{_table('label', 'colour (R, G, B)', rows)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _table(first: str, second: str, rows: list[tuple[str, str]]) -> str:
    lines = [(first, second), ("---", "---"), *rows]
    return "\n".join(f"| {a} | {b} |" for a, b in lines)


def _text(name: str) -> str:
    """Escape a name so that it neither ends a table cell nor becomes markup."""
    return _MARKUP.sub(r"\\\g<0>", html.escape(" ".join(str(name).split()), quote=False))


def _code(value: object) -> str:
    """A value as a code span, fenced by more backticks than its longest run of them."""
    text = " ".join(str(value).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if len(fence) > 1 else f"`{text}`"
