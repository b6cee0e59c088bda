import pytest

from heads import PascalVOCDetection, VOCFolder

pytestmark = pytest.mark.filterwarnings("ignore:.*are missing. Scores on it")


@pytest.mark.parametrize(
    ("options", "images", "test"),
    [
        ({}, (2, 1, 1), "val"),
        ({"year": 2007}, (2, 1, 2), "test"),
        ({"year": 2007, "train_set": "trainval"}, (3, 1, 2), "test"),
    ],
)
def test_splits_of_both_years(voc, options, images, test):
    data = PascalVOCDetection(str(voc), num_workers=0, **options)
    data.setup("fit")
    data.setup("test")
    assert tuple(len(data.datasets[split]) for split in ("train", "val", "test")) == images
    described = data.describe("test")
    assert described["split"] == test and described["year"] == options.get("year", 2012)
    assert described["images_published"] == (5823 if test == "val" else 4952)
    assert described["annotations"] == f"VOCdevkit/VOC{described['year']}/ImageSets/Main/{test}.txt"
    assert f"VOC{described['year']}" in data.datasets["train"][0, 0]["path"]


def test_pixels_are_counted_from_one_and_labels_are_those_of_the_20_classes(voc):
    data = PascalVOCDetection(str(voc), (60, 80), num_workers=0)
    data.setup("test")
    sample = data.datasets["test"][0, 0]
    assert sample["boxes"].tolist() == [[10, 20, 41, 51]] * 2 and sample["labels"].tolist() == [7, 11]
    assert [list(data.classes)[i] for i in (7, 11)] == ["cat", "dog"] and len(data.classes) == 20
    without = PascalVOCDetection(str(voc), keep_difficult=False)
    assert [a["category_id"] for a in without.truth("test").annotations] == [8]


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_the_published_folders(voc, below):
    assert len(PascalVOCDetection(str(voc / below)).truth("test").images) == 1


def test_what_would_be_trained_and_tested_on_the_same_images_is_refused():
    with pytest.raises(ValueError, match=r"year is 2012, train_set 'trainval'; expected 2007"):
        PascalVOCDetection(train_set="trainval")
    with pytest.raises(ValueError, match="year is 2008"):
        PascalVOCDetection(year=2008)


def test_classes_of_an_own_folder_are_those_of_all_splits(voc_folder):
    path = voc_folder / "Annotations" / "d.xml"
    path.write_text(path.read_text().replace("WBC", "Platelets"))
    assert list(VOCFolder(str(voc_folder), test_set="test").classes) == ["Platelets", "RBC", "WBC"]
    assert list(VOCFolder(str(voc_folder)).classes) == ["RBC", "WBC"]


@pytest.mark.filterwarnings("ignore:.*No object of")
def test_given_classes_keep_their_order_and_may_be_more(voc_folder):
    data = VOCFolder(str(voc_folder), ["WBC", "none", "RBC"], (60, 80), num_workers=0)
    data.setup("fit")
    assert data.datasets["val"][0, 0]["labels"].tolist() == [0, 2]
    with pytest.raises(ValueError, match=r"train\.txt: a\.xml, object 2 \(RBC\), has an unknown class"):
        VOCFolder(str(voc_folder), ["WBC"]).setup("fit")


def test_lists_may_have_any_names(voc_folder):
    (voc_folder / "ImageSets" / "Main" / "mine.txt").write_text("b\na\n")
    data = VOCFolder(str(voc_folder), train_set="mine", test_set="test", num_workers=0)
    data.setup("fit")
    assert [path.stem for path in data.datasets["train"].paths] == ["b", "a"] and data.test_split == "test"
    assert data.protocol["first_pixel"] == 1 and data.protocol["keep_difficult"]


def test_pixels_may_be_counted_from_zero(voc_folder):
    boxes = [VOCFolder(str(voc_folder), first_pixel=first).truth("val").annotations[0]["bbox"] for first in (1, 0)]
    assert boxes == [[10, 20, 31, 31], [11, 21, 31, 31]]


def test_masks_are_refused(voc_folder):
    for kind in (VOCFolder, PascalVOCDetection):
        with pytest.raises(ValueError, match="masks is set; Pascal VOC's XML has only boxes"):
            kind(str(voc_folder), masks=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("../a\n", r"val\.txt names '\.\./a'; expected names without folders"),
        ("/etc/passwd\n", r"val\.txt names '/etc/passwd'"),
        ("gone\n", r"No file .*gone\.xml"),
        ("\n", r"val\.txt names no image"),
        (None, r"No file .*val\.txt; expected a list"),
    ],
)
def test_bad_lists_are_refused(voc_folder, change, message):
    path = voc_folder / "ImageSets" / "Main" / "val.txt"
    path.unlink() if change is None else path.write_text(change)
    with pytest.raises(ValueError, match=message):
        VOCFolder(str(voc_folder), ["WBC", "RBC"]).truth("val")


def test_a_missing_root_or_image_is_named(voc_folder, tmp_path):
    with pytest.raises(ValueError, match=r"data\.root is not set"):
        VOCFolder()
    with pytest.raises(ValueError, match=r"No folder .*gone; expected data\.root"):
        VOCFolder(str(tmp_path / "gone"))
    (voc_folder / "JPEGImages" / "c.jpg").unlink()
    with pytest.raises(ValueError, match=r"c\.xml has no image in .*JPEGImages"):
        VOCFolder(str(voc_folder), ["WBC", "RBC"]).setup("test")


def test_names_of_classes_that_differ_in_case_alone_are_said_unless_they_are_listed(voc_folder):
    for path in (voc_folder / "Annotations").iterdir():
        path.write_text(path.read_text().replace("WBC", "rbc"))
    with pytest.warns(UserWarning, match="has the classes 'RBC' and 'rbc', which differ only in case or whitespace"):
        VOCFolder(str(voc_folder))
    VOCFolder(str(voc_folder), ["RBC", "rbc"], num_workers=0).setup("fit")


@pytest.mark.parametrize("name", ["gone", "x" * 300, "a\0b"])
def test_the_list_is_named_if_an_xml_file_is_missing(voc_folder, name):
    path = voc_folder / "ImageSets" / "Main" / "val.txt"
    count = len(path.read_text().split())
    path.write_text(f"{path.read_text().rstrip()}\n{name}\n")
    expected = rf"(?s)No file .*\.xml, which .*val\.txt names; 1 of its {count + 1} XML files are missing"
    with pytest.raises(ValueError, match=expected):
        VOCFolder(str(voc_folder), ["RBC", "WBC"]).annotations("val")
