import pytest

import heads
from heads.data.depth_normals.interface import DepthNormalsData
from heads.data.depth_normals.module import SurfaceModule
from heads.data.detection.interface import DetectionData
from heads.data.detection.module import DetectionDataModule
from heads.data.interface import ReportedData, check_data
from heads.data.module import DenseDataModule

FAMILIES = {
    DetectionDataModule: DetectionData,
    SurfaceModule: DepthNormalsData,
    DenseDataModule: ReportedData,
}
PUBLIC = [kind for name in heads.__all__ if isinstance(kind := getattr(heads, name), type)]
DATA = [kind for kind in PUBLIC if issubclass(kind, DenseDataModule) and kind is not DenseDataModule]


class Bare:
    skips = "images"


class Whole(Bare):
    skipped = None
    lvis = masks = False
    depth_range = None

    def describe(self, split):
        return {}

    def truth(self, split):
        return None


@pytest.mark.parametrize("kind", DATA)
def test_every_data_module_has_what_is_read_of_its_family(kind):
    made = kind(classes=["a"]) if kind.__name__.endswith(("COCOFolder", "VOCFolder", "SegmentationFolder")) else None
    made = made or kind()
    interfaces = (
        FAMILIES.values() if kind is heads.GeneratedScenes else [FAMILIES[b] for b in FAMILIES if b in kind.__mro__]
    )
    for interface in interfaces:
        check_data(made, interface, "a run")


@pytest.mark.parametrize("interface", FAMILIES.values())
def test_any_class_will_do_that_has_them(interface):
    check_data(Whole(), interface, "a run")


@pytest.mark.parametrize(
    ("interface", "lacks", "expected"),
    [
        (ReportedData, "describe(), skipped", "describe(), skipped, skips"),
        (DepthNormalsData, "depth_range", "depth_range"),
        (DetectionData, "lvis, masks, truth()", "lvis, masks, truth()"),
    ],
)
def test_what_is_missing_is_named_with_all_that_is_expected(interface, lacks, expected):
    with pytest.raises(ValueError) as error:
        check_data(Bare(), interface, "depth")
    assert str(error.value) == (
        f"Bare has no {lacks}; expected a data module for depth with {expected}. Pass another data module, or add what "
        f"is missing; {interface.__module__}.{interface.__name__} describes it."
    )


def test_no_data_module_has_nothing():
    with pytest.raises(
        ValueError, match=r"^There is no data module; expected a data module for results\.json with desc"
    ):
        check_data(None, ReportedData, "results.json")
