"""What a task returns: predictions of a batch, scores of a split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor

Table = Mapping[str, Mapping[str, float]]
"""Row, column, value."""


@dataclass(frozen=True)
class Scored:
    """The scores of a split.

    Attributes:
        values: Each score by its name.
        tables: Further scores by the title of a table, such as those of each class.
        entries: Result entries that the scores were counted from, where a task writes them.
    """

    values: Mapping[str, Tensor]
    tables: Mapping[str, Table] = field(default_factory=dict)
    entries: Sequence[dict[str, Any]] = ()


class Prediction(NamedTuple):
    """The prediction for one image. A tuple, because Lightning copies what ``predict`` returns, tuples included.

    Attributes:
        answer: The task's answer at the original size.
        source: What the answer was read from, where a task can write more than the answer.
    """

    answer: Any
    source: Any = None
