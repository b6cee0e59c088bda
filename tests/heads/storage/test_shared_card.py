import pytest

from heads.storage.shared_card import without_paths
from siglip2_backbone.hub import shared_source


def card(source):
    return {
        "backbone": {"name": "NAME", "source": source, "fingerprint": "f"},
        "arguments": {"backbone": source, "classes": ["/road", "~"]},
        "metrics": {},
    }


@pytest.mark.parametrize("source", ["/home/me/weights", "local-dir:/home/me/weights", "~/weights", "C:weights/weights"])
def test_weights_on_a_disk_are_named_by_the_last_part_of_their_path(source):
    shared = without_paths(card(source))
    assert shared["backbone"] == {"name": "NAME", "source": "weights", "fingerprint": "f"}
    assert shared["arguments"] == {"backbone": "NAME", "classes": ["/road", "~"]}


@pytest.mark.parametrize("source", ["google/siglip2-base-patch16-256@main", "random", "https://example.org/a.pth"])
def test_what_is_elsewhere_stays_as_it_is(source):
    assert without_paths(card(source)) == card(source)


def test_a_relative_path_that_looks_like_an_id_is_a_path(tmp_path, monkeypatch):
    (tmp_path / "own" / "weights").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert shared_source("own/weights") == "weights"
    assert shared_source(".") == tmp_path.name


def test_folders_of_a_protocol_lose_what_is_before_their_name():
    protocol = {"folders": ["/data/me/val", "valannot"], "images": 3, "more": {"at": "~/x/y", "data": "C:\\a\\b"}}
    shared = without_paths(card("random") | {"protocol": protocol, "test": {"metrics": {}, "protocol": protocol}})
    expected = {"folders": ["val", "valannot"], "images": 3, "more": {"at": "y", "data": "b"}}
    assert shared["protocol"] == shared["test"]["protocol"] == expected
