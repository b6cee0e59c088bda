import json
import re
import shutil
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from siglip2_backbone import create_backbone
from siglip2_backbone.checkpoints.sources import open_files


@pytest.mark.parametrize("kind", ["whole", "sharded", "vision", "sparse", "file beside its config"])
def test_what_transformers_writes_is_found_with_its_config(fixed, kind):
    found = open_files(fixed[kind])
    assert found.source == str(fixed[kind])
    assert found.config is not None and found.config["model_type"].startswith("siglip")
    assert any(name.endswith("head.probe") for name in found.tensors)
    assert open_files(str(fixed[kind])) == found


def test_all_shards_are_read(fixed):
    assert open_files(fixed["sharded"]).tensors.keys() == open_files(fixed["whole"]).tensors.keys()
    assert len({t.path for t in open_files(fixed["sharded"]).tensors.values()}) > 2


def test_a_lone_file_has_no_config(fixed):
    assert open_files(fixed["lone file"]).config is None


def test_a_path_wins_over_a_hub_id(fixed, tmp_path, monkeypatch):
    shutil.copytree(fixed["vision"], tmp_path / "google" / "siglip2-base-patch16-256")
    monkeypatch.chdir(tmp_path)
    assert open_files("google/siglip2-base-patch16-256").config["hidden_size"] == 96


def test_the_prefixes_of_timm_mean_the_same_as_none(fixed, no_network, tmp_path):
    for source in (f"local-dir:{fixed['vision']}", f"hf-hub:{fixed['vision']}"):
        assert open_files(source) == open_files(fixed["vision"])
    cache = cached(tmp_path, fixed["whole"])
    assert open_files("hf-hub:somebody/tower", cache_dir=cache) == open_files("somebody/tower", cache)
    with pytest.raises(ValueError, match="No file or directory somebody/tower"):  # after local-dir: stands no id
        open_files("local-dir:somebody/tower", cache_dir=cache)


def test_the_home_directory_is_understood(fixed, monkeypatch):
    monkeypatch.setenv("HOME", str(fixed["vision"].parent))
    assert open_files("~/vision").tensors


def refused(source, *expected, **args):
    """The message of the error, which names the source and has every expected part."""
    with pytest.raises(ValueError, match=re.escape(str(source))) as caught:
        open_files(source, **args)
    for part in expected:
        assert part in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["missing", "a/b/c", "./missing", "../missing", "/none/there", "x.safetensors"])
def test_a_missing_path_is_refused_without_asking_the_hub(name, no_network):
    refused(name, "No file or directory", "config.json", "model.safetensors", "google/siglip2-base-patch16-256")
    assert not no_network


def test_a_path_object_is_never_a_hub_id(no_network):
    refused(Path("google/siglip2-base-patch16-256"), "No file or directory")
    assert not no_network


def test_a_directory_without_config_is_refused(fixed, tmp_path):
    shutil.copy(fixed["vision"] / "model.safetensors", tmp_path)
    refused(tmp_path, "no config.json", "Copy config.json")


def test_a_directory_of_an_npz_file_points_to_it(fixed):
    folder = fixed["npz"].parent
    refused(folder, "no config.json", f"Pass {folder / 'npz.npz'} itself")


def test_a_directory_with_only_a_pickle_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    torch.save({}, tmp_path / "pytorch_model.bin")
    refused(tmp_path, "neither model.safetensors nor", "pytorch_model.bin", "pickles are not read", "save_pretrained")


