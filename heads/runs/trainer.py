"""``siglip2 fit | validate | test | predict``: Lightning's command line with this library's defaults."""

import logging
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, NoReturn

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from ..data.module import DenseDataModule
from ..outputs.results import ResultWriter
from ..outputs.writer import PredictionWriter
from ..storage.checkpoints import WholeCheckpointIO, read_checkpoint
from ..tasks.head_task import HeadTask
from .configs import check_config, errors_name_configs, resolve_arguments
from .lock import first_process, locked
from .messages import BAREBONES, LIGHTNING_ADVICE
from .progress import LineProgress
from .safe_config import FLAG, check_safe
from .saver import RunCheckpoint
from .termination import ends_on_sigterm
from .threads import choose_threads
from .yaml_files import MODE

_WHOLE = "[!.]*.ckpt"  # hidden files are the partial writes of a killed process


class DenseParser(LightningArgumentParser):
    """LightningArgumentParser that raises an error instead of printing its usage, and refuses ambiguous YAML."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"parser_mode": MODE, **kwargs})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise a parser error as a ValueError, with a tip.

        Raises:
            ValueError: Always.
        """
        tip = (
            "All settings: siglip2 fit --config NAME --print_config. Their meaning: siglip2 fit --help, "
            "--model.help TASK and --data.help MODULE, such as heads.DepthTask and heads.DepthFolder."
        )
        raise ValueError(message if tip in message else f"{message}\n{tip}") from ex


class DenseCLI(LightningCLI):
    """LightningCLI for any task and data module of this library.

    Checkpoints, logs, results and predictions go below ``trainer.default_root_dir``. Each epoch ends with a checkpoint
    ``last`` to resume from; ``best`` is the one with the best validation score of the task's ``monitor``.

    Args:
        held: Resources that the run holds until it ends, such as the lock of its folder.
        arguments: Those of LightningCLI.
    """

    def __init__(self, *arguments: Any, held: ExitStack, **options: Any) -> None:
        self.held = held
        super().__init__(*arguments, **options)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add callbacks, defaults, and the links from data to task."""
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_lightning_class_args(ResultWriter, "results")
        parser.set_defaults(
            {
                "trainer.default_root_dir": "runs",
                "checkpoint.mode": "",  # the task's mode, see monitored
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
                "checkpoint.save_on_train_epoch_end": True,  # when the epoch counts as done: a run resumes after it
            }
        )
        parser.link_arguments("seed_everything", "data.init_args.seed")
        parser.link_arguments("data.classes", "model.init_args.classes", apply_on="instantiate")
        parser.link_arguments("data.img_size", "model.init_args.img_size", apply_on="instantiate")
        parser.link_arguments("trainer.default_root_dir", "checkpoint.dirpath", compute_fn=_checkpoint_folder)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; errors name the configs."""
        with errors_name_configs(sys.argv):
            super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """Keep the config: Lightning would override it with the arguments stored in the checkpoint."""

    def before_instantiate_classes(self) -> None:
        """Lock the folder, monitor the task's score, turn ``best`` and ``last`` into paths, and quieten Lightning."""
        config = self.config[self.subcommand]
        check_trainer_options(config["trainer"], str(self.subcommand))
        saver, smoke = config["checkpoint"], bool(config["trainer"].get("fast_dev_run"))
        saver["monitor"], saver["mode"] = monitored(saver["monitor"], saver["mode"], config["model"]["class_path"])
        self._asked = config["ckpt_path"]
        if not smoke or config["ckpt_path"]:  # a smoke run leaves the folder alone, whatever is there
            config["ckpt_path"] = find_checkpoint(
                config["ckpt_path"], saver["dirpath"], str(self.subcommand), saver["mode"]
            )
        if self.subcommand == "predict":
            config["return_predictions"] = False
        if self.subcommand == "test":
            config["verbose"] = False  # ResultWriter prints the scores

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Write checkpoints whole or not at all; log to CSV and TensorBoard unless the config sets a logger."""
        config = self.config_init[self.subcommand]["trainer"]
        kwargs["plugins"] = [WholeCheckpointIO(), *(config.get("plugins") or [])]
        if config.get("logger") in (None, True) and not config["barebones"]:
            root = config["default_root_dir"]
            table = CSVLogger(root, name="logs")
            kwargs["logger"] = [table, TensorBoardLogger(root, name="logs", version=table.version)]
        return super().instantiate_trainer(**kwargs)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Lock the run's folder; leave out what the options rule out; show progress as lines where no bar fits."""
        self._lock(config)
        if config["enable_checkpointing"] is False or config["barebones"]:
            callbacks = [callback for callback in callbacks if not isinstance(callback, RunCheckpoint)]
        bars = any(isinstance(callback, ProgressBar) for callback in config["callbacks"] or ())
        if not (bars or config["enable_progress_bar"] is False or config["barebones"] or sys.stdout.isatty()):
            callbacks = [*callbacks, LineProgress()]
        choose_threads(min(self.model.extractor.channels))
        return super()._instantiate_trainer(config, callbacks)

    def _lock(self, config: dict[str, Any]) -> None:
        """Hold the folder of a fit until it ends; the task and the data have been built, so no typing error waits."""
        if self.subcommand != "fit" or config["fast_dev_run"] or not first_process():
            return
        self.held.enter_context(locked(Path(config["default_root_dir"] or "runs").expanduser()))
        if self._asked is None:  # another run may have finished in the folder meanwhile
            find_checkpoint(None, self.config["fit"]["checkpoint"]["dirpath"], "fit")


