"""What tasks for depth and normals read of a data module besides its batches."""

from typing import Protocol

from ..checks import Range


class DepthNormalsData(Protocol):
    """A data module for depth or normals.

    Attributes:
        depth_range: Expected range of depths [m]; ``None`` if it is unknown, or depth is not metric or not read.
    """

    depth_range: Range | None
