"""Checkpoints of a run, through Orbax: asynchronous, atomic, the newest few and the best kept."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as managers

from mhe_jax.labels import LabelSpace
from mhe_jax.train.state import TrainState


def describe_space(space: LabelSpace) -> str:
    """The form in which `meta["label_space"]` holds the classes."""
    return f"{space.num_classes} as {'x'.join(map(str, space.head_sizes))}"


class Checkpoints:
    """The folder `<workdir>/checkpoints`: one sub-folder a step, with the state and a JSON `meta`.

    `meta["best"]` is the best evaluation so far, `{"step": ..., metrics}`, or None; that step's checkpoint is kept.
    """

    def __init__(self, workdir: pathlib.Path, keep: int = 1, read_only: bool = False):
        """Opens or creates the folder; the `keep` newest checkpoints stay besides the best.

        `read_only` touches nothing, and so may look into a run that is going on.
        """
        self.folder = pathlib.Path(workdir).resolve() / "checkpoints"
        self._best = _KeepStep()
        options = ocp.CheckpointManagerOptions(
            preservation_policy=managers.AnyPreservationPolicy([managers.LatestN(max(1, keep)), self._best]),
            # An interrupted save leaves a temporary folder behind; the next start removes it.
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        handlers = {"state": ocp.PyTreeCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}
        self._manager = ocp.CheckpointManager(self.folder, options=options, item_handlers=handlers)

    def save(self, state: TrainState, step: int, meta: dict) -> None:
        """Starts saving; the folder appears under its name only when it is complete.

        The state is copied off the device before this returns, so that it may be donated.
        """
        self._best.step = meta["best"] and meta["best"]["step"]
        items = ocp.args.Composite(state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave(meta))
        self._manager.save(step, args=items, force=True)

    @property
    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def restore(self, abstract: TrainState, label_space: LabelSpace) -> tuple[TrainState, dict]:
        """The newest checkpoint, on the shapes and shardings of `abstract`, which may be of another mesh.

        Raises:
          ValueError: if the files are damaged, or belong to another model; the message names the folder.
        """
        step = self._manager.latest_step()
        meta = self._meta(step)
        self._check_same_model(step, meta, self._shapes(step), abstract, label_space)
        args = ocp.args.PyTreeRestore(abstract, restore_args=_restore_args(abstract))
        state = self._read(step, state=args)["state"]
        self._best.step = meta["best"] and meta["best"]["step"]
        return state, meta

    def restore_weights(self, abstract: dict, label_space: LabelSpace) -> tuple[dict, int]:
        """The weights to predict with, averaged if the run averaged, from the best checkpoint.

        Args:
          abstract: {'params': ..., 'batch_stats': ...} or a part of it, with shapes and shardings.
          label_space: the classes, which must be those of the checkpoint if `abstract` has a head.

        Returns:
          weights of that structure, and their step.

        Raises:
          ValueError: if there is no checkpoint, or as `restore`.
        """
        latest = self._manager.latest_step()
        if latest is None:
            raise ValueError(f"{self.folder} holds no complete checkpoint")
        meta = self._meta(latest)
        best = meta["best"]
        step = best["step"] if best and best["step"] in self._manager.all_steps() else latest
        stored = self._shapes(step)
        averaged = any(name.startswith("average/") for name in stored)
        wanted: dict[str, Any] = {"average": {"weights": abstract}} if averaged else abstract
        stored = {name: shape for name, shape in stored.items() if name in _shapes(wanted)}
        self._check_same_model(step, meta, stored, wanted, label_space if "head" in abstract["params"] else None)
        args = ocp.args.PyTreeRestore(wanted, restore_args=_restore_args(wanted), partial_restore=True)
        tree = self._read(step, state=args)["state"]
        return (tree["average"]["weights"] if averaged else tree), step

    def wait(self) -> None:
        """Returns when all files are on disk."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        self._manager.close()

    def _meta(self, step: int) -> dict:
        return self._read(step, meta=ocp.args.JsonRestore())["meta"]

    def _read(self, step: int, **items: Any) -> Any:
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # Orbax and TensorStore raise many kinds for a damaged file.
            raise self._damaged(step, error) from error

    def _shapes(self, step: int) -> dict[str, tuple[int, ...]]:
        try:
            return _shapes(self._manager.item_metadata(step)["state"].tree)
        except Exception as error:  # As above.
            raise self._damaged(step, error) from error

    def _damaged(self, step: int, error: Exception) -> ValueError:
        brief = (str(error).strip().splitlines() or [""])[0][:300]
        return ValueError(
            f"checkpoint {self.folder / str(step)} cannot be read: {type(error).__name__}: {brief}; "
            "delete this folder to continue from the checkpoint before it"
        )

    def _check_same_model(
        self, step: int, meta: dict, stored: dict, abstract: Any, label_space: LabelSpace | None
    ) -> None:
        different = []
        if label_space is not None and meta["label_space"] != describe_space(label_space):
            different.append(
                f"the classes are {meta['label_space']} in the file and {describe_space(label_space)} here"
            )
        expected, tables = _shapes(abstract), _class_tables(abstract)
        for name in sorted(stored.keys() | expected.keys()):
            # The padding of a table's rows depends on the mesh; all else must agree.
            rows = slice(1 if name in tables else 0, None)
            shapes = stored.get(name, "absent"), expected.get(name, "absent")
            if "absent" in shapes or shapes[0][rows] != shapes[1][rows]:
                different.append(f"{name} is {shapes[0]} in the file and {shapes[1]} here")
        if different:
            shown = "; ".join(different[:5]) + ("; ..." if len(different) > 5 else "")
            raise ValueError(
                f"checkpoint {self.folder / str(step)} is of another model, {len(different)} differ: {shown}"
            )


class _KeepStep(managers.PreservationPolicy):
    """Preserves one step, whatever its age."""

    step: int | None = None

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        return [checkpoint.step == self.step for checkpoint in checkpoints]


def _restore_args(abstract: Any) -> Any:
    # Sharded tables are padded to a multiple of the mesh. Not strict: the padding may change with the mesh.
    return jax.tree.map(
        lambda leaf: ocp.ArrayRestoreArgs(
            sharding=leaf.sharding, global_shape=leaf.shape, dtype=leaf.dtype, strict=False
        ),
        abstract,
    )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}


def _class_tables(abstract: Any) -> set[str]:
    """Names of the arrays whose rows are split over mesh axis 'class'."""
    leaves = jax.tree_util.tree_leaves_with_path(abstract)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in leaves
        if tuple(leaf.sharding.spec)[:1] == ("class",)
    }
