"""Pushing to a hub that stands in for the real one: nothing here reaches a network."""

import json
import shutil
import types

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

import heads
from heads.cli import main
from heads.storage.model_card import model_card
from heads.tasks.checkpointing import CARD

TOKEN = "hf_secret"


@pytest.fixture(scope="module")
def head(checkpoint, tmp_path_factory):
    """An export beside files that are not its own."""
    root = tmp_path_factory.mktemp("sharing")
    task = heads.SegmentationTask(str(checkpoint), 3, (48, 64))
    content = {CARD: task.card(), "hyper_parameters": dict(task.hparams), "state_dict": task.kept_state()}
    torch.save(content, root / "a.ckpt")
    heads.export(root / "a.ckpt", root / "head")
    (root / "head" / "notes.txt").write_text("private")
    return root / "head"


class Hub:
    """What ``push`` asks of HfApi."""

    def __init__(self):
        self.private = {}  # of each repository
        self.files = {}
        self.error = None

    def __call__(self, token):
        assert token == TOKEN
        return self

    def create_repo(self, repo_id, *, private, exist_ok):
        assert exist_ok
        if self.error:
            raise self.error
        self.private.setdefault(repo_id, private)
        return f"https://huggingface.co/{repo_id}"

    def repo_info(self, repo_id):
        return types.SimpleNamespace(private=self.private[repo_id])

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        chosen = huggingface_hub.utils.filter_repo_objects(
            (p.relative_to(folder_path).as_posix() for p in folder_path.rglob("*") if p.is_file()),
            allow_patterns=allow_patterns,
        )
        self.files[repo_id] = {name: (folder_path / name).read_bytes() for name in chosen}


@pytest.fixture
def hub(monkeypatch):
    found = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", found)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: TOKEN)
    return found


def test_exactly_the_three_files_are_uploaded(head, hub):
    assert heads.push(head, "me/head") == "https://huggingface.co/me/head"
    assert hub.files["me/head"].keys() == {"head.safetensors", "head.json", "README.md"}
    assert hub.files["me/head"]["head.safetensors"] == (head / "head.safetensors").read_bytes()
    assert hub.private == {"me/head": False}
    heads.push(head, "me/head")  # again


def test_no_path_of_this_machine_is_uploaded_and_the_head_still_loads(head, hub, checkpoint, tmp_path):
    older = tmp_path / "older"  # exports of earlier versions have paths
    shutil.copytree(head, older)
    card = json.loads((head / "head.json").read_text())
    card["backbone"]["source"] = card["arguments"]["backbone"] = str(checkpoint)
    card |= {"metrics": {"val/mIoU": 0.5}, "protocol": {"folders": [str(checkpoint / "val"), "valannot"]}}
    (older / "head.json").write_text(json.dumps(card))
    (older / "README.md").write_text(model_card(card))
    assert str(checkpoint) in model_card(card)
    heads.push(older, "me/head")
    for name, content in hub.files["me/head"].items():
        assert str(checkpoint).encode() not in content
        (tmp_path / name).write_bytes(content)
    assert heads.load(tmp_path, backbone=checkpoint).card()["backbone"]["name"] == "siglip2_tiny_patch8_128"


def test_private_is_private_or_nothing_is_uploaded(head, hub):
    heads.push(head, "me/hidden", private=True)
    assert hub.private["me/hidden"] and hub.files["me/hidden"]
    hub.private["me/open"] = False
    with pytest.raises(ValueError, match="me/open already exists and is public"):
        heads.push(head, "me/open", private=True)
    assert "me/open" not in hub.files


def test_the_command_says_where_it_is(head, hub, capsys):
    assert main(["push", str(head), "me/head", "--private"]) == 0
    output = capsys.readouterr().out
    assert "https://huggingface.co/me/head" in output and 'heads.load("me/head")' in output and TOKEN not in output


@pytest.mark.parametrize("name", ["head", "me/head@main", "a/b/c", "me/", ""])
def test_other_names_are_refused(head, hub, name):
    with pytest.raises(ValueError, match="expected owner/name"):
        heads.push(head, name)
    assert not hub.private


@pytest.mark.parametrize("missing", ["head.safetensors", "head.json", "README.md"])
def test_half_an_export_is_refused_before_the_hub_is_asked(head, hub, tmp_path, missing):
    for path in head.iterdir():
        if path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match=f"has no {missing}"):
        heads.push(tmp_path, "me/head")
    assert not hub.private


def test_without_token_it_is_said_how_to_log_in(head, hub, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    assert main(["push", str(head), "me/head"]) == 2
    assert "Run `hf auth login`, or set HF_TOKEN" in capsys.readouterr().err


def refusal():
    """A hub's answer, whatever transport library this version of huggingface_hub has."""
    response = types.SimpleNamespace(status_code=403, headers={}, request=types.SimpleNamespace())
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    Exception.__init__(error, f"\n403 Forbidden for Bearer {TOKEN}.\nsecond line")
    error.response = response
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (refusal(), "403 Forbidden .*your token.s write permission"),
        (OfflineModeIsEnabled("offline mode is enabled"), "offline mode is enabled. Unset HF_HUB_OFFLINE"),
        (OSError("Network is unreachable"), "Network is unreachable. Check the connection"),
        (RuntimeError(f"Illegal header value b'Bearer {TOKEN}'"), "Illegal header value"),
        (ValueError(f"bad {TOKEN}"), "bad"),
        (RuntimeError(), "RuntimeError. Check the connection"),
    ],
)
def test_a_failure_is_one_line_without_the_token(head, hub, capsys, monkeypatch, error, message):
    hub.error = error
    assert main(["push", str(head), "me/head"]) == 2
    said = capsys.readouterr().err
    assert TOKEN not in said and said.count("\n") == 1
    monkeypatch.setenv("SIGLIP2_TRACEBACK", "1")
    with pytest.raises(ValueError, match=f"Pushing to me/head failed: {message}") as caught:
        main(["push", str(head), "me/head"])
    assert caught.value.__suppress_context__ and not hub.files
