"""What the wheel holds, and what a user sees before anything heavy is imported."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # no isolation: the build backend is a development dependency, so no network is needed
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def names(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def test_wheel_holds_both_packages_and_the_configs(names):
    sources = {
        p.relative_to(ROOT).as_posix()
        for package in ("siglip2_backbone", "heads")
        for p in (ROOT / package).rglob("*.py")
    }
    configs = {f"heads/{p.relative_to(ROOT).as_posix()}" for p in (ROOT / "configs").rglob("*.yaml")}
    assert configs and sources | configs <= names
    assert {"siglip2_backbone/py.typed", "heads/py.typed"} <= names


def test_wheel_holds_nothing_else(names):
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"siglip2_backbone", "heads"}


def test_configs_are_found_from_the_wheel(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import heads.runs.configs as c; print(c.find_config('segmentation/linear_camvid'))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, r'{tmp_path / 'site'}'); {code}"]
    found = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()
    assert Path(found) == tmp_path / "site" / "heads" / "configs" / "segmentation" / "linear_camvid.yaml"


def test_backbone_imports_nothing_that_timm_does_not():
    # so it costs what timm costs, and no lightning, transformers or heads; benchmarks/imports.py measures the seconds
    code = "import sys, timm; before = set(sys.modules); import siglip2_backbone; print(*set(sys.modules) - before)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    added = {name.partition(".")[0] for name in output.split()} - sys.stdlib_module_names
    assert added == {"siglip2_backbone"}
