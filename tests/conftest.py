"""Eight CPU devices, full float32 products, and no implicit broadcasting, for every test."""

import gc
import os
import pathlib
import platform

import jax
import pytest

from tests import shape_checks, whole_programs

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# The tests compile much and compute little: without LLVM's costly passes, with each program in one piece and, where XLA
# still has the choice, with its older emitters of fused loops, they take about a quarter of the time.
FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if jax.__version_info__ < (0, 11):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(FLAGS))
# Half of the time is XLA's. What it made is kept in build/, for both workers and for the processes that tests start,
# until `make clean`.
COMPILED = str(pathlib.Path(__file__).parents[1] / "build" / "compiled" / platform.node())
os.environ.update(JAX_COMPILATION_CACHE_DIR=COMPILED, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0")
jax.config.update("jax_compilation_cache_dir", COMPILED)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_default_matmul_precision", "highest")
jax.config.update("jax_numpy_rank_promotion", "raise")
shape_checks.install()
whole_programs.install()
# Tracing makes many objects of which few form cycles: the collector takes a tenth of the time as it is.
gc.freeze()
gc.set_threshold(100_000, 50, 50)


made = 0  # programs since the last were forgotten


@jax.monitoring.register_event_duration_secs_listener
def _count(event, seconds, **_):
    global made
    made += event == "/jax/core/compile/backend_compile_duration"


def pytest_runtest_teardown(item, nextitem):
    """Forgets compiled programs between files: with thousands of them in memory, all that follows takes longer."""
    global made
    if made > 500 and (nextitem is None or nextitem.path != item.path):
        jax.clear_caches()
        gc.collect()
        made = 0


MESHES = [pytest.param((8, 1), marks=pytest.mark.slow), (4, 2), pytest.param((2, 4), marks=pytest.mark.slow), (1, 8)]


@pytest.fixture(params=MESHES, ids=lambda shape: "x".join(map(str, shape)))
def mesh(request):
    """Each way to lay eight devices out over ('data', 'class'), installed as the ambient mesh."""
    mesh = jax.make_mesh(request.param, ("data", "class"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    with jax.set_mesh(mesh):
        yield mesh
