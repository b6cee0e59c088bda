"""Turn what parsers and worker processes wrap around an error back into the error."""

_WRAPPING = (
    "Does not validate against any of the Union subtypes",
    "Subtypes:",
    "Errors:",
    "Expected a <class 'NoneType'>",
    "Given value type",
    "Given value: Namespace",
    "Given value: NestedArg",
    "Problem with given class_path",
)


def plain(message: str) -> str:
    """The message itself, without jsonargparse's account of the types it tried, or a worker process's traceback."""
    if "Original Traceback" in message:
        return message.rstrip().rpartition("\nValueError: ")[2]
    lines = (line.strip().removeprefix("- ") for line in message.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(_WRAPPING))
