"""The training loop: mesh, task, state, steps, evaluation, checkpoints, from top to bottom."""

import contextlib
import functools
import json
import pathlib
import time
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from mhe_jax.codes.relabel import relabelled
from mhe_jax.codes.sources import build_source
from mhe_jax.data.build import build_data
from mhe_jax.data.dataset import BadExample
from mhe_jax.settings import Settings
from mhe_jax.train import ahead, data_digest, experiment, extension, feature_codes, label_codes, left_to_data, warm_up
from mhe_jax.train.checkpoints import lock
from mhe_jax.train.checkpoints.checkpoint import Checkpoints
from mhe_jax.train.checkpoints.same_model import describe_space
from mhe_jax.train.class_bands import class_bands
from mhe_jax.train.evaluator import build_evaluator, has_answers
from mhe_jax.train.guided_feed import guided_feed, guides
from mhe_jax.train.learner import build_learner
from mhe_jax.train.numbered import numbering_of
from mhe_jax.train.parallel import deterministic, distributed, fsdp
from mhe_jax.train.parallel.interruption import Interruption
from mhe_jax.train.parallel.mesh import CHUNK, check_batch, make_mesh, place, replicate, shares
from mhe_jax.train.parallel.watchdog import Watchdog
from mhe_jax.train.reporting import profile, report, trackers, writers
from mhe_jax.train.reporting.meter import Meter
from mhe_jax.train.skips import Skips, with_rollback
from mhe_jax.train.stages import current, staged
from mhe_jax.train.state import abstract_state, all_finite, create_state, weights_of, with_weights
from mhe_jax.train.step import StepOptions, compile_train_program, dispatch_length, make_train_step


def train_and_evaluate(
    config: ConfigDict,
    workdir: str | pathlib.Path,
    interrupt_at: int | None = None,
    profile_steps: profile.Steps | None = None,
    started: float | None = None,
) -> dict:
    """Trains the model of `config` in `workdir`, from the newest checkpoint there if there is one.

    Args:
      config: see `mhe_jax.settings.Settings`.
      workdir: folder of this run; gets config.json, metrics.jsonl, checkpoints, result.json and curves.png.
      interrupt_at: behave at this step as if the process had been asked to end: save and return.
      profile_steps: the first and the last step of a trace in the workdir's folder `profile`.
      started: `time.monotonic()` when the program began, for the seconds to its first step; None: now.

    Returns:
      the content of result.json; `interrupted` is True if steps are left.

    Raises:
      ValueError: for anything wrong with the config, the data or the workdir, before the first step.
      NonFiniteLossError: naming the steps; the last good checkpoint stays.
      OSError: if the workdir cannot be written any more; likewise.
    """
    workdir = pathlib.Path(workdir)
    started = time.monotonic() if started is None else started
    config = left_to_data.as_trained(config, workdir)
    settings = Settings.from_config(config)
    trackers.check(settings.trackers)
    if settings.deterministic:
        deterministic.require()
    interruption = Interruption()
    extension.check(settings, workdir)
    load = functools.cache(lambda: _loaded(settings))  # once, for all attempts and a warm-up
    if warm_up.is_due(build_source(settings.codes), workdir):
        folder = workdir / warm_up.FOLDER
        train = functools.partial(_train, config, workdir, load, interrupt_at, interruption, None, warming=True)
        result = with_rollback(train, folder, settings, started)
        if result["interrupted"]:
            return result
    train = functools.partial(_train, config, workdir, load, interrupt_at, interruption, profile_steps)
    return with_rollback(train, workdir, settings, started)


def _loaded(settings: Settings) -> tuple:
    """The data set, its splits, and how many classes it has."""
    data = build_data(settings.data)
    return data, data.load(), data.num_classes