def monitored(monitor: str | None, mode: str, task: str) -> tuple[str, str]:
    """The score that selects the best checkpoint, and whether higher (max) or lower (min) is better.

    Args:
        monitor: Name of the score; by default the task's.
        mode: "max", "min", or "" for the task's.
        task: Import path of the task.

    Raises:
        ValueError: The score is not the task's, and no mode is given.
    """
    module, _, name = task.rpartition(".")
    score, own_mode = getattr(import_module(module), name).monitor
    if monitor in (None, f"val/{score}"):
        return f"val/{score}", mode or own_mode
    if not mode:
        raise ValueError(
            f"checkpoint.monitor is {monitor}; set checkpoint.mode as well: max if higher is better, or min."
        )
    return str(monitor), mode


def check_trainer_options(trainer: Mapping[str, Any], subcommand: str) -> None:
    """Refuse trainer options that a subcommand cannot honour.

    Raises:
        ValueError: ``barebones``, which logs no scores, is set for ``validate`` or ``test``.
    """
    if trainer["barebones"] and subcommand in ("validate", "test"):
        raise ValueError(
            f"trainer.barebones logs no scores, but {subcommand} only reports scores. Leave it out; it is for timing "
            "fit and predict."
        )


def _checkpoint_folder(root: str | Path | None) -> str:
    return str(Path(root or "runs").expanduser() / "checkpoints")


def find_checkpoint(asked: str | None, folder: str, subcommand: str, mode: str = "max") -> str | None:
    """Resolve ``--ckpt_path``: a path, the run's checkpoint with the best score (best), or its newest one (last).

    ``fit --ckpt_path last`` starts from the beginning if there is no checkpoint yet, so that one command both starts
    and resumes a run.

    Raises:
        ValueError: The checkpoint does not exist, a subcommand that needs a trained head was given none, or a new run
            would mix its checkpoints with those of an earlier one.
    """
    if asked is None:
        if subcommand == "fit" and any(Path(folder).glob(_WHOLE)):
            raise ValueError(
                f"{folder} holds the checkpoints of an earlier run. Resume it with --ckpt_path last, or start a new "
                "one elsewhere with --trainer.default_root_dir DIR."
            )
        if subcommand == "fit":
            return None
        raise ValueError(
            f"{subcommand} needs a trained head: pass --ckpt_path best, --ckpt_path last or the path of a checkpoint."
        )
    if asked in ("best", "last"):
        found = sorted(Path(folder).glob(f"{asked}*.ckpt"), key=_score(mode) if asked == "best" else _age)
        if not found and subcommand == "fit":
            check_restart(Path(folder), asked)
            return None
        if not found:
            raise ValueError(f"{folder} holds no checkpoint {asked!r}. Run `siglip2 fit` with this config first.")
        return str(found[-1])
    if not Path(asked).expanduser().exists():
        raise ValueError(f"No checkpoint {asked}; expected best, last or the path of a .ckpt file.")
    return str(Path(asked).expanduser())


