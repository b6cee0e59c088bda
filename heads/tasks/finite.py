"""Stop validation, tests and prediction at values that are infinite or not a number, as training stops at its loss."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..training.sweep import label
from .views import WHOLE, View

if TYPE_CHECKING:
    from .head_task import HeadTask


class NotFiniteError(ValueError):
    """Values are infinite or not a number.

    Args:
        what: Which values.
        images: Numbers of the batch's images that have such values; ``None`` for all.
    """

    def __init__(self, what: str, images: list[int] | None = None) -> None:
        self.what = what
        self.images = images
        super().__init__(f"{what} is infinite or not a number.")


def finite_maps(task: "HeadTask", batch: Mapping[str, Any], view: View = WHOLE) -> list[Tensor]:
    """The task's feature maps of a view, see :meth:`HeadTask.maps`.

    Raises:
        NotFiniteError: A value is not finite.
    """
    maps = task.maps(batch, view)
    if not _finite(maps):
        per_row = torch.stack([m.isfinite().flatten(1).all(dim=1) for m in maps]).all(dim=0)
        # the rows of a view of one image are its windows
        images = (~per_row).nonzero().flatten().tolist() if view.image is None else [view.image]
        raise NotFiniteError("The backbone's output", images)
    return maps


def finite_output(task: "HeadTask", maps: list[Tensor], head: int, *more: Any, image: int | None = None) -> Any:
    """A head's output on feature maps, see :meth:`HeadTask.decode`.

    The numbers are checked where the head computes them, not in its result: the softmax, clamp or threshold that
    follows can turn an infinite logit into a usual depth, or a box of NaN into no box.

    Args:
        task: The task.
        maps: Feature maps.
        head: Number of the head.
        *more: Further inputs of the head.
        image: Number of the image in its batch that the maps belong to; by default they belong to the whole batch.

    Raises:
        NotFiniteError: A value is not finite.
    """
    decoder = task.decoders[head]
    which = f" of the head {label(task.settings[head])}" if len(task.settings) > 1 else ""

    def check(module: nn.Module, args: Any, output: Any) -> None:
        if not _finite(list(_tensors(output))):
            raise NotFiniteError(f"The head's output{which}", None if image is None else [image])

    hooks = [module.register_forward_hook(check) for module in getattr(decoder, "raw_outputs", [decoder])]
    try:
        return task.decode(maps, head, *more)
    finally:
        for hook in hooks:
            hook.remove()


def _finite(values: list[Tensor]) -> bool:
    """Whether all values are finite, with a single transfer from the device."""
    return not values or bool(torch.stack([v.isfinite().all() for v in values]).all())


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping | list | tuple):
        for one in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(one)


@contextmanager
def naming_images(batch: Mapping[str, Any], stage: str, batch_idx: int | None = None) -> Iterator[None]:
    """Turn a :class:`NotFiniteError` into an error that names the stage, the batch and the images.

    Raises:
        ValueError: Values are not finite.
    """
    try:
        yield
    except NotFiniteError as error:
        paths = batch["path"]
        images = range(len(paths)) if error.images is None else error.images
        where = stage if batch_idx is None else f"{stage}, batch {batch_idx}"
        raise ValueError(
            f"{error.what} is infinite or not a number in {where}: {', '.join(str(paths[i]) for i in images)}. "
            "This batch is neither scored nor written. Pass another checkpoint, or train again with a lower lr; a "
            "backbone in bfloat16 may need float32."
        ) from None
