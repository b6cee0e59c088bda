import re

import pytest
import yaml

from heads.storage.model_card import model_card

CARD = {
    "task": "segmentation",
    "backbone": {
        "name": "siglip2_base_patch16_256",
        "source": "google/siglip2-base-patch16-256@v2",
        "fingerprint": "f" * 64,
    },
    "reading": {"tune": "frozen", "layers": [11]},
    "metrics": {"val/mIoU": 0.51239, "val/mAcc": None},
    "protocol": {"split": "val", "img_size": [48, 64]},
    "classes": {"sky | air": [0, 0, 255], "<b>": [1, 2, 3]},
}


def front_matter(page):
    _, front, _ = page.split("---\n", 2)
    return yaml.safe_load(front)


def test_the_hub_reads_library_base_and_tags_and_no_licence():
    assert front_matter(model_card(CARD)) == {
        "library_name": "siglip2-backbone",
        "base_model": "google/siglip2-base-patch16-256",
        "tags": ["siglip2", "dense-features", "segmentation"],
    }


def test_numbers_classes_and_the_way_to_load_are_on_the_page():
    page = model_card(CARD)
    assert "## Validation" in page and "| mIoU | 0.5124 |" in page and "| mAcc | - |" in page
    assert "| split | `val` |" in page and "## Test" not in page
    assert "| 0 sky \\| air | 0, 0, 255 |" in page and "<b>" not in page
    assert 'heads.load("OWNER/NAME or the folder of this file")' in page
    tested = model_card(CARD | {"test": {"metrics": {"mIoU": 0.25}, "protocol": {"split": "test"}}})
    assert "## Test" in tested and "| mIoU | 0.2500 |" in tested
    assert "were not evaluated" in model_card(CARD | {"metrics": {}})


@pytest.mark.parametrize("tune", ["frozen", "lora", "full"])
def test_weights_from_a_disk_have_to_be_named_but_not_where_they_lay(tune):
    local = {"backbone": CARD["backbone"] | {"source": "/home/me/weights"}, "reading": {"tune": tune}}
    page = model_card(CARD | local)
    assert "/home/me" not in page and "base_model" not in front_matter(page)
    assert ('backbone="path or id of' in page) == (tune != "full")


def test_a_head_on_random_weights_is_said_to_be_useless():
    random = {"backbone": CARD["backbone"] | {"source": "random"}}
    assert "nobody else can use the head" in model_card(CARD | random)
    assert "nobody else can use the head" not in model_card(CARD | random | {"reading": {"tune": "full"}})


@pytest.mark.parametrize(
    "name",
    [
        "a|b",
        "**bold**",
        "_slanted_",
        "[click](https://example.org)",
        "![x](https://example.org/x.png)",
        "`code`",
        "<script>alert(1)</script>",
        "&lt;",
        "$x^2$",
        "~~gone~~",
        ":smile: @somebody www.example.org",
        "back\\slash\\|",
        "two\nlines\n---\nlicense: mit",
    ],
)
def test_a_class_is_called_on_the_page_what_it_is_called(name):
    page = model_card(CARD | {"classes": {name: [1, 2, 3]}})
    row = page.splitlines()[-1]
    first = re.fullmatch(r"\| 0 (.*) \| 1, 2, 3 \|", row)[1]
    assert not re.search(r"(?<!\\)(?:\\\\)*[|*`\[\]$~:@<>!]", first)  # every sign of markup has its backslash
    shown = re.sub(r"\\(\W|_)", r"\1", first).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert shown == " ".join(name.split())
    assert front_matter(page) == front_matter(model_card(CARD))


def test_values_and_names_of_a_strangers_card_stay_values():
    strange = {"task": "x\nlicense: mit", "protocol": {"split": "a`b``c | d"}, "classes": {}}
    page = model_card(CARD | strange)
    assert "| split | ``` a`b``c \\| d ``` |" in page
    assert front_matter(page)["tags"][-1] == "x\nlicense: mit" and "license" not in front_matter(page)
