"""Times the first start on a data set of texts, which tokenises it, and the second, which maps what the first wrote.

    PYTHONPATH=. python tests/benchmarks/tokenising.py --config=configs/xmc_eurlex57k.py:minilm --config.data.path=...

Reading texts and labels is part of both. The last line is the time to gather a batch of the longest documents.
"""

import statistics
import tempfile
import time

from absl import app, flags
from ml_collections import config_flags

from mhe_jax.data.build import build_data
from mhe_jax.data.feeds import train_feed

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config of a data set of texts.")
flags.DEFINE_integer("batch", 256, "Documents of the batches.")


def main(_):
    config = _CONFIG.value
    with tempfile.TemporaryDirectory() as cache:
        config.data.cache_dir = cache
        for name in ("first", "second"):
            started = time.perf_counter()
            data = build_data(config.data)
            splits = data.load()
            seconds = time.perf_counter() - started
            parts = [split for split in (splits.train, splits.eval, splits.test) if split is not None]
            documents = sum(split.num_examples for split in parts)
            print(f"{name} start: {documents} documents in {seconds:.2f} s, {documents / seconds:,.0f} per second")
        feed = train_feed(splits.train, flags.FLAGS.batch, seed=0, last_batch="drop", num_devices=1)
        times = []
        for step in range(min(feed.steps_per_epoch, 200)):
            started = time.perf_counter()
            chunk = feed.chunk(step, 1)
            if chunk["input_ids"].shape[-1] == max(data.buckets):
                times.append(time.perf_counter() - started)
        print(f"a batch of {flags.FLAGS.batch} x {max(data.buckets)}: {1e3 * statistics.median(times):.2f} ms (median)")
        feed.close()


if __name__ == "__main__":
    app.run(main)
