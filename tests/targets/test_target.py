"""Names of accelerators, and what is said about those that cannot be."""

import importlib.metadata
import re

import pytest

from mhe_jax.targets import target, tpus

DESCRIPTION = (target._GPUS / "h100.txtpb").read_text()


@pytest.mark.parametrize("name", [name for name in target.names() if name not in tpus.TPUS])
def test_every_description_says_all_that_the_compiler_needs_and_its_source(name):
    text = target._description(name)
    assert "github.com/openxla/xla" in text
    assert all(field in text for field in target._NEEDED)


def test_an_unknown_accelerator_gets_the_list():
    with pytest.raises(ValueError, match="no accelerator 'mi300'; there are a100-40gb, .*, tpu-v6e"):
        target.find("mi300:8")


@pytest.mark.parametrize("count", ["0", "x", "2x", "0x8", "1x2x3"])
def test_a_number_of_gpus_is_devices_or_hosts_x_devices(count):
    with pytest.raises(ValueError, match="is no number of GPUs; give DEVICES or HOSTSxDEVICES|there is no accelerator"):
        target.find(f"h100:{count}")


def test_a_number_of_tpus_that_is_not_had_names_the_smallest():
    with pytest.raises(ValueError, match=r"tpu-v6e:3: such TPUs come in 1, 4, 8, .*; the smallest is tpu-v6e:1"):
        target.find("tpu-v6e:3")


@pytest.mark.parametrize(
    ("name", "count", "torus"),
    [("tpu-v5e", "16", "4x4"), ("tpu-v6e", "256", "16x16"), ("tpu-v5p", "8", "2x2x2"), ("tpu-v5p", "2x2x4", "2x2x4")],
)
def test_chips_form_a_torus(name, count, torus):
    assert tpus.torus(name, count) == torus


def test_a_torus_has_as_many_chips_as_were_asked_for():
    for tpu in tpus.TPUS.values():
        for chips, torus in tpu.tori.items():
            product = 1
            for side in torus.split("x"):
                product *= int(side)
            assert product == chips


def test_a_file_that_describes_another_device_is_checked(tmp_path):
    path = tmp_path / "mine.txtpb"
    path.write_text("\n".join(line for line in DESCRIPTION.splitlines() if "core_count" not in line))
    with pytest.raises(ValueError, match=rf"the description {path} lacks core_count$"):
        target.find(f"{path}:8")
    path.write_text(DESCRIPTION.replace("  core_count", "  # core_count"))
    with pytest.raises(ValueError, match="lacks core_count"):
        target.find(str(path))
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is no text"):
        target.find(str(path))


@pytest.mark.parametrize(("written", "memory"), [("4096", 4096), ("0x5fFF", 0x5FFF), ("-1", None), ("1e9", None)])
def test_memory_is_that_of_the_field_and_not_of_a_comment(written, memory, tmp_path, monkeypatch):
    path = tmp_path / "mine.txtpb"
    comment = "# of another: device_memory_size: 7\n  device_memory_size:"
    path.write_text(re.sub(r"device_memory_size: \d+", f"{comment} {written}", DESCRIPTION))
    monkeypatch.setattr(target, "_gpu_devices", lambda *arguments: ())
    if memory is None:
        with pytest.raises(ValueError, match="device_memory_size of the description .*must be a whole number of bytes"):
            target.find(str(path))
    else:
        assert target.find(str(path)).memory == memory


def test_a_missing_compiler_names_the_extra(monkeypatch):
    def missing(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(ImportError, match=r"needs libtpu, which is not installed: `pip install 'mhe-jax\[aot\]'`"):
        target.find("tpu-v6e:4")


def test_a_compiler_of_another_version_is_named(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.0.1")
    with pytest.raises(ImportError, match=r"jax-cuda12-plugin is 0.0.1, but jax .* works with jax-cuda12-plugin 0\."):
        target.find("h100:8")


def test_what_a_device_holds():
    class Gpu:
        platform = "gpu"

    one = target.Target("h100", 1000, (Gpu(),))
    assert [one.verdict(size) for size in (700, 900, 960)] == [
        "fits",
        "fits with XLA_PYTHON_CLIENT_MEM_FRACTION=0.95",
        "does not fit",
    ]


@pytest.mark.parametrize(
    ("text", "size"), [("24GB", 24 * 2**30), ("1.5 GiB", 3 * 2**29), ("512MiB", 2**29), ("1000", 1000)]
)
def test_sizes_of_memory(text, size):
    assert target.memory_of(text) == size


@pytest.mark.parametrize("text", ["", "GB", "1.2.3GB", "-4GB", "4 parsecs", "0"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="give a size, such as 24GB"):
        target.memory_of(text)
