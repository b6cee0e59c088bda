from pathlib import Path

import pytest

from heads.data.detection.voc_xml import read_voc

SAMPLES = Path(__file__).parents[5] / "shared" / "data"
BOX = {"xmin": 11, "ymin": 6, "xmax": 30, "ymax": 25}


def tagged(tags):
    return "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags.items())


def thing(name="cat", extra="", **corners):
    return f"<object>{tagged({'name': name})}{extra}<bndbox>{tagged(BOX | corners)}</bndbox></object>"


def voc(*objects, filename="cats.jpg", width=100, height=80):
    size = tagged({"width": width, "height": height, "depth": 3})
    return f"<annotation>{tagged({'filename': filename})}<size>{size}</size>{''.join(objects)}</annotation>"


@pytest.fixture
def folder(tmp_path):
    for place in ("images", "annotations"):
        (tmp_path / place).mkdir()
    for name in ("cats.jpg", "sea.PNG", "notes.txt"):
        (tmp_path / "images" / name).touch()
    return tmp_path


@pytest.fixture
def read(folder):
    def read(*contents, names=("cats.xml", "sea.xml"), **options):
        for name, content in zip(names, contents, strict=False):
            data = content if isinstance(content, bytes) else content.encode()
            (folder / "annotations" / name).write_bytes(data)
        files = [folder / "annotations" / name for name in names[: len(contents)]]
        return read_voc(files, folder / "images", "the folder", **options)

    return read


def refused(read, content, message, **options):
    with pytest.raises(ValueError, match=message):
        read(content, **options)


def test_boxes_are_pixels_that_belong_to_them_counted_from_1(read):
    found = read(voc(thing(), thing("dog", xmin=1, ymin=1, xmax=100, ymax=80)), voc(filename="sea.PNG"))
    assert found.images == [
        {"id": 1, "file_name": "cats.jpg", "width": 100, "height": 80},
        {"id": 2, "file_name": "sea.PNG", "width": 100, "height": 80},
    ]
    assert found.categories == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    assert (found.source, found.skipped) == ("the folder", [])
    first = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 5, 20, 20], "area": 400, "iscrowd": 0}
    assert found.annotations[0] == first
    assert found.annotations[1]["bbox"] == [0, 0, 100, 80]  # the whole image
    assert found.by_image()[2] == []


def test_boxes_may_be_counted_from_0(read):
    found = read(voc(thing(xmin=0, ymin=0, xmax=99, ymax=79)), first_pixel=0)
    assert found.annotations[0]["bbox"] == [0, 0, 100, 80]
    refused(read, voc(thing(xmin=0)), "xmin 0, .*expected pixels counted from 1. If the file counts .*first_pixel to 0")
    refused(read, voc(thing(ymin=-1)), r"ymin -1, .*expected pixels counted from 1\. Correct it")
    refused(read, voc(thing(ymin=-1)), r"expected pixels counted from 0\. Correct it", first_pixel=0)
    refused(read, voc(thing()), "first_pixel is 2; expected 1", first_pixel=2)


def test_fractions_and_a_pixel_of_rounding_at_the_far_side_stay(read):
    found = read(voc(thing(xmin="0.5", ymin=" 1.25\n", xmax=101, ymax="80.0")))
    assert found.annotations[0]["bbox"] == [-0.5, 0.25, 101.5, 79.75]


def test_classes_give_the_order_of_labels(read):
    found = read(voc(thing()), classes=["dog", "cat"])
    assert found.names == ["dog", "cat"] and found.annotations[0]["category_id"] == 2
    message = r"cats\.xml, object 1 \(cat\), has an unknown class; expected one of dog, cats\..*Did you mean cats\?"
    refused(read, voc(thing(), thing("cow")), message + r" Other invalid objects: 1\.", classes=["dog", "cats"])
    refused(read, voc(thing()), "classes is .*each once", classes=["dog", "dog"])
    refused(read, voc(thing()), "classes is .*at least one name", classes=[])
    refused(read, voc(), "the folder has no object in any file; expected at least one, or data.classes")


def test_parts_of_an_object_are_not_its_box(read):
    part = f"<part><name>head</name><bndbox>{tagged(BOX | {'xmin': 15})}</bndbox></part>"
    found = read(voc(thing("person", extra=part)))
    assert [a["bbox"] for a in found.annotations] == [[10, 5, 20, 20]] and found.names == ["person"]
    alone = f"<object><name>person</name>{part}</object>"
    refused(read, voc(alone), r"cats\.xml, object 1 \(person\), has no <bndbox>")


