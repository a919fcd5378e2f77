"""TPUs by name: their memory, and the tori that a number of chips forms."""

import dataclasses

# A plane of 2D generations, a box of 3D ones; 1 and 4 chips are within a host, more are several hosts of 4.
_PLANES = {1: "1x1", 4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16"}
_BOXES = {
    1: "1x1x1",
    4: "2x2x1",
    8: "2x2x2",
    16: "2x2x4",
    32: "2x4x4",
    64: "4x4x4",
    128: "4x4x8",
    256: "4x8x8",
    512: "8x8x8",
    1024: "8x8x16",
}


@dataclasses.dataclass(frozen=True)
class Tpu:
    """topology: libtpu's name of the generation. memory: bytes of a chip. tori: by number of chips."""

    topology: str
    memory: int
    tori: dict[int, str]


# Memory as cloud.google.com/tpu/docs/{v5e,v5p,v6e} states it.
TPUS = {
    "tpu-v5e": Tpu("v5e", 16 * 2**30, _PLANES),
    "tpu-v5p": Tpu("v5p", 95 * 2**30, _BOXES),
    "tpu-v6e": Tpu("v6e", 32 * 2**30, _PLANES),
}
# libtpu looks for the machine it is on, waits for a server that is not there, and says so; and whoever has loaded it
# keeps all others away, from TPUs that nobody uses here.
ALONE = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v6e-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


def torus(name: str, count: str) -> str:
    """The arrangement of a number of chips, such as '4x4' of '16'; one that is spelt out is taken.

    Raises:
      ValueError: if chips of this kind are not had in this number.
    """
    tori = TPUS[name].tori
    if count in tori.values():
        return count
    if not count.isdecimal() or int(count) not in tori:
        raise ValueError(
            f"--target={name}:{count}: such TPUs come in {', '.join(map(str, tori))} chips, or spelt out in "
            f"{', '.join(tori.values())}; the smallest is {name}:1"
        )
    return tori[int(count)]
