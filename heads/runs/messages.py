"""What is said on the terminal: errors without what parsers and workers wrap around them, and no idle advice."""

import re

# What Lightning warns about though it is meant so here: small loaders, a backbone that stays in evaluation mode, a
# folder that already holds the checkpoints of this run, and a run without validation, of which ``fit`` itself speaks.
# The last one is Lightning's own call of a deprecated function of torch.
LIGHTNING_ADVICE = (
    ".*does not have many workers",
    "The number of training batches",
    ".*in eval mode at the start of training",
    "Checkpoint directory .* exists and is not empty",
    ".*could not find the monitored key",
    ".*LeafSpec",
)
# said of each name that a task logs, where the user has asked for a trainer that logs nothing
BAREBONES = r"You are trying to `self\.log\(\)` but `Trainer\(barebones=True\)`"

_RAISED = re.compile(r"^[\w.]*Error: ", re.MULTILINE)  # how the last line of a traceback begins
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
        return _RAISED.split(message.rstrip())[-1]
    lines = (line.strip().removeprefix("- ") for line in message.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(_WRAPPING))


def warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as one line, in place of Python's with the place in the code: it is for the user."""
    return f"siglip2: {message}\n"
