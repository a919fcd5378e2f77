"""`h100:8x8`, `tpu-v6e:256`: devices that programs are compiled for without having them."""

import contextlib
import dataclasses
import importlib.metadata
import importlib.resources
import os
import pathlib
import re
import sys
from collections.abc import Iterator
from typing import Any

import jax

from mhe_jax.targets import tpus

_GPUS = importlib.resources.files("mhe_jax.targets") / "gpus"
# Without these XLA's compiler divides by zero, or believes in a device without memory.
_NEEDED = (
    "platform_name",
    "gpu_device_info",
    "cuda_compute_capability",
    "core_count",
    "fpus_per_core",
    "threads_per_warp",
    "threads_per_block_limit",
    "threads_per_core_limit",
    "shared_memory_per_block",
    "registers_per_block_limit",
    "block_dim_limit_x",
    "memory_bandwidth",
    "clock_rate_ghz",
    "device_memory_size",
)
# Of a device's memory: what a program can have, and what JAX takes of a GPU's unless it is told otherwise.
_MOST, _PREALLOCATED = 0.95, 0.75
_EXTRA = "`pip install 'mhe-jax[aot]'` installs what compiles for devices that are not here"


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices of one kind, on one host or several.

    name: as it was asked for, such as 'h100:8x8'.
    memory: bytes of one device.
    devices: what a mesh is made of; they can be compiled for, and hold no arrays.
    """

    name: str
    memory: int
    devices: tuple[Any, ...]

    @property
    def usable(self) -> int:
        """Bytes that programs can have of a device, once its runtime has taken its own share."""
        return int(_MOST * self.memory)

    def fits(self, size: int) -> bool:
        """Whether a device can hold `size` bytes."""
        return size <= self.usable

    def verdict(self, size: int) -> str:
        """The same in words, and what it takes."""
        if not self.fits(size):
            return "does not fit"
        # JAX takes this share of a GPU's memory at the start, and no more later.
        if self.devices[0].platform == "gpu" and size > _PREALLOCATED * self.memory:
            return f"fits with XLA_PYTHON_CLIENT_MEM_FRACTION={_MOST}"
        return "fits"


def names() -> list[str]:
    """The accelerators that are described here."""
    gpus = sorted(entry.name.removesuffix(".txtpb") for entry in _GPUS.iterdir() if entry.name.endswith(".txtpb"))
    return [*gpus, *tpus.TPUS]


def find(text: str) -> Target:
    """The target of a command line.

    Args:
      text: `NAME`, `NAME:DEVICES`, or `NAME:HOSTSxDEVICES` with so many devices on each host. NAME is one of `names()`
        or a file like those in `mhe_jax/targets/gpus`. A TPU takes its number of chips, or their torus (`2x2x4`).

    Raises:
      ValueError: if there is no such accelerator, no such number of it, or the description lacks a field.
      ImportError: naming the extra, if its compiler is not installed, or is of another version than jax.
    """
    name, _, count = text.rpartition(":") if re.search(r":[\dx]+$", text) else (text, "", "1")
    if name in tpus.TPUS:
        return Target(text, tpus.TPUS[name].memory, _tpu_devices(text, name, count))
    description = _description(name)
    size = re.search(r"\bdevice_memory_size\s*:\s*(0x[\da-f]+|[1-9]\d*)\b", _fields(description), re.IGNORECASE)
    if size is None:
        raise ValueError(f"--target: device_memory_size of the description {name} must be a whole number of bytes")
    return Target(text, int(size[1], base=0), _gpu_devices(text, description, count))


def memory_of(text: str) -> int:
    """Bytes of '24GB', '24 GiB', '512MiB' or a plain number; as sellers of memory do, GB is taken for 2^30.

    Raises:
      ValueError: for anything else.
    """
    found = re.fullmatch(r"([\d.]+)\s*(?:([kmgt])i?b?|b)?", text.strip(), re.IGNORECASE)
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        number = 0.0
    if found is None or number <= 0:
        raise ValueError(f"--memory={text}: give a size, such as 24GB")
    return int(number * 2 ** (10 * ("kmgt".index(found[2].lower()) + 1 if found[2] else 0)))


def _description(name: str) -> str:
    shipped, own = _GPUS / f"{name}.txtpb", pathlib.Path(name).expanduser()
    if "/" not in name and shipped.is_file():
        return shipped.read_text()
    if not own.is_file():
        raise ValueError(
            f"--target: there is no accelerator {name!r}; there are {', '.join(names())}, and files that describe "
            "others (a GpuTargetConfigProto of XLA as text)"
        )
    try:
        description = own.read_text()
    except UnicodeDecodeError:
        raise ValueError(f"--target: {own} is no text") from None
    fields = _fields(description)
    if missing := [field for field in _NEEDED if not re.search(rf"\b{field}\b", fields)]:
        raise ValueError(f"--target: the description {own} lacks {', '.join(missing)}")
    return description


def _fields(description: str) -> str:
    """A description without its comments."""
    return re.sub(r"#.*", "", description)


def _gpu_devices(text: str, description: str, count: str) -> tuple[Any, ...]:
    shape = re.fullmatch(r"(?:(\d+)x)?(\d+)", count)
    hosts, each = (int(shape[1] or 1), int(shape[2])) if shape else (0, 0)
    if hosts * each == 0:
        raise ValueError(f"--target={text}: {count!r} is no number of GPUs; give DEVICES or HOSTSxDEVICES, such as 8x8")
    _require("jax-cuda12-plugin")
    return _topology(text, topology_name="", platform="cuda", target_config=description, topology=f"1x{hosts}x{each}")


def _tpu_devices(text: str, name: str, count: str) -> tuple[Any, ...]:
    torus = tpus.torus(name, count)
    _require("libtpu")
    for variable, value in tpus.ALONE.items():
        os.environ.setdefault(variable, value)
    options: dict[str, Any] = {"topology_name": f"{tpus.TPUS[name].topology}:{torus}", "platform": "tpu"}
    if set(torus) <= set("1x"):
        options["chips_per_host_bounds"] = (1, 1, 1)
    return _topology(text, **options)


def _topology(text: str, **options: Any) -> tuple[Any, ...]:
    from jax.experimental import topologies

    # A compiler without its device is no backend for this process, and says so at length.
    jax.config.update("jax_platforms", "cpu")
    try:
        with _unheard():
            jax.devices()
            found = topologies.get_topology_desc(**options).devices
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(f"--target={text}: the compiler refuses it: {str(error).splitlines()[0]}") from error
    return tuple(sorted(found, key=lambda device: (device.process_index, device.id)))


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """What libraries write to standard error by themselves goes nowhere."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _require(package: str) -> None:
    """Checks a plugin's version against the one that the installed jax asks for in its extras."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise ImportError(f"--target needs {package}, which is not installed: {_EXTRA}") from None
    wanted = _wanted(package)
    if wanted and not re.fullmatch(re.escape(wanted).replace(r"\*", ".*"), version):
        raise ImportError(
            f"--target: {package} is {version}, but jax {jax.__version__} works with {package} {wanted}: {_EXTRA}"
        )


def _wanted(package: str) -> str:
    """The version of a package in the extras of jax, such as '0.0.42.*'; empty if it is not named there."""
    for requirement in importlib.metadata.requires("jax") or ():
        if found := re.match(rf"{package}(?:\[[^\]]*\])?(?:==|<=)([^,;\s]+)", requirement):
            return found[1]
    return ""