def check_restart(folder: Path, asked: str) -> None:
    """Report that a run starts from the beginning, and refuse if that would cost a checkpoint.

    A run that is killed at the end of its first epoch may leave a ``best`` without a ``last``: it starts again.

    Raises:
        ValueError: There are checkpoints of later epochs.
    """
    others = sorted(folder.glob(_WHOLE))
    later = [path for path in others if read_checkpoint(path).get("epoch", 0) > 0]
    if later:
        raise ValueError(
            f"{folder} holds {later[0].name} but no {asked}.ckpt to resume from. Resume with --ckpt_path {later[0]}, "
            "or start a new run elsewhere with --trainer.default_root_dir DIR."
        )
    if others:
        print(f"No {asked}.ckpt in {folder}: the run was stopped in its first epoch and starts again.")


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _score(mode: str) -> Callable[[Path], float]:
    """Sort key by the score that a checkpoint was saved with; file times are unreliable, files may be moved."""
    sign = -1 if mode == "min" else 1

    def score(path: Path) -> float:
        states = read_checkpoint(path).get("callbacks", {}).values()
        scores = [sign * float(s["current_score"]) for s in states if s.get("current_score") is not None]
        return max(scores, default=float("-inf"))

    return score


def check_owner() -> None:
    """Refuse to run if another distribution also installs a package called ``heads``.

    Raises:
        ValueError: Both are installed; one has overwritten files of the other.
    """
    owners = sorted(set(packages_distributions().get("heads", [])))
    if len(owners) > 1:
        raise ValueError(f"The package heads is installed by {' and '.join(owners)}; keep one of them per environment.")


def run(command: str, arguments: list[str]) -> None:
    """Run one of Lightning's subcommands.

    Raises:
        ValueError: The arguments, the config or a checkpoint cannot be used.
    """
    check_owner()
    safe = FLAG in arguments
    arguments = [argument for argument in arguments if argument != FLAG]
    check_config(command, arguments)
    arguments = resolve_arguments(arguments)
    if safe:
        check_safe(arguments)
    advertisement = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    advertisement.addFilter(lambda record: "litlogger" not in record.getMessage())
    for message in LIGHTNING_ADVICE:
        warnings.filterwarnings("ignore", message=message, module="lightning")
    warnings.filterwarnings("ignore", message=BAREBONES)
    own = sys.argv
    # LightningCLI reads its arguments there, and starts the script of that name again for each further device
    sys.argv = [own[0], command, *arguments]
    hint = "; fit --ckpt_path last resumes from the last finished epoch" if command == "fit" else ""
    try:
        with ends_on_sigterm(hint), ExitStack() as held:
            cli = DenseCLI(
                HeadTask,
                DenseDataModule,
                held=held,
                subclass_mode_model=True,
                subclass_mode_data=True,
                seed_everything_default=0,
                save_config_kwargs={"overwrite": True},
                parser_class=DenseParser,
                parser_kwargs={"prog": "siglip2"},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
            )
    except MisconfigurationException as error:  # such as a missing accelerator
        raise ValueError(str(error)) from error
    except SystemExit as error:
        if error.code == 1:  # Lightning's exit status after Ctrl-C
            raise KeyboardInterrupt from error
        raise
    finally:
        sys.argv = own
    _report(command, cli)


def _report(command: str, cli: DenseCLI) -> None:
    """Print where a finished fit has left its checkpoint, and the next command."""
    saver = cli.trainer.checkpoint_callback
    if command != "fit" or not isinstance(saver, ModelCheckpoint) or not cli.trainer.is_global_zero:
        return
    if cli.trainer.fast_dev_run:  # type: ignore[attr-defined]
        print("The smoke run passed; it leaves no checkpoint.")
        return
    if not saver.best_model_path and saver.last_model_path:
        print(f"No validation was run, so there is no best checkpoint; the last one: {saver.last_model_path}")
    if saver.best_model_path:
        score = saver.best_model_score  # None if a spawned process has trained
        print(f"Best {saver.monitor}{'' if score is None else f' {float(score):.4f}'}: {saver.best_model_path}")
        print("Next: siglip2 test, with the same arguments and --ckpt_path best")
