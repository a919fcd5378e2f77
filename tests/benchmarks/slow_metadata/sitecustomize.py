"""Orbax's writes of a checkpoint's metadata take METADATA_SECONDS longer, as on a disk behind a slow network.

Python imports this before all else where its folder is on PYTHONPATH. Orbax itself is imported much later, if at all:
a thread waits for it.
"""

import os
import sys
import threading
import time

MODULE = "orbax.checkpoint._src.metadata.checkpoint"
SECONDS = float(os.environ.get("METADATA_SECONDS", 0))


def slow_down():
    while not hasattr(sys.modules.get(MODULE), "_MetadataStoreImpl"):
        time.sleep(0.01)
    store = sys.modules[MODULE]._MetadataStoreImpl
    write = store.write

    def slowly(self, file_path, metadata):
        with open(file_path, "w") as file:  # what others read meanwhile: Orbax does not write it in one piece
            file.write('{"cut sho')
        time.sleep(SECONDS)
        write(self, file_path, metadata)

    store.write = slowly


if SECONDS:
    threading.Thread(target=slow_down, daemon=True).start()
