import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from heads import DepthFolder, NormalsFolder, SegmentationFolder
from heads.data.label_sizes import other_size

LEFTOVER = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def photograph(path, orientation=None, xmp=None):
    """48 rows and 64 columns as they are stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    options = {"xmp": xmp} if xmp else {}
    if xmp and path.suffix == ".png":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp)
    if xmp and path.suffix == ".tif":
        exif[700] = xmp
    Image.new("RGB", (64, 48)).save(path, exif=exif, **options)
    return path


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_label_of_the_stored_pixels_is_told_from_a_resized_one(tmp_path, suffix, orientation):
    path = photograph(tmp_path / f"a{suffix}", orientation)
    for found in ((48, 64), (24, 32)):
        said = other_size("a.png", found, path, (64, 48))
        assert (
            f"turned upright by its EXIF orientation {orientation}, but" in said
            and "Turn the label" in said
            and "resize" not in said
        )
    assert "resize labels" in other_size("a.png", (32, 24), path, (64, 48))


@pytest.mark.parametrize("orientation", [None, 1, 3])
def test_a_label_on_its_side_without_a_quarter_turn(tmp_path, orientation):
    said = other_size("a.png", (64, 48), photograph(tmp_path / "a.jpg", orientation), (48, 64))
    assert "is on its side" in said and "resize" not in said
    said = other_size("a.png", (40, 64), tmp_path / "a.jpg", (48, 64))
    assert said == (
        "a.png is (40, 64) (height, width), its image a.jpg (48, 64); expected the same size. Check that the label "
        "belongs to the image; resize labels with nearest-neighbour sampling."
    )


def samples(data):
    data.setup("validate")
    return data.datasets["val"][0, 0]


@pytest.mark.parametrize("kind", ["mask", "depth", "normal"])
def test_every_reader_of_labels_says_it(tmp_path, kind):
    photograph(tmp_path / "val" / "a.jpg", 6)
    label = tmp_path / {"mask": "valannot", "depth": "val_depth", "normal": "val_normals"}[kind] / "a.png"
    label.parent.mkdir()
    pixels = {"mask": np.zeros((48, 64), np.uint8), "depth": np.full((48, 64), 2000, np.uint16)}
    pixels["normal"] = np.full((48, 64, 3), (128, 128, 0), np.uint8)
    data = {"mask": SegmentationFolder, "depth": DepthFolder, "normal": NormalsFolder}[kind]
    options = {"classes": ["a", "b"]} if kind == "mask" else {"axes": ("right", "down", "away")}
    options = {} if kind == "depth" else options
    Image.fromarray(pixels[kind]).save(label)
    with pytest.raises(
        ValueError, match=r"\(48, 64\) .* its image a\.jpg \(64, 48\).*EXIF orientation 6.*Turn the label"
    ):
        samples(data(str(tmp_path), img_size=(32, 32), num_workers=0, **options))
    Image.fromarray(np.rot90(pixels[kind], -1).copy()).save(label)
    assert samples(data(str(tmp_path), img_size=(32, 32), num_workers=0, **options))[kind].shape[-2:] == (64, 48)


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp"])
def test_an_orientation_in_xmp_is_not_followed(tmp_path, suffix):
    from heads.data.images import orientation, read_image, to_rgb, upright

    path = photograph(tmp_path / f"a{suffix}", xmp=LEFTOVER)
    assert read_image(path).shape == (3, 48, 64) and orientation(path) == 1
    with Image.open(path) as image:
        assert "xmp" in image.info
        if suffix != ".tif":  # which Pillow itself turns while it is decoded
            assert to_rgb(upright(image)).shape == (3, 48, 64)
    turned = photograph(tmp_path / f"b{suffix}", 6, LEFTOVER.replace(b'"6"', b'"1"'))
    assert read_image(turned).shape == (3, 64, 48) and orientation(turned) == 6
