"""Rebuild a task from stored arguments; every size is checked against the stored tensors before it costs memory."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from siglip2_backbone import Siglip2VisionTransformer

from ..backbones.extractor import Extractor
from ..backbones.timm_maps import build_backbone
from ..decoders import DECODERS
from ..detectors import DETECTORS
from ..losses import SegmentationLoss
from ..tasks.argument_types import check_types, declared, shown
from ..tasks.head_task import HeadTask
from .shared_card import from_disk

_EXTRACTOR = inspect.signature(Extractor).parameters.keys()
_HEADS = ("decoder", "detector")
_INTERNAL = ("build_head", "own", "arguments")  # arguments of a task's bases, which no file stores
_COUNTS = ("layers", "encoder_layers")  # arguments of a head that say how often something is repeated
_LONGEST_SIDE = 2**14  # pixels, of images; a tower would have a million tokens
_ALLOWED = 2**20  # bytes of buffers that are made anew and not stored, such as the bins of depth
_LARGEST_RANDOM = 2**29  # bytes of a backbone that is drawn at random to compare its fingerprint; ViT-B has 0.37e9
_Task = TypeVar("_Task", bound=HeadTask)


def rebuilt(
    task: type[_Task],
    arguments: Mapping[str, Any],
    card: Mapping[str, Any],
    state: Mapping[str, Tensor],
    source: str,
    backbone: str | Path | Extractor | None,
) -> _Task:
    """Rebuild a stored task with its tensors. ``compile`` is ignored: no file starts a compiler.

    Args:
        task: Class of the task.
        arguments: Its arguments, which have passed :func:`heads.tasks.stored_card.check_stored`.
        card: Its card.
        state: Its tensors.
        source: Path or Hugging Face id that the user gave, for messages.
        backbone: Location of the backbone's weights, or an Extractor; by default the location in training.

    Raises:
        ValueError: Arguments do not fit the task or the tensors, or the backbone's weights differ from those in
            training.
    """
    _check_arguments(task, arguments, state, source)
    if not isinstance(backbone, Extractor):
        backbone = _extractor(arguments, card, state, source, backbone)
    own = {name: value for name, value in arguments.items() if name not in _EXTRACTOR}
    with _errors_name(source):
        with torch.device("meta"):
            draft = _made(task, backbone, own, source)
        draft.check_card(card, source)
        _check_tensors(draft, state)
        made = _made(task, backbone, own, source)
        made.check_card(card, source)
    made.load_state_dict(state)
    return made


@contextmanager
def _errors_name(source: str) -> Iterator[None]:
    """Add the source to errors of the task, which does not know it."""
    try:
        yield
    except ValueError as error:
        raise ValueError(str(error) if source in str(error) else f"{source}: {error}") from error


def _made(task: type[_Task], extractor: Extractor, own: Mapping[str, Any], source: str) -> _Task:
    try:
        return task(extractor, **own)
    except ValueError:
        raise
    except Exception as error:  # from layer constructors, for values of the right type that make no sense
        raise ValueError(
            f"{source} has arguments from which no head can be built ({type(error).__name__}: {error})."
        ) from error


def _extractor(
    arguments: Mapping[str, Any],
    card: Mapping[str, Any],
    state: Mapping[str, Tensor],
    source: str,
    backbone: str | Path | None,
) -> Extractor:
    """The backbone, from its location now or in training; if it was fully trained, its tensors are stored."""
    args = {name: value for name, value in arguments.items() if name in _EXTRACTOR} | {"compile": False}
    if backbone is not None:
        args["backbone"] = backbone
    elif args.get("tune") == "full":  # the checkpoint holds all of the backbone's weights
        args |= {"backbone": card["backbone"]["name"], "pretrained": False}
    try:
        if not args.get("pretrained", True):
            draft = _on_meta(args)
            if args.get("tune") == "full":
                _check_backbone(draft, args, state)
            else:
                _check_random(draft, args)
        return Extractor(**args)
    except ValueError as error:
        raise ValueError(
            f"{source}: {error}" if backbone is not None else _wanted(source, args, card, error)
        ) from error


def _wanted(source: str, args: Mapping[str, Any], card: Mapping[str, Any], error: ValueError) -> str:
    """Message for a backbone that was moved, or whose location an export does not store."""
    stored = card["backbone"]
    if not from_disk(card) or args["backbone"] != stored["name"]:
        return f"{error} It is the backbone of {source}: pass backbone= if it has moved."
    return (
        f"{source} was trained on {stored['name']} with the weights of {stored['source']!r} (fingerprint "
        f"{stored['fingerprint'][:12]}), which were local files: pass backbone= with their path or Hugging Face id."
    )


def _on_meta(args: Mapping[str, Any]) -> nn.Module:
    """The named backbone without memory."""
    names = ("layers", "norm", "pooled", "pyramid")
    options = {name: args.get(name, _default(name)) for name in names}
    with torch.device("meta"):
        draft: nn.Module = build_backbone(
            str(args["backbone"]), **options, pretrained=False, tower_args=args.get("tower_args") or {}
        )
    return draft


def _check_random(draft: nn.Module, args: Mapping[str, Any]) -> None:
    """Refuse a large backbone of random weights, which no file holds: drawn anew, they are others."""
    size = sum(parameter.numel() * parameter.element_size() for parameter in draft.parameters())
    if size > _LARGEST_RANDOM:
        raise ValueError(
            f"The head was trained on {args['backbone']} with random weights, {size / 1e9:.1f} GB, which no file "
            "holds. Pass the Extractor of the training as backbone=."
        )


def _check_backbone(draft: nn.Module, args: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Compare the shapes of the named backbone with those of its stored tensors."""
    stored = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name, parameter in draft.named_parameters():
        if stored.get(f"extractor.backbone.{name}") != tuple(parameter.shape):
            raise ValueError(
                f"The head's tensors do not fit: {args['backbone']} has {name} of shape {tuple(parameter.shape)}, the "
                f"file {stored.get(f'extractor.backbone.{name}', 'none')}."
            )


