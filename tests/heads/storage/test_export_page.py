from heads.storage.export_page import is_unedited, with_page

CARD = {
    "task": "depth",
    "backbone": {"name": "tower", "source": "random", "fingerprint": "abc"},
    "reading": {"tune": "frozen"},
    "metrics": {},
    "protocol": {},
}


def test_a_page_is_told_from_an_edited_one():
    card, page = with_page(CARD)
    assert is_unedited(page, card) and is_unedited(page, CARD)
    assert not is_unedited(page + "More.", card) and not is_unedited(page + "More.", CARD)


def test_the_page_that_an_earlier_version_wrote_is_unedited(monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr("heads.storage.export_page.model_card", lambda card: "The page of an earlier version.")
        card, page = with_page(CARD)
    assert is_unedited(page, card) and not is_unedited(page + "More.", card)