def test_difficult_objects_are_kept_and_marked_or_left_out(read):
    content = voc(thing("dog", "<difficult>1</difficult>"), thing("cat", "<difficult>0</difficult>"))
    found = read(content)
    assert [(a["id"], a.get("difficult"), a["iscrowd"]) for a in found.annotations] == [(1, 1, 0), (2, None, 0)]
    found = read(content, keep_difficult=False)
    assert [(a["id"], a["category_id"]) for a in found.annotations] == [(1, 1)]
    assert found.names == ["cat", "dog"]  # the labels stay the same


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_byte_order_marks_encodings_and_windows_line_ends_are_read(read, line_end, mark):
    text = voc(thing("châ")).replace("><", f">{line_end}\t<")
    assert read(mark + text.encode()).names == ["châ"]
    assert read(f'<?xml version="1.0" encoding="latin-1"?>{text}'.encode("latin-1")).names == ["châ"]
    assert read(f'<?xml version="1.0" encoding="utf-16"?>{text}'.encode("utf-16")).names == ["châ"]


def test_an_image_is_found_by_the_name_of_the_xml_where_the_file_names_none(read):
    for filename in ("other.jpg", "", "sea"):
        assert read(voc(thing(), filename=filename), names=["sea.xml"]).images[0]["file_name"] == "sea.PNG"
    assert read(voc(thing()).replace("<filename>cats.jpg</filename>", "")).images[0]["file_name"] == "cats.jpg"
    message = r"sea2\.xml has no image in .*images: neither a\.jpg, its <filename>, nor sea2 with .*\.png"
    refused(read, voc(thing(), filename="a.jpg"), message, names=["sea2.xml"])
    refused(
        read,
        voc(thing(), filename=""),
        r"sea2\.xml has no image .*: it has no <filename>, and no sea2",
        names=["sea2.xml"],
    )
    refused(read, voc(thing(), filename="notes.txt"), r"neither notes\.txt", names=["notes.xml"])


def test_a_file_that_names_another_image_than_the_one_called_like_it_is_refused_and_both_are_named(read, folder):
    (folder / "images" / "dogs.jpg").touch()
    content, names = voc(thing()), ["sea.xml", "dogs.xml"]  # both name a picture; neither XML is called like it
    message = r"sea\.xml has <filename> cats\.jpg, but sea\.PNG, with the name of the XML, .*remove it"
    refused(read, content, message, names=names[:1])
    for other in ("cats", "cats.JPG", "cats.png"):  # by its stem, and two kinds of one picture
        (folder / "images" / "cats.png").touch()
        assert read(voc(thing(), filename=other), names=["cats.xml"]).images[0]["file_name"].startswith("cats.")
    with pytest.raises(ValueError, match=r"sea\.xml has .*cats\.jpg.* Other invalid XML files: 1\."):
        read(content, voc(thing(), filename="sea.PNG"), names=names)


def test_an_image_is_described_once(read):
    with pytest.raises(ValueError, match=r"sea\.xml and .*cats\.xml are both for cats\.jpg"):
        read(voc(thing()), voc(thing()))


@pytest.mark.parametrize("name", ["/images/cats.jpg", "../cats.jpg", "..", "a\\cats.jpg", "C:cats.jpg"])
def test_a_file_name_that_leaves_the_image_folder(read, name):
    refused(read, voc(thing(), filename=name), r"cats\.xml has <filename> .*, which leaves the image folder .*images")


