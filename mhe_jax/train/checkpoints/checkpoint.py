"""Checkpoints of a run, through Orbax: asynchronous, atomic, sealed; the newest few, the best and every n-th kept."""

import contextlib
import json
import pathlib
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers as managers

from mhe_jax.labels import LabelCodes, LabelSpace
from mhe_jax.train.checkpoints import complete, same_model, seals
from mhe_jax.train.parallel import distributed
from mhe_jax.train.reporting import report, writers

if TYPE_CHECKING:  # the optimizers come with it, and predicting takes none
    from mhe_jax.train.state import TrainState

_TEMPORARY = ".orbax-checkpoint-tmp"  # Orbax's name for a folder that is being written
# The replicas of an array write a slice of it each, where it has 4 MiB: cutting a smaller one takes a program for its
# shape, and longer than writing it whole.
_ARRAYS = ocp.type_handlers.create_type_handler_registry(
    (jax.Array, ocp.type_handlers.ArrayHandler(min_slice_bytes_for_replica_parallel=1 << 22))
)


class DamagedCheckpointError(ValueError):
    """The files of a checkpoint are not what was written."""


class _ReplacedError(Exception):
    """A checkpoint is gone because there are newer ones."""


class Checkpoints:
    """The folder `<workdir>/checkpoints`: one sub-folder a step, with the state and a JSON `meta`.

    `meta["best"]` is the best evaluation so far, `{"step": ..., metrics}`, or None; that step's checkpoint is kept.
    A checkpoint whose files have changed since is never restored: the one before it is, with a warning, and the damaged
    folder is moved to `<workdir>/damaged`.
    """

    def __init__(self, workdir: pathlib.Path, keep: int = 1, keep_every: int = 0, read_only: bool = False):
        """Opens or creates the folder; the `keep` newest checkpoints stay besides the best, and those of steps that are
        multiples of `keep_every`.

        `read_only` touches nothing, and so may look into a run that is going on.
        """
        self.folder = pathlib.Path(workdir).resolve() / "checkpoints"
        self._read_only = read_only
        self._best = _KeepStep()
        self._saving: tuple[int, float] = (0, 0.0)  # step, start
        self._told = False
        kept: list[managers.PreservationPolicy] = [managers.LatestN(max(1, keep)), self._best]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy(
                kept + ([managers.EveryNSteps(keep_every)] if keep_every else [])
            ),
            # An interrupted save leaves a temporary folder behind; the next start removes it.
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
            async_options=ocp.AsyncOptions(post_finalization_callback=self._seal),
        )
        handlers = {
            "state": ocp.PyTreeCheckpointHandler(type_handler_registry=_ARRAYS),
            "meta": ocp.JsonCheckpointHandler(),
        }
        with self._writing():
            self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)
        for path in sorted(self.folder.glob(f"*/{seals.METADATA}")):
            if not path.parent.name.isdigit() and _TEMPORARY not in path.parent.name:
                warnings.warn(
                    f"{path.parent} is passed over: the name of a checkpoint is the number of its step", stacklevel=2
                )

    def save(self, state: "TrainState", step: int, meta: dict) -> None:
        """Starts saving; the folder appears under its name only when it is complete.

        The state is copied off the device before this returns, so that it may be donated.

        Raises:
          OSError: if this or an earlier save failed; the checkpoints that are complete stay.
        """
        self._best.step = meta["best"] and meta["best"]["step"]
        # The JSON is written later, and the caller's dict goes on changing.
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(dict(meta)))
        with self._writing():
            self._manager.wait_until_finished()
            self._saving = step, time.perf_counter()
            self._manager.save(step, args=items, force=True, custom_metadata={"sealed": True})

    def replace_meta(self, step: int, meta: dict) -> None:
        """Gives the newest checkpoint, that of `step`, other figures when it is on disk. Raises like `save`."""
        self.wait()
        self._best.step = meta["best"] and meta["best"]["step"]
        if jax.process_index() == 0:
            seals.replace(self.folder / str(step), seals.META, json.dumps(meta))
        multihost_utils.sync_global_devices(f"checkpoint {step} has other figures")

    @property
    def latest_step(self) -> int | None:
        """The newest step that has a checkpoint, whole or damaged."""
        return self._manager.latest_step()

    def restore(
        self, abstract: "TrainState", label_space: LabelSpace, codes: LabelCodes | None = None
    ) -> tuple["TrainState", dict]:
        """The newest checkpoint that is whole, on the shapes and shardings of `abstract`, which may be of another mesh.

        Raises:
          ValueError: if none is whole, or they belong to another model; the message names the folders.
        """
        classes = same_model.describe_space(label_space, codes)

        def load(step: int) -> tuple["TrainState", dict]:
            meta = self._meta(step)
            self._check_same_model(step, meta, self._shapes(step), abstract, classes)
            args = ocp.args.PyTreeRestore(abstract, restore_args=_restore_args(abstract))
            return self._read(step, state=args)["state"], meta

        state, meta = self._with_steps(lambda steps: self._first_whole(steps, load))
        self._best.step = meta["best"] and meta["best"]["step"]
        return state, meta

    def restore_weights(
        self, abstract: dict, label_space: LabelSpace, codes: LabelCodes | None = None
    ) -> tuple[dict, int]:
        """The weights to predict with, averaged if the run averaged, from the best checkpoint.

        Args:
          abstract: {'params': ..., 'batch_stats': ...} or a part of it, with shapes and shardings.
          label_space, codes: the classes, which must be those of the checkpoint if `abstract` has a head; without codes
            they are the ids.

        Returns:
          weights of that structure, and their step: another than the best, with a warning, if that one is damaged.

        Raises:
          ValueError: if there is no checkpoint, or as `restore`.
        """
        classes = same_model.describe_space(label_space, codes) if "head" in abstract["params"] else None

        def load(step: int) -> tuple[dict, int]:
            stored = self._shapes(step)
            averaged = any(name.startswith("average/") for name in stored)
            wanted: dict[str, Any] = {"average": {"weights": abstract}} if averaged else abstract
            stored = {name: shape for name, shape in stored.items() if name in same_model.shapes(wanted)}
            self._check_same_model(step, self._meta(step), stored, wanted, classes)
            args = ocp.args.PyTreeRestore(wanted, restore_args=_restore_args(wanted), partial_restore=True)
            tree = self._read(step, state=args)["state"]
            return (tree["average"]["weights"] if averaged else tree), step

        return self._with_steps(lambda steps: self._first_whole(self._best_first(steps), load))

    def best_step(self, whole: bool = True) -> int:
        """The step whose weights `restore_weights` reads; without `whole` the best, whose files are not looked at.

        Raises:
          ValueError: as `restore_weights`.
        """

        def attempt(steps: list[int]) -> int:
            order = self._best_first(steps)
            return self._first_whole(order, lambda step: step) if whole else order[0]

        return self._with_steps(attempt)

    def wait(self) -> None:
        """Returns when all files are on disk. Raises like `save`."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits, and lets go of the folder. Raises like `save`."""
        with self._writing():
            self._manager.close()

    def _newest_first(self) -> list[int]:
        # Processes that list a folder in which a run goes on find different ones.
        return distributed.of_main(sorted(self._manager.all_steps(), reverse=True))

    def _best_first(self, steps: list[int]) -> list[int]:
        """The steps, newest first, with the best in front."""
        if not steps:
            raise ValueError(f"{self.folder} holds no complete checkpoint")
        best = self._first_whole(steps, lambda step: self._meta(step)["best"], item="meta")
        first = [best["step"]] if best and best["step"] in steps else []
        return first + [step for step in steps if step not in first]

    def _with_steps(self, attempt: Callable[[list[int]], Any]) -> Any:
        """`attempt(steps)`, newest first; with those that are there now, if a run has replaced them meanwhile."""
        while True:
            try:
                return attempt(self._newest_first())
            except _ReplacedError:
                continue

    def _replaced(self, steps: Sequence[int]) -> bool:
        """Whether the run that goes on in the folder has saved since `steps` were listed, and may have removed some."""
        if not self._read_only:
            return False
        self._manager.reload()
        return max(self._newest_first(), default=-1) > max(steps)

    def _first_whole(self, steps: Sequence[int], load: Callable[[int], Any], item: str = "") -> Any:
        """`load(step)` of the first of `steps` that is whole; the ones before it are moved out of the way.

        With `item`, only that one is looked at, and nothing is moved.
        """
        damaged: dict[int, DamagedCheckpointError] = {}
        for step in steps:
            try:
                self._check_files(step, item)
                loaded = load(step)
            except DamagedCheckpointError as error:
                if self._replaced(steps):
                    raise _ReplacedError from error
                damaged[step] = error
                continue
            for bad, reason in damaged.items() if not item else ():
                self._set_aside(bad, f"{reason}; the checkpoint of step {step} is used instead")
            return loaded
        reasons = "; ".join(map(str, damaged.values()))
        raise ValueError(
            f"{reasons}: none is left to continue from; nothing was removed: another --workdir begins again"
        )

    def _check_files(self, step: int, item: str) -> None:
        # The processes share the reading, and all must come to the same verdict.
        share = jax.process_index(), jax.process_count()
        problem = seals.damage(self.folder / str(step), share, item)
        verdicts = multihost_utils.process_allgather(np.array(problem is not None))
        if verdicts.any():
            raise self._damaged(step, problem or f"found by process {int(np.argmax(verdicts))}")

    def _set_aside(self, step: int, message: str) -> None:
        if not self._read_only:
            aside = self.folder.parent / "damaged" / str(step)
            if jax.process_index() == 0:
                shutil.rmtree(aside, ignore_errors=True)  # of the same step, damaged earlier
                aside.parent.mkdir(exist_ok=True)
                (self.folder / str(step)).rename(aside)
            multihost_utils.sync_global_devices(f"checkpoint {step} is moved away")
            self._manager.reload()
            message += f"; the damaged folder is now {aside}"
        warnings.warn(message, stacklevel=4)

    def _meta(self, step: int) -> dict:
        return self._read(step, meta=ocp.args.JsonRestore())["meta"]

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file.
            raise self._damaged(step, _brief(error)) from error

    def _shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        try:
            return same_model.shapes(self._manager.item_metadata(step)["state"].tree)
        except Exception as error:  # As above.
            raise self._damaged(step, _brief(error)) from error

    def _damaged(self, step: int, reason: str) -> DamagedCheckpointError:
        return DamagedCheckpointError(f"checkpoint {self.folder / str(step)} cannot be read: {reason}")

    def _check_same_model(self, step: int, meta: dict, stored: dict, abstract: Any, classes: str | None) -> None:
        different = same_model.differences(stored, abstract)
        if classes is not None and meta["label_space"] != classes:
            different.insert(0, f"the classes are {meta['label_space']} in the file and {classes} here")
        if different:
            shown = "; ".join(different[:5]) + ("; ..." if len(different) > 5 else "")
            raise ValueError(
                f"checkpoint {self.folder / str(step)} is of another model, {len(different)} differ: {shown}"
            )

    def _seal(self) -> None:
        """Called by process 0's writing thread, when all files are there and the folder has its temporary name."""
        step, started = self._saving
        final = self.folder / str(step)
        (temporary,) = self.folder.glob(f"{step}{_TEMPORARY}*")
        size = seals.seal(temporary, final)
        if not self._told:
            self._told = True
            free = shutil.disk_usage(self.folder).free
            writers.say(
                f"a checkpoint: {report.megabytes(size)} on disk, written in {time.perf_counter() - started:.1f} s "
                f"beside the training; {report.megabytes(free)} are free"
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Gives what goes wrong with writing one line, and removes what was written in vain."""
        try:
            yield
        except (OSError, ValueError, RuntimeError) as error:  # TensorStore: ValueError; a barrier: RuntimeError.
            if jax.process_index() == 0 and not self._read_only:
                for temporary in self.folder.glob(f"*{_TEMPORARY}*"):
                    shutil.rmtree(temporary, ignore_errors=True)
            unharmed = ", ".join(map(str, complete.steps(self.folder.parent))) or "(none)"
            raise OSError(
                f"checkpoints cannot be written to {self.folder}: {_brief(error)}; "
                f"complete and unharmed are those of the steps {unharmed}"
            ) from error


class _KeepStep(managers.PreservationPolicy):
    """Preserves one step, whatever its age."""

    step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        return [checkpoint.step == self.step for checkpoint in checkpoints]


def _brief(error: Exception) -> str:
    """One line; TensorStore tells the operation first, then long paths, and the cause at the end."""
    text = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {text if len(text) < 300 else f'{text[:100]} ... {text[-150:]}'}"


def _restore_args(abstract: Any) -> Any:
    # Sharded tables are padded to a multiple of the mesh. Not strict: the padding may change with the mesh.
    return jax.tree.map(
        lambda leaf: ocp.ArrayRestoreArgs(
            sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype, strict=False
        ),
        abstract,
    )