def _train(
    config: ConfigDict,
    workdir: pathlib.Path,
    load: Callable[[], tuple],
    interrupt_at: int | None,
    interruption: Interruption,
    profile_steps: profile.Steps | None,
    *,
    skips: Skips,
    program_started: float,
    warming: bool = False,
) -> dict:
    """A run, or with `warming` its warm-up, which leaves where the run itself will begin."""
    started = time.monotonic()

    # ---- Devices, data, task.
    settings = Settings.from_config(config)
    mesh = make_mesh(settings.mesh)
    check_batch(mesh, settings)
    data, splits, number = load()
    data.num_classes = number  # which an attempt before this one may have numbered otherwise
    parts = shares(mesh, settings.accumulate_steps)
    left = left_to_data.left(config)
    config = left_to_data.by_data(config, data, splits.train.num_examples, parts["num_devices"])
    source, whole, whole_workdir = build_source(config.codes), config, workdir
    label_codes.check_head(source, config, number)
    if warming:
        config, workdir = warm_up.config_of(config), workdir / warm_up.FOLDER
    settings = Settings.from_config(config)
    figures = data_digest.same_everywhere(splits, number, settings.peer_seconds, guides(settings))
    names = splits.class_names
    classes, codes, splits, begun = extension.classes_of(settings, workdir, data, splits, mesh)
    numbering = numbering_of(workdir, classes, names, number) if classes.is_kept else None
    space = classes.space(settings.head, codes)
    task = experiment.build_task(settings, settings.head, data, classes.number, space=space)
    of_features = functools.partial(feature_codes.find, source, config, workdir, data, splits.train, mesh, space)
    if not classes.is_kept:
        codes = label_codes.decided(
            build_source(settings.codes), workdir, space, splits.class_names, splits.train, settings.seed, of_features
        )
    by_id, splits = splits, relabelled(splits, codes)
    batch_size = settings.global_batch_size
    train = guided_feed(settings, data, by_id, splits, codes, task, numbering, **parts)
    total_steps = settings.duration("total", train.steps_per_epoch)
    warm_steps = warm_up.steps(source, train.steps_per_epoch, total_steps)
    end_step = warm_steps if warming else total_steps
    _, optimizer, average_rule = build_learner(settings, task, total_steps, train.steps_per_epoch)

    with (
        jax.set_mesh(mesh),
        jax.default_matmul_precision(settings.matmul_precision),
        interruption,
        contextlib.ExitStack() as cleanup,
    ):
        # ---- State: initial values, weights from elsewhere, or the newest checkpoint.
        if distributed.is_main():
            for folder in dict.fromkeys((whole_workdir, workdir)):
                cleanup.enter_context(lock.held(folder))
        if warming:
            experiment.claim_workdir(whole_workdir, whole, classes, data, figures)
        experiment.claim_workdir(workdir, config, classes, data, figures, codes)
        distributed.barrier("the workdir", settings.peer_seconds)
        skips.refresh(workdir)  # the run that held the lock until now may have added to them
        kept = Checkpoints(workdir, settings.keep_checkpoints, settings.keep_every_steps)
        checkpoints = cleanup.enter_context(contextlib.closing(kept))
        abstract = abstract_state(task, optimizer, average_rule, mesh, settings.shard_backbone)
        described = describe_space(space, codes)
        meta: dict = {"label_space": described, "best": None, "last": None, "seconds": 0.0}
        if checkpoints.latest_step is not None:
            state, meta = checkpoints.restore(abstract, space, codes)
        else:
            if distributed.is_main():
                skips.write(workdir)
            state = create_state(task, optimizer, average_rule, abstract, settings.seed)
            if warm_steps and not warming:
                of_run = config, workdir, data, mesh, train.steps_per_epoch, task.head, codes
                state, meta["seconds"] = warm_up.carried_over(state, *of_run)
            elif begun is not None:
                state = with_weights(state, begun, average_rule)
                checkpoints.save(state, 0, meta)  # from here on the other run is not needed
            else:
                weights = weights_of(state)
                started_from = experiment.initial_weights(settings, weights, space, codes)
                state = state if started_from is weights else with_weights(state, started_from, average_rule)
                del weights, started_from  # the state is donated to the first step
        step = int(state.step)

        # ---- The compiled program, and what it will need.
        resident = replicate(mesh, train.resident)
        options = StepOptions.of(settings, train.steps_per_epoch)
        dispatch = dispatch_length(settings.steps_per_dispatch, jax.default_backend(), train.streamed)
        program_of = lambda task: compile_train_program(
            make_train_step(task, optimizer, average_rule, options), train.batch, dispatch, abstract
        )
        stages = staged(task, total_steps, program_of)
        measured = lambda name: build_evaluator(
            task, getattr(splits, name), batch_size, mesh, None, class_bands(settings, by_id, name, codes)
        )
        evaluator = measured("eval")

        evaluate_every = settings.duration("eval_every", train.steps_per_epoch)
        save_every = settings.duration("checkpoint_every", train.steps_per_epoch)
        stops = [every for every in (evaluate_every, save_every) if every]
        last_step = end_step if interrupt_at is None else min(end_step, interrupt_at)
        trace = profile.Profile(profile_steps, total_steps, workdir / "profile", distributed.is_main())

        def next_chunk():
            """The data of the steps up to the next stop, in the one shape that is compiled, and their number."""
            ends = last_step, current(stages, step).end, *(step - step % n + n for n in stops)
            stop = min(*ends, *(cut for cut in trace.cuts if cut > step))
            batch = skips.position(step)
            count = min(dispatch, stop - step, train.equal_steps(batch), skips.consecutive(step) or dispatch)
            rows = {name: _pad(part, dispatch) for name, part in train.chunk(batch, count).items()}
            return place(mesh, rows, CHUNK), np.int32(count)

        sinks = trackers.start(settings.trackers, workdir, config, step) if distributed.is_main() else ()
        writer = writers.Writer(workdir, step, total_steps, distributed.is_main(), sinks)
        for closed in (writer, train, evaluator, trace):
            cleanup.callback(closed.close)
        if left:
            writer.say(left_to_data.told(config, left))
        writer.say(report.parameter_table(abstract.params))
        if profile_steps and step >= profile_steps[1]:
            writer.say(f"--profile_steps: step {profile_steps[1]} is behind this start at {step}, nothing is traced")
        ready = lambda stage, *data: stage.compiled(state, resident, *data, task=task, batch=batch_size, say=writer.say)
        stage, peak_step_seconds = current(stages, step), None
        if step < last_step:
            if meta["last"] is None:
                evaluator.rehearse()  # what cannot be read ends the run now, and not after an epoch
            chunk, count = next_chunk()
            most = None
            for one in dict.fromkeys((stages[-1], stage)):  # the last one takes most, and ought to fit now
                peak_step_seconds, memory = ready(one, chunk, count)
                most = most or memory
            asked = (state, resident, chunk, count), fsdp.whole_shapes(abstract.eval_weights, mesh)
            ahead.check_memory(most, stages[-1], evaluator, splits, *asked, task=task, batch=batch_size, say=writer.say)

        # ---- Steps.
        epoch = lambda step: step / train.steps_per_epoch
        meter = Meter(
            step,
            settings.log_every_steps,
            lambda at, values: writer.write("train", at, epoch(at), {**values, **report.peak_memory()}),
            peak_step_seconds,
        )
        due = lambda step, every: step == total_steps or (every and step % every == 0)
        earlier_seconds = meta["seconds"]
        seconds_to_first_step, stopping = None, False
        asked_by_any = distributed.Agreement(mesh)
        watchdog = cleanup.enter_context(Watchdog(settings.stall_seconds))

        def save() -> None:
            """The state, or if this step's is saved already, what was found since."""
            with meter.paused():
                meta["seconds"] = earlier_seconds + time.monotonic() - started
                if checkpoints.latest_step == step:
                    checkpoints.replace_meta(step, meta)
                else:
                    meter.check_parameters(step, bool(all_finite(state.params)))
                    checkpoints.save(state, step, meta)
                watchdog.beat()

        def evaluate() -> bool:
            """Whether this evaluation is the best so far; what it found is in `meta`."""
            with meter.paused():
                meter.check_parameters(step, bool(all_finite(state.params)))
                try:
                    found = evaluator(fsdp.whole(state.eval_weights, mesh), watchdog.beat)
                except BadExample:
                    # Of several processes, the others are not here to save.
                    if jax.process_count() == 1 and checkpoints.latest_step != step:
                        save()
                    raise
                meta["last"] = {"step": step, **found}
                writer.write("eval", step, epoch(step), meta["last"])
                # Hosts may differ in the last bit of a figure, and must not in what they save.
                (best,) = distributed.of_main([task.is_better(meta["last"], meta["best"])])
                meta["best"] = meta["last"] if best else meta["best"]
            return bool(best)

        if step and due(step, evaluate_every) and (meta["last"] or {}).get("step") != step:
            evaluate()  # which the start before this one could not, or had no time for
            save()
        while step < last_step and not stopping:
            if stage is not current(stages, step):
                stage = current(stages, step)
                with meter.paused():
                    meter.peak_step_seconds, _ = ready(stage, chunk, count)
            if trace.starts(step):
                with meter.paused():
                    trace.start(state)
            with jax.profiler.StepTraceAnnotation("train", step_num=step + 1):
                state, sums = stage.program(state, resident, chunk, count)
            step += int(count)
            if step < last_step:
                # While the device works: the next data are read and sent.
                with meter.fetching(sums):
                    chunk, count = next_chunk()
            if seconds_to_first_step is None:
                jax.block_until_ready(sums)
                seconds_to_first_step = round(time.monotonic() - program_started, 2)
                writer.say(
                    f"seconds from the program's start to the end of its first dispatch: {seconds_to_first_step}"
                )
            meter.add(step, sums)
            if trace.ends(step):
                with meter.paused():
                    jax.block_until_ready(state)
                    trace.close()
                writer.say(f"the trace is in {workdir / 'profile'}")
            watchdog.beat()

            leaving, at_end = asked_by_any(interruption.requested), step == last_step
            interruption.saving = stopping = leaving or at_end
            # The time that is left to a run that is told to leave, now or soon, may be less than an evaluation takes.
            if saved := due(step, save_every) or stopping:
                save()
            if due(step, evaluate_every) and (at_end or not leaving) and (evaluate() or saved):
                save()
        meter.finish()
        checkpoints.wait()
        interruption.saving = False
        watchdog.beat()

        # ---- Result, and once, with the best weights, the examples that chose nothing.
        result = report.result(settings, task, abstract.params, step, meta)
        result["facts"] = splits.facts
        if splits.test is not None and has_answers(splits.test) and step == total_steps:
            del state
            best, best_step = checkpoints.restore_weights(weights_of(abstract), space, codes)
            watchdog.beat()
            test = cleanup.enter_context(contextlib.closing(measured("test")))
            result["test"] = {"step": best_step, **test(fsdp.whole(best, mesh), watchdog.beat)}
            events = writers.read_events(workdir / "metrics.jsonl")
            if not any((event["split"], event["step"]) == ("test", step) for event in events):
                writer.write("test", step, epoch(step), result["test"])
        result["interrupted"] = step < end_step
        result |= {"seconds_to_first_step": seconds_to_first_step, **report.peak_memory()}
        result["skipped_batches"] = skips.ranges
        result["bad_examples"] = distributed.bad_examples(train) + evaluator.bad_examples
        if distributed.is_main():
            writers.write_atomically(workdir / "result.json", json.dumps(writers.finite(result), indent=2) + "\n")
            writers.plot_curves(workdir)
            evaluator.draw(workdir)
        distributed.barrier("the result", settings.peer_seconds)
    return result


def _pad(rows: np.ndarray, length: int) -> np.ndarray:
    """Repeats the last row until there are `length`: the shape is fixed, the program stops at the real count."""
    if len(rows) == length:
        return rows
    return np.pad(rows, [(0, length - len(rows)), *[(0, 0)] * (rows.ndim - 1)], mode="edge")
