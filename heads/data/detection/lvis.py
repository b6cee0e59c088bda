"""LVIS v1: 1,203 classes on COCO's images; each image was annotated for some of the classes only."""

from pathlib import Path
from typing import Any, ClassVar

from .annotations import Annotations
from .coco_json import read_coco
from .published import PublishedDetection

_CLASSES = 1203


class LVIS(PublishedDetection):
    """LVIS v1. Test is the validation split, because the annotations of test are not public.

    Its images are COCO's, split differently: ``coco_url`` tells whether an image lies in ``train2017`` or
    ``val2017``. Some validation images are training images in COCO.

    Args:
        root: Folder with the two json files, directly or in ``annotations``, and COCO's ``train2017`` and ``val2017``.
            The class names are read from the validation json; without ``root``, for predict, they are numbers.
        img_size: Height and width [px] that images fit into.
        shared: Arguments that all detection data modules share, see :class:`DetectionDataModule`.

    Raises:
        ValueError: Files are missing or wrong.

    Source: https://www.lvisdataset.org
    """

    top: ClassVar[str] = "lvis"
    markers: ClassVar[tuple[str, ...]] = ("annotations", "val2017", "train2017")
    layout: ClassVar[str] = "lvis_v1_{train,val}.json (or annotations/lvis_v1_{train,val}.json)\n{train,val}2017/*.jpg"
    counts: ClassVar[dict[str, int]] = {"train": 100_170, "val": 19_809}
    lvis: ClassVar[bool] = True

    def __init__(self, root: str | None = None, img_size: tuple[int, int] = (512, 512), **shared: Any) -> None:
        super().__init__(_CLASSES if root is None else None, root, img_size, **shared)
        self.test_on_val()
        if root is not None:
            self.take_classes()

    def published(self, name: str, base: Path) -> Annotations:
        """Read a split from its json."""
        file = f"lvis_v1_{name}.json"
        path = next((p for p in (base / file, base / "annotations" / file) if p.is_file()), base / file)
        return read_coco(path, skip_invalid=self.skip_invalid, masks=self.masks, lvis=True, as_published=True)

    def image_folder(self, name: str) -> Path:
        """The folder that holds COCO's folders of images."""
        return self.base()