def test_a_directory_without_weights_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert "pickle" not in refused(tmp_path, "neither model.safetensors nor model.safetensors.index.json")


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".pkl"])
def test_a_pickle_is_refused_without_opening_it(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    refused(path, "a pickle can run code", "expected a .safetensors file", "save_pretrained")


def test_an_unknown_format_is_refused(tmp_path):
    path = tmp_path / "weights.gguf"
    path.write_bytes(b"GGUF")
    refused(path, "not supported", "expected a .safetensors file")


@pytest.mark.parametrize(
    ("content", "found"),
    [("{not json", "not readable JSON"), ("[1]", "holds a list"), ("\xff\xfe", "not readable JSON")],
)
def test_a_corrupt_config_is_refused(edited, content, found):
    path = edited() / "config.json"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(ValueError, match=rf"config\.json.*{found}"):
        open_files(path.parent)


@pytest.fixture
def shards(fixed, tmp_path):
    return Path(shutil.copytree(fixed["sharded"], tmp_path / "shards"))


def reindexed(shards, edit):
    index = shards / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    index.write_text(json.dumps(edit(content)))
    return shards


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/x.safetensors", "sub/x.safetensors", "x.bin", "..", 3])
def test_an_index_must_not_lead_out_of_its_folder(shards, name):
    path = reindexed(shards, lambda content: {"weight_map": content["weight_map"] | {"head.probe": name}})
    with pytest.raises(ValueError, match=rf"index\.json names the shard '{name}'; expected the plain name"):
        open_files(path)


@pytest.mark.parametrize("content", [{}, {"weight_map": {}}, {"weight_map": ["a"]}], ids=str)
def test_an_index_without_map_is_refused(shards, content):
    with pytest.raises(ValueError, match=r"index\.json has no weight_map"):
        open_files(reindexed(shards, lambda _: content))


def test_a_missing_shard_is_refused(shards):
    shard = sorted(shards.glob("*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(ValueError, match=rf"{shard.name} is missing.*Download or copy the shard again"):
        open_files(shards)


def two_shards_with(tensor, shards):
    """Also write a tensor into the shard that does not hold it; the names of its own shard and of the other one."""
    placed = json.loads((shards / "model.safetensors.index.json").read_text())["weight_map"]
    other = next(name for name in placed.values() if name != placed[tensor])
    wrong = torch.zeros_like(load_file(shards / placed[tensor])[tensor])
    save_file(load_file(shards / other) | {tensor: wrong}, shards / other)
    return placed[tensor], other


def test_a_tensor_in_two_shards_goes_by_the_index(shards):
    name = next(name for name in open_files(shards).tensors if name.endswith("head.probe"))
    own, other = two_shards_with(name, shards)
    assert open_files(shards).tensors[name].path.name == own
    moved = reindexed(shards, lambda content: {"weight_map": content["weight_map"] | {name: other}})
    assert open_files(moved).tensors[name].path.name == other
    reindexed(shards, lambda content: {"weight_map": {k: v for k, v in content["weight_map"].items() if k != name}})
    with pytest.raises(ValueError, match=rf"holds the tensor {name} in .* and in .*, and .*index\.json lists neither"):
        open_files(shards)


def test_an_index_that_names_a_shard_without_the_tensor_is_refused(shards):
    reindexed(
        shards,
        lambda content: {"weight_map": content["weight_map"] | {"gone": next(iter(content["weight_map"].values()))}},
    )
    with pytest.raises(ValueError, match=r"index\.json lists the tensor gone in .*, which does not hold it"):
        open_files(shards)


def test_a_whole_file_wins_over_an_index_beside_it_and_it_is_said(shards, fixed):
    shutil.copy(fixed["whole"] / "model.safetensors", shards)
    assert {t.path.name for t in open_files(shards).tensors.values()} == {"model.safetensors"}
    with pytest.warns(UserWarning, match=r"model\.safetensors is read, as by transformers; the shards are not"):
        create_backbone(shards)


@pytest.fixture
def no_network(monkeypatch):
    """Every connection fails; the list holds what was asked for."""
    asked = []

    def fail(*args, **kwargs):
        asked.append(args)
        raise OSError("Network is unreachable")

    monkeypatch.setattr(socket, "create_connection", fail)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return asked


@pytest.mark.parametrize("source", ["google/siglip2-base-patch16-256", "somebody/fine-tuned@v2"])
def test_no_network_is_an_error_within_seconds(source, no_network, tmp_path):
    start = time.monotonic()
    refused(source, "hub cannot be reached", "pass its directory", cache_dir=tmp_path)
    assert time.monotonic() - start < 5
    assert no_network


def cached(root, source, commit="0" * 40):
    """A folder as huggingface_hub keeps it."""
    repo = root / "models--somebody--tower"
    shutil.copytree(source, repo / "snapshots" / commit)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    return root


@pytest.mark.parametrize("kind", ["whole", "sharded"])
def test_the_cache_is_used_without_network(fixed, kind, no_network, tmp_path):
    found = open_files("somebody/tower", cache_dir=cached(tmp_path, fixed[kind]))
    assert found.source == "somebody/tower"
    assert found.tensors.keys() == open_files(fixed["whole"]).tensors.keys()


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_an_incomplete_cache_is_no_checkpoint(fixed, missing, no_network, tmp_path):
    cached(tmp_path, fixed["whole"])
    next(tmp_path.rglob(missing)).unlink()
    refused("somebody/tower", "nor complete in huggingface_hub's cache", cache_dir=tmp_path)


@pytest.fixture
def hub(fixed, monkeypatch):
    """A hub on this machine with one repository; ``status`` is that of every answer, ``cut`` breaks off downloads."""

    class Hub(BaseHTTPRequestHandler):
        status = 200
        cut = False

        def do_HEAD(self):
            repo, _, name = self.path.lstrip("/").partition("/resolve/main/")
            file = fixed["sharded"] / name
            found = repo == "somebody/tower" and file.is_file()
            self.send_response(Hub.status if found else 404)
            self.send_header("X-Repo-Commit", "1" * 40)
            if not found:
                self.send_header("X-Error-Code", "EntryNotFound" if repo == "somebody/tower" else "RepoNotFound")
            self.send_header("ETag", f'"{name}"')
            self.send_header("Content-Length", str(file.stat().st_size if found else 0))
            self.end_headers()
            return file if found and Hub.status == 200 else None

        def do_GET(self):
            if file := self.do_HEAD():
                self.wfile.write(file.read_bytes()[: 100 if Hub.cut else None])

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Hub)
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_sharded_repository_is_fetched_whole_into_the_cache(fixed, hub, tmp_path):
    found = open_files("somebody/tower", cache_dir=tmp_path)
    assert found.tensors.keys() == open_files(fixed["whole"]).tensors.keys()
    assert all(tmp_path in t.path.parents for t in found.tensors.values())
    hub.status = 503  # the hub is down: the cache does
    assert open_files("somebody/tower", cache_dir=tmp_path) == found


def test_a_repository_that_does_not_exist_is_refused(hub, tmp_path):
    refused("somebody/else", "The hub returned an error", "404", "Check the id", cache_dir=tmp_path)


def test_a_hub_that_is_down_is_an_error_within_seconds(hub, tmp_path):
    hub.status = 503
    start = time.monotonic()
    refused("somebody/tower", "hub cannot be reached", cache_dir=tmp_path)
    assert time.monotonic() - start < 5


def test_a_download_that_breaks_off_is_refused(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub waits before it tries again
    hub.cut = True
    refused("somebody/tower", "Downloading", "failed", "Run it again", cache_dir=tmp_path)


def test_what_broke_off_is_not_trusted_later(hub, tmp_path, monkeypatch, fixed):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    hub.cut = True
    refused("somebody/tower", "failed", cache_dir=tmp_path)
    hub.status = 503  # nothing but the cache is there now
    refused("somebody/tower", "nor complete in huggingface_hub's cache", cache_dir=tmp_path)
    hub.status, hub.cut = 200, False
    found = open_files("somebody/tower", cache_dir=tmp_path)
    assert found.tensors.keys() == open_files(fixed["whole"]).tensors.keys()


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_file_that_was_damaged_in_the_cache_is_not_trusted(fixed, name, no_network, tmp_path):
    cached(tmp_path, fixed["whole"])
    file = next(tmp_path.rglob(name))
    file.write_bytes(file.read_bytes()[:-100])
    expected = (
        "is damaged in huggingface_hub's cache",
        name,
        f"delete the folder {tmp_path / 'models--somebody--tower'}",
    )
    refused("somebody/tower", *expected, cache_dir=tmp_path)
