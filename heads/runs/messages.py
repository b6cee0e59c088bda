"""Terminal messages: errors without the text that parsers and workers wrap around them, and no idle advice."""

import re

# Lightning's warnings about intended settings: small loaders, a backbone that stays in evaluation mode, a folder that
# already holds this run's checkpoints, and a run without validation, which ``fit`` reports itself. The last pattern
# is a deprecated torch function that Lightning calls.
LIGHTNING_ADVICE = (
    ".*does not have many workers",
    "The number of training batches",
    ".*in eval mode at the start of training",
    "Checkpoint directory .* exists and is not empty",
    ".*could not find the monitored key",
    ".*LeafSpec",
)
# repeated for each name that a task logs, although the user asked for a trainer that logs nothing
BAREBONES = r"You are trying to `self\.log\(\)` but `Trainer\(barebones=True\)`"

_RAISED = re.compile(r"^[\w.]*Error: ", re.MULTILINE)  # start of the last line of a traceback
_WRAPPING = (  # how the lines start that jsonargparse adds for each type it tried
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
    """Strip jsonargparse's list of the types it tried, or a worker process's traceback, from a message."""
    if "Original Traceback" in message:
        return _RAISED.split(message.rstrip())[-1]
    lines = (line.strip().removeprefix("- ") for line in message.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(_WRAPPING))


def warning_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Format a warning as one line for users, without the place in the code that Python adds."""
    return f"siglip2: {message}\n"