def _default(name: str) -> Any:
    return inspect.signature(Extractor).parameters[name].default


def _check_arguments(
    task: type[HeadTask], arguments: Mapping[str, Any], state: Mapping[str, Tensor], source: str
) -> None:
    declarations = declared(Extractor) | declared(task)
    known = {name: need for name, (_, need) in declarations.items() if name not in _INTERNAL}
    if unknown := sorted(arguments.keys() - known.keys()):
        raise ValueError(f"{source} has arguments that this version does not know ({', '.join(unknown)}).")
    try:
        if absent := [name for name, need in known.items() if need and name not in arguments]:
            raise ValueError(f"{', '.join(absent)} is missing")
        # the table of heads knows which heads there are; a program may have added its own
        typed = {name: value for name, value in arguments.items() if name not in _HEADS}
        check_types(typed, task, "")
        check_types({name: value for name, value in typed.items() if name in _EXTRACTOR}, Extractor, "")
        sides = arguments.get("img_size", (1, 1))
        if not all(1 <= side <= _LONGEST_SIDE for side in sides):
            raise ValueError(f"img_size is {shown(sides)}; expected sides of 1 to {_LONGEST_SIDE} px")
        _check_nested(task, arguments)
        _check_sizes(arguments, state)
    except ValueError as error:
        raise ValueError(f"{source} holds a damaged head (arguments: {error}). Export or copy it again.") from error


def _check_nested(task: type[HeadTask], arguments: Mapping[str, Any]) -> None:
    """The arguments of the head, of the tower and of the loss."""
    head = arguments.get("decoder") or arguments.get("detector")
    makers = {
        "decoder_args": DECODERS.get(str(head)),
        "detector_args": DETECTORS.get(str(head)),
        "tower_args": Siglip2VisionTransformer,
        "loss_args": SegmentationLoss,
    }
    for name, maker in makers.items():
        if maker is not None and arguments.get(name):
            check_types(arguments[name], maker, f"{name}.")


def _check_sizes(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse more channels than there are stored values, and more repetitions than there are stored tensors."""
    values = max(4096, sum(tensor.numel() for tensor in state.values()))
    longest = max((side for tensor in state.values() for side in tensor.shape), default=0)
    sizes = {name: (arguments[name], values) for name in ("bins",) if name in arguments}
    for group in ("decoder_args", "detector_args"):
        for name, value in (arguments.get(group) or {}).items():
            sizes[f"{group}.{name}"] = (value, len(state) if name in _COUNTS else values)
    if lora := arguments.get("lora"):
        sizes["lora.rank"] = (lora.get("rank"), longest)
    for name, (value, most) in sizes.items():
        for size in value if isinstance(value, list | tuple) else [value]:
            if type(size) in (int, float) and not 0 <= size <= most:
                raise ValueError(f"{name} is {shown(value)}, which does not fit the head's {len(state)} tensors")


def _check_tensors(draft: HeadTask, state: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and kinds with a task that takes no memory."""
    ours, needed = draft.state_dict(), draft.kept_state().keys()
    missing, surplus = sorted(needed - state.keys()), sorted(state.keys() - ours.keys())
    if missing or surplus:
        raise ValueError(
            f"The head's tensors do not fit: missing {missing}, unexpected {surplus}. Build the task with the decoder "
            "that the head was trained with."
        )
    for name, tensor in state.items():
        if tensor.shape != ours[name].shape or tensor.is_floating_point() != ours[name].is_floating_point():
            raise ValueError(
                f"The head's tensors do not fit: {name} is {tensor.dtype} of shape {tuple(tensor.shape)}; expected "
                f"{ours[name].dtype} of shape {tuple(ours[name].shape)}."
            )
    made = [b for name, b in draft.named_buffers() if name not in ours and not name.startswith("extractor.")]
    if sum(buffer.numel() * buffer.element_size() for buffer in made) > _ALLOWED:
        raise ValueError("The head's arguments need more memory than its tensors. Export or copy it again.")
