"""Downloads an image set with tensorflow-datasets and writes it as ArrayRecord files, which need no TensorFlow to read.

    python -m venv /tmp/prepare && /tmp/prepare/bin/pip install 'tensorflow-cpu>=2.18' 'tensorflow-datasets>=4.9.10'
    /tmp/prepare/bin/python launch/prepare_tfds.py --dataset oxford_flowers102 --data_dir ~/data

The extra `prepare` of this package holds the same two requirements; an environment of its own avoids clashes between
TensorFlow's pinned dependencies and JAX's. Training then uses config.data.name = 'tfds', .dataset and .path = data_dir.
"""

import argparse
import importlib.util
import sys


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="name, name/config or name:version, as in the tfds catalogue")
    parser.add_argument("--data_dir", required=True, help="folder to write to; config.data.path when training")
    parser.add_argument("--manual_dir", help="where files lie that must be downloaded by hand, as for imagenet2012")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("tensorflow") is None:
        sys.exit("preparing a data set needs TensorFlow (reading it does not): pip install 'mhe-jax[prepare]'")
    import tensorflow_datasets as tfds

    builder = tfds.builder(options.dataset, data_dir=options.data_dir, file_format="array_record")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=options.manual_dir))
    if builder.info.file_format.value != "array_record":
        sys.exit(
            f"{builder.data_dir} already holds the set as {builder.info.file_format.value}: use another --data_dir"
        )
    splits = ", ".join(f"{name} {split.num_examples:,}" for name, split in builder.info.splits.items())
    print(f"{builder.data_dir}: {splits}")


if __name__ == "__main__":
    main()
