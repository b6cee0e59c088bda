"""The command ``siglip2``: a table of subcommands, each in its own module, imported when it runs."""

import argparse
import io
import locale
import os
import sys
import warnings
from contextlib import suppress
from importlib import import_module

from ..runs.messages import plain, warning_line

# name -> (module relative to this package, help); the module's run(command, arguments) may return an exit status
COMMANDS: dict[str, tuple[str, str]] = {
    "fit": (".runs.trainer", "train a head from a YAML file"),
    "validate": (".runs.trainer", "evaluate a trained head on the validation split"),
    "test": (".runs.trainer", "evaluate a trained head on the test split and write results.json"),
    "predict": (".runs.trainer", "write a trained head's predictions for each image of a folder"),
    "export": ("export", "write a trained head as safetensors and JSON"),
    "push": ("push", "upload an exported head to the Hugging Face hub"),
    "onnx": ("onnx", "write a backbone for onnxruntime, checked against torch"),
    "convert": ("convert", "write a checkpoint's tower for timm, transformers or this library"),
    "verify": ("verify", "compare a checkpoint's tower with transformers, block by block"),
    "models": ("models", "list the models with their sizes and sources"),
    "features": ("features", "write dense features of images as safetensors"),
    "embed": ("embed", "write pooled embeddings of images as safetensors"),
    "pca": ("pca", "visualise dense features by their first three principal components"),
    "demo": ("demo", "train a tiny tower on generated scenes in about two minutes, offline"),
}


def main(arguments: list[str] | None = None) -> int:
    """Entry point of the console script.

    A ValueError (invalid input) or an OSError (such as a full disk) is reported as one line on standard error. Set
    SIGLIP2_TRACEBACK=1 for the traceback.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    _use_utf8()
    parser = argparse.ArgumentParser(
        prog="siglip2",
        description="Dense features from SigLIP 2, and heads on top of them.",
        epilog="`siglip2 COMMAND --help` lists the options of a command. Trust a config like code: it may name "
        "anything that can be imported. For configs from others, pass --safe-config to fit, validate, test and "
        "predict: it admits only the classes of this library and a few of Lightning's.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    command = parser.parse_args(arguments[:1]).command
    usual, warnings.formatwarning = warnings.formatwarning, warning_line
    try:
        status: int | None = import_module(f".{COMMANDS[command][0]}", __name__).run(command, arguments[1:])
    except (ValueError, OSError) as error:
        if os.environ.get("SIGLIP2_TRACEBACK"):
            raise
        print(f"siglip2 {command}: {plain(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        hint = "; --ckpt_path last resumes from the last finished epoch" if command == "fit" else ""
        print(f"siglip2 {command}: stopped{hint}", file=sys.stderr)
        return 130
    finally:
        warnings.formatwarning = usual
    return status or 0


def _use_utf8() -> None:
    """Read and write text files as UTF-8 in any locale, also in third-party libraries.

    The terminal keeps its encoding; characters it cannot show are escaped.
    """
    if locale.getencoding().lower().replace("-", "") != "utf8":
        with suppress(locale.Error):  # the system has no C.UTF-8
            locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
            stream.reconfigure(errors="backslashreplace")
