"""The interface between data modules and everything that reads them besides the batches; the class does not matter.

Detection and depth read more than others, see ``detection/interface.py`` and ``depth_normals/interface.py``.
"""

from inspect import get_annotations, isfunction
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class ReportedData(Protocol):
    """What a result file and a checkpoint's card report about the data beside a score.

    Attributes:
        skips: What the entries of ``skipped`` are, such as images or boxes.
        skipped: Reasons for skipping something, by Lightning's stage: ``train``, ``validate`` and ``test``.
    """

    skips: str
    skipped: dict[str, list[str]]

    def describe(self, split: str) -> dict[str, Any]:
        """Everything that a score on val or test depends on, as plain data; ``images`` is the number of images."""


def check_data(data: object, interface: type, use: str) -> None:
    """Check that a data module has everything that will be read of it.

    Args:
        data: The data module; ``None`` if there is none.
        interface: A Protocol with these attributes and methods.
        use: Its use, for the message.

    Raises:
        ValueError: There is no data module, or it lacks an attribute or method.
    """
    names = _members(interface)
    missing = [name for name in names if not hasattr(data, name.removesuffix("()"))]
    if data is not None and not missing:
        return
    found = "There is no data module" if data is None else f"{type(data).__name__} has no {', '.join(missing)}"
    raise ValueError(
        f"{found}; expected a data module for {use} with {', '.join(names)}. Pass another data module, or add what is "
        f"missing; {interface.__module__}.{interface.__name__} describes it."
    )


def _members(interface: type) -> list[str]:
    """Sorted names of the attributes and methods of a Protocol and of those that it extends."""
    found: set[str] = set()
    for part in interface.__mro__:
        if issubclass(part, Protocol) and part is not Protocol:
            found |= {name for name in get_annotations(part) if not name.startswith("_")}
            found |= {f"{name}()" for name, value in vars(part).items() if isfunction(value) and name[0] != "_"}
    return sorted(found)