ATTACKS = {
    "an external entity": '<!DOCTYPE annotation [<!ENTITY x SYSTEM "{secret}">]>',
    "an external DTD": '<!DOCTYPE annotation SYSTEM "{secret}">',
    "a parameter entity": '<!DOCTYPE annotation [<!ENTITY % x SYSTEM "{secret}"> %x;]>',
    "entities of entities": '<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY x "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_entities_are_never_resolved(read, folder, attack):
    secret = folder / "secret.txt"
    secret.write_text("password")
    content = ATTACKS[attack].format(secret=secret.as_uri()) + voc(thing("&x;"))
    with pytest.raises(ValueError, match=r"cats\.xml has a DTD or entities .*never resolved; expected") as raised:
        read(content, skip_invalid=True)
    assert "password" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"cats\.xml is truncated or cannot be read as XML \(no element found"),
        (voc(thing())[:-30], r"cats\.xml is truncated or cannot be read as XML"),
        (voc(thing("&x;")), r"cats\.xml is truncated or cannot be read as XML \(undefined entity"),
        (b'<?xml version="1.0" encoding="klingon"?><annotation/>', r"cats\.xml is truncated or cannot be read as XML"),
        (b"\xff\xd8\xff\xe0", r"cats\.xml is truncated or cannot be read as XML"),
        ("<svg/>", r"cats\.xml begins with <svg>; expected <annotation>"),
        ("<annotation/>", r"cats\.xml has no <size><width>; expected a whole number of pixels from 1 to 1000000"),
        (voc(width=0), r"cats\.xml has <size><width> '0'; expected a whole number"),
        (voc(height=""), r"cats\.xml has <size><height> ''; expected a whole number"),
        (voc(height=80.5), r"cats\.xml has <size><height> '80\.5'; expected a whole number"),
        (voc(width="1e300"), r"cats\.xml has <size><width> '1e300'"),
        (voc(width="nan"), r"cats\.xml has <size><width> 'nan'"),
        (voc(thing("")), r"cats\.xml, object 1, has no <name>"),
        (voc(thing()).replace("<name>cat</name>", ""), r"cats\.xml, object 1, has no <name>"),
    ],
)
def test_files_that_are_wrong_are_refused_though_wrong_boxes_are_skipped(read, content, message):
    refused(read, content, message, skip_invalid=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (thing(xmax=11), "has xmin 11, ymin 6, xmax 11, ymax 25; expected xmax above xmin and ymax above ymin"),
        (thing(ymax=3), "has xmin 11, ymin 6, xmax 30, ymax 3; expected xmax above xmin"),
        (
            thing(xmax=102),
            "xmax 102, ymax 25, which extends beyond its image of 100 x 80 px; expected corners inside it",
        ),
        (thing(ymax=90), "ymax 90, which extends beyond its image"),
        (thing(xmin=-4), "has xmin -4, .*expected pixels counted from 1"),
        (thing(ymin="nan"), "has <bndbox><ymin> 'nan'; expected a number of pixels"),
        (thing(ymin="six"), "has <bndbox><ymin> 'six'; expected a number"),
        (thing().replace("<ymax>25</ymax>", ""), "has no <bndbox><ymax>; expected a number"),
        ("<object><name>cat</name></object>", "has no <bndbox>; expected one with xmin, ymin, xmax and ymax"),
    ],
)
def test_a_box_that_cannot_be_right_is_refused_or_skipped(read, wrong, message):
    named = rf"cats\.xml, object 2 \(cat\), .*{message}"
    refused(read, voc(thing(), wrong), rf"the folder: {named}.*set skip_invalid to skip it\.$")
    refused(read, voc(thing(), wrong, wrong), r"object 2 .* Other invalid objects: 1\.$")
    found = read(voc(thing(), wrong, thing("dog")), skip_invalid=True)
    assert [(a["id"], a["category_id"]) for a in found.annotations] == [(1, 1), (2, 2)]
    assert len(found.skipped) == 1
    refused(read, voc(wrong), rf"{named.replace('2', '1', 1)}.*No valid object is left\.", skip_invalid=True)


def test_files_and_folders_that_are_missing(folder):
    with pytest.raises(ValueError, match="the folder holds no XML file"):
        read_voc([], folder / "images", "the folder")
    with pytest.raises(ValueError, match=r"No file .*gone\.xml; expected annotations of an image"):
        read_voc([folder / "gone.xml"], folder / "images", "the folder")
    with pytest.raises(ValueError, match=r"No folder .*gone; expected the images"):
        read_voc([folder / "gone.xml"], folder / "gone", "the folder")


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data")
def test_the_blood_cells_are_read_but_for_two_boxes_without_area():
    base = SAMPLES / "bccd" / "BCCD"
    files = sorted((base / "Annotations").glob("*.xml"))
    with pytest.raises(ValueError, match=r"BloodImage_00338\.xml, object 13 \(RBC\).*Other invalid objects: 1\."):
        read_voc(files, base / "JPEGImages", str(base))
    found = read_voc(files, base / "JPEGImages", str(base), skip_invalid=True)
    assert (len(found.images), len(found.annotations)) == (364, 4886)
    assert found.names == ["Platelets", "RBC", "WBC"]
    assert [line.split(",")[0] for line in found.skipped] == ["BloodImage_00338.xml", "BloodImage_00343.xml"]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("base", "annotations", "images", "counts"),
    [
        ("voc2012_mini/VOCdevkit/VOC2012", "Annotations", "JPEGImages", (4, 11)),
        ("oxford_pets_mini", "annotations/xmls", "images", (5, 5)),
    ],
)
def test_the_samples_of_voc_and_pets_are_read(base, annotations, images, counts):
    files = sorted((SAMPLES / base / annotations).glob("*.xml"))
    found = read_voc(files, SAMPLES / base / images, base)
    assert (len(found.images), len(found.annotations)) == counts
