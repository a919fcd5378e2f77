"""A run behind the server: its weights, its batches, and newer weights when the run has them."""

import asyncio
import datetime
import functools
import gc
import json
import logging
import os
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mhe_jax.data.images import decode
from mhe_jax.inference.gallery import Gallery
from mhe_jax.inference.run import Prediction, Run, load
from mhe_jax.inference.verify import best_threshold
from mhe_jax.serving import reading
from mhe_jax.serving.batcher import Batcher, FullError
from mhe_jax.serving.changes import signature
from mhe_jax.serving.metrics import Metrics
from mhe_jax.serving.options import Options
from mhe_jax.serving.refused import Refused, busy
from mhe_jax.serving.schemas import ModelInfo
from mhe_jax.train.classes import TRAINED

_LOG = logging.getLogger(__name__)
_USUAL_TOP_K = 5
# Pictures that are decoded at once, where handing them to a thread would take longer: how many, and their pixels.
_FEW, _SMALL = 4, 2**16


class _OtherRunError(ValueError):
    """The folder of a run holds another one."""


class Served:
    """A run that answers requests.

    Args:
      name: in requests.
      workdir: the run's folder, or one that was published. Nothing is read from it after `open` but newer weights.
      options: limits.
      metrics: what is told of its batches.
      gallery: a folder of pictures of people, DIR/<person>/<picture>, to be searched; of a run on faces.
    """

    def __init__(
        self,
        name: str,
        workdir: pathlib.Path,
        options: Options,
        metrics: Metrics,
        gallery: pathlib.Path | None = None,
    ):
        self.name, self.workdir, self.options = name, workdir, options
        self.stale: str | None = None
        self._metrics, self._gallery_folder = metrics, gallery
        self._device = ThreadPoolExecutor(1, f"device-{name}")
        self._readers = ThreadPoolExecutor(os.cpu_count(), f"read-{name}")
        self._loader = ThreadPoolExecutor(1, f"load-{name}")
        self._reloading = asyncio.Lock()
        # Signatures: of the weights that answer, and of another run that stands in their place.
        self._seen, self._other = None, None

    def open(self) -> None:
        """Loads the weights and compiles the programs.

        Raises:
          ValueError: if the folder is not a run's, holds no weights, or the gallery holds no picture.
        """
        self._seen = signature(self.workdir)
        self._take(*self._loaded())
        batcher = functools.partial(
            Batcher,
            executor=self._device,
            max_batch=self.options.max_batch,
            max_wait=self.options.max_wait,
            max_queue=self.options.max_queue,
        )
        seen = functools.partial(self._metrics.batch, self.name)
        self._predictions = batcher(self._predict, seen=functools.partial(seen, "predict"))
        self._embeddings = batcher(self._embed, seen=functools.partial(seen, "embed"))

    async def close(self) -> None:
        """Stops; requests that still wait are cancelled."""
        await self._predictions.close()
        await self._embeddings.close()
        for pool in (self._device, self._readers, self._loader):
            pool.shutdown(wait=False, cancel_futures=True)

    def state(self) -> tuple[int, int]:
        """Inputs that wait or are computed, and the step of the weights; 0 for those of a file."""
        return self._predictions.pending + self._embeddings.pending, self._run.step or 0

    @property
    def run(self) -> Run:
        """The run, with the weights of now."""
        return self._run

    @property
    def max_top_k(self) -> int:
        """Classes that an answer may have."""
        return min(self.options.max_top_k, self._run.num_live)

    async def predict(
        self, inputs: Sequence, top_k: int | None = None, threshold: float = 0.0, decide: bool = False
    ) -> list[list[Prediction]]:
        """The `top_k` best classes of each input, best first, of those that the threshold leaves.

        With `decide`, of those that the run's decision answers before, see `Run.decided`.

        Raises:
          Refused: 422 for inputs that the run does not take, a `top_k` that it has not, or `decide` where the run has
            no decision; 429 when too many wait.
        """
        if self._run.verifies:
            raise Refused(422, f"{self.name} is a run on faces, whose classes only trained it: use /v1/embed")
        if top_k is None:
            top_k = min(_USUAL_TOP_K, self.max_top_k)
        if not 1 <= top_k <= self.max_top_k:
            raise Refused(422, f"top_k is {top_k}; {self.name} has answers of 1 to {self.max_top_k} classes")
        ranked = await self._asked(self._predictions, inputs)
        found = [some for _, some in ranked]
        if decide:
            try:
                # By the run that ranked them: there may be a newer one by now.
                found = [run.decided(some) for run, some in ranked]
            except ValueError as error:
                raise Refused(422, f"{self.name}: {error}") from None
        return [[one for one in some if one.score >= threshold][:top_k] for some in found]

    async def neighbours(self, class_id: int, top_k: int | None = None) -> list[Prediction]:
        """The classes most like a class; raises Refused, 422, for a number of no class or more than there are."""
        run = self._run
        if self._run.verifies:
            raise Refused(422, f"{self.name} is a run on faces, whose classes only trained it")
        if class_id >= run.num_classes:
            raise Refused(422, f"id is {class_id}; {self.name} has {run.num_classes} classes")
        if (state := run.class_state(class_id)) != TRAINED:
            raise Refused(422, f"{run.class_name(class_id)!r} is {state}, and has no neighbours")
        most = _neighbours(run, self.options)
        if not most:
            raise Refused(422, f"{self.name} has one class, and no neighbours")
        if top_k is None:
            top_k = min(_USUAL_TOP_K, most)
        if top_k > most:
            raise Refused(422, f"top_k is {top_k}; {self.name} has answers of 1 to {most} neighbours")
        find = functools.partial(run.neighbours, [class_id], most)
        [found] = await asyncio.get_running_loop().run_in_executor(self._device, find)
        return found[:top_k]

    async def embed(self, inputs: Sequence) -> np.ndarray:
        """The features of each input, float32 [N, D], of length 1 where the run is one on faces.

        Raises:
          Refused: 422 for inputs that the run does not take, 429 when too many wait.
        """
        while True:
            run = self._run
            rows = await self._asked(self._embeddings, inputs)
            if run is self._run:  # features of two checkpoints cannot be compared
                return np.stack(rows) if rows else np.zeros((0, run.features_dim), np.float32)

    async def verify(self, pair: Sequence, threshold: float | None) -> dict[str, Any]:
        """The cosine of two pictures and whether it reaches the threshold; raises Refused as `embed` does."""
        self._require_faces()
        if threshold is None:
            threshold = self.threshold
        if threshold is None:
            raise Refused(422, f"{self.name} has no threshold of its own: name one")
        first, second = await self.embed(pair)
        similarity = float(np.clip(first @ second, -1, 1))
        return {"similarity": similarity, "threshold": threshold, "same": similarity >= threshold}

    async def search(self, inputs: Sequence, top_k: int | None, threshold: float) -> list[list[tuple[str, float]]]:
        """People of the gallery by the cosine of their most similar picture; raises Refused as `embed` does."""
        self._require_faces()
        if self._gallery is None:
            raise Refused(422, f"{self.name} was given no gallery to search")
        rows = await self.embed(inputs)
        # That of the weights which made the rows: nothing else runs between the two lines.
        search = functools.partial(self._gallery.search, rows, top_k or _USUAL_TOP_K, threshold)
        return await asyncio.get_running_loop().run_in_executor(self._device, search)

    def digits(self, ids: Sequence[int]) -> list[list[int]]:
        """The digits of classes: what the head predicts, group first where it is a cascade."""
        run = self._run
        return run.label_space.encode(run.codes.codes(np.asarray(ids, np.int64))).tolist()

    def info(self) -> ModelInfo:
        """What the run is, for people and programs."""
        run = self._run
        return ModelInfo(
            name=self.name,
            kind=run.kind,
            input_shape=list(run.input_shape),
            head=run.config.head.name,
            head_sizes=list(run.label_space.head_sizes),
            num_classes=run.num_classes,
            features_dim=run.features_dim,
            max_top_k=self.max_top_k,
            predicts=not run.verifies,
            verifies=run.verifies,
            threshold=self.threshold,
            gallery=len(self._gallery) if self._gallery else 0,
            step=run.step,
            metrics=self._measured,
            loaded=self._when,
            stale=self.stale,
        )

    async def reload(self) -> bool:
        """Takes newer weights if the run has any; requests are answered by the old ones meanwhile.

        What goes wrong, a folder that is gone as well as a disk that fails, leaves the old ones in place; `stale` says
        what it was.

        Returns:
          whether there were newer ones.
        """
        async with self._reloading:
            loop = asyncio.get_running_loop()
            found = None
            try:
                found = await loop.run_in_executor(self._loader, signature, self.workdir)
                if found == self._seen:
                    self.stale = None
                if found in (self._seen, self._other):
                    return False
                loaded = await loop.run_in_executor(self._loader, self._loaded, _contract(self._run))
            except Exception as error:  # a folder that is being written or deleted fails in any way
                reason = " ".join(str(error).split()) or type(error).__name__
                if self.stale != reason:
                    _LOG.warning("%s keeps its weights of step %s: %s", self.name, self._run.step, reason)
                self.stale = reason
                self._other = found if isinstance(error, _OtherRunError) else None
                return False
            newer = loaded[0].step is None or loaded[0].step != self._run.step
            self._seen, self._other, self.stale = found, None, None
            # Of the same step too: a run's threshold and metrics are known when it ends.
            self._take(*loaded)
            gc.freeze()
            if newer:
                _LOG.info("%s has newer weights, of step %s", self.name, self._run.step)
            return newer

    def _loaded(self, contract: tuple | None = None) -> tuple[Run, Gallery | None, float | None, dict[str, Any]]:
        """A run that is ready to answer, its gallery, threshold and metrics; raises _OtherRunError for another one."""
        run = load(self.workdir)
        if contract is not None and _contract(run) != contract:
            raise _OtherRunError(f"{self.workdir} holds another run now: start the server anew for it")
        run.warm(_ranked(run, self.options), _neighbours(run, self.options))
        gallery = Gallery.of(run, self._gallery_folder) if self._gallery_folder else None
        try:
            threshold = best_threshold(self.workdir) if run.verifies else None
        except ValueError:
            threshold = None
        return run, gallery, threshold, _metrics_of(self.workdir)

    def _take(self, run: Run, gallery: Gallery | None, threshold: float | None, measured: dict[str, Any]) -> None:
        self._run, self._gallery, self.threshold, self._measured = run, gallery, threshold, measured
        self._when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

    def require_few(self, number: int) -> None:
        """Raises Refused, 422, for more inputs than a request may have."""
        if number > self.options.max_inputs:
            raise Refused(422, f"there are {number} inputs; a request may have {self.options.max_inputs}")

    async def _asked(self, batcher: Batcher, inputs: Sequence) -> list:
        self.require_few(len(inputs))
        # Before pictures are decoded: a full server does no work for those whom it sends away.
        if batcher.pending + len(inputs) > self.options.max_queue:
            raise busy(f"{batcher.pending} inputs wait for {self.name} already")
        items = await self._read(inputs)
        try:
            return await batcher.ask(items)
        except FullError as error:
            raise busy(f"{self.name}: {error}") from None

    async def _read(self, inputs: Sequence) -> list:
        """Inputs as `reading.stacked` takes them; pictures are decoded by threads, unless there is little to do."""
        run, most = self._run, self.options.max_pixels
        named = [(one, f"inputs[{place}]") for place, one in enumerate(inputs)]
        if run.kind != "pictures":
            return [reading.read(run, one, where) for one, where in named]
        jobs, quick = [], len(inputs) <= _FEW
        for one, where in named:
            encoded = reading.picture_bytes(run, one, where)
            pixels = decode.pixels(encoded)
            if not pixels:
                raise Refused(422, f"{where}: cannot be decoded as an image: {len(encoded)} bytes in no known format")
            if pixels > most:
                raise Refused(422, f"{where} has {pixels:,} pixels, more than {most:,}")
            quick &= pixels <= _SMALL
            jobs.append(functools.partial(reading.decoded, run, encoded, where))
        if quick:
            return [job() for job in jobs]
        # A job each: those that have not begun end with the request.
        decoded = [asyncio.get_running_loop().run_in_executor(self._readers, job) for job in jobs]
        try:
            return await asyncio.gather(*decoded)
        finally:
            for future in decoded:
                future.cancel()

    def _predict(self, items: list) -> list[tuple[Run, list[Prediction]]]:
        """The best classes of each input, and the run that found them."""
        run = self._run
        return [(run, some) for some in run.predict(reading.stacked(run.kind, items), _ranked(run, self.options))]

    def _embed(self, items: list) -> list[np.ndarray]:
        run = self._run
        return list(run.embed(reading.stacked(run.kind, items)))

    def _require_faces(self) -> None:
        if not self._run.verifies:
            raise Refused(422, f"{self.name} is no run on faces")


def _contract(run: Run) -> tuple:
    """What those who ask a run rely on."""
    return run.kind, run.input_shape, run.features_dim, run.verifies, run.num_classes, run.names


def _ranked(run: Run, options: Options) -> int:
    """Classes that the program finds: those of an answer, and more where a decision needs them."""
    return max(min(options.max_top_k, run.num_live), run.num_decided)


def _neighbours(run: Run, options: Options) -> int:
    """Neighbours of a class that an answer may have: of as many is the program."""
    return 0 if run.verifies else min(options.max_top_k, run.num_live - 1)


def _metrics_of(workdir: pathlib.Path) -> dict[str, Any]:
    """The best evaluation of a run; empty before there is one."""
    try:
        return json.loads((workdir / "result.json").read_text())["best"] or {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
