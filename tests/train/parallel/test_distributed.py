"""How the processes of a run find each other, where a scheduler's environment is there in part."""

import pytest
from jax._src import xla_bridge

from mhe_jax.train.parallel import distributed

SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "node1",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:5", "OMPI_COMM_WORLD_SIZE": "2"}


@pytest.fixture(autouse=True)
def unused_devices(monkeypatch):
    """Earlier tests of this process have used devices, after which JAX joins no run."""
    monkeypatch.setattr(xla_bridge, "backends_are_initialized", lambda: False)


def detect():
    distributed.initialize(None, None, None, True, heartbeat_seconds=10, peer_seconds=60)


@pytest.mark.parametrize("missing", list(SLURM)[1:])
def test_a_part_of_slurms_environment_names_the_rest(monkeypatch, missing):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(missing)
    with pytest.raises(ValueError, match=f"SLURM_JOB_ID is set, but {missing} is not: start each process with srun"):
        detect()


def test_a_part_of_open_mpis_environment_names_the_rest(monkeypatch):
    for name, value in OPEN_MPI.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"but OMPI_COMM_WORLD_RANK, OMPI_COMM_WORLD_LOCAL_RANK is not: .*mpirun"):
        detect()
