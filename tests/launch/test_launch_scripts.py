"""The scripts in `launch/`: nothing for shellcheck or hadolint, arguments reach main.py, the manifest has its shape."""

import os
import pathlib
import re
import shutil
import stat
import subprocess
import sys

import pytest
import setuptools
import yaml

from launch.local import free_port

LAUNCH = pathlib.Path(__file__).parent.parent.parent / "launch"
SHELL = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
CONTAINERS = ["Containerfile", "Containerfile.serve"]
SCRIPTS = [*SHELL, LAUNCH / "k8s-jobset.yaml", *(LAUNCH / name for name in CONTAINERS)]
HARD = ["--config=configs/a.py:5x20,smoke", "--config.data.path=/data/with space", "--workdir=/shared/runs/$HOME"]


def test_all_are_here():
    assert {path.name for path in SCRIPTS} == {
        "mpirun.sh",
        "slurm.sbatch",
        "tpu_vm.sh",
        "k8s-jobset.yaml",
        "Containerfile",
        "Containerfile.serve",
    }


def found_by(tool, *arguments):
    """What a tool of the test extra prints of a file in which it finds something; empty where it finds nothing."""
    program = shutil.which(tool, path=f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert program, f"{tool} is missing: pip install '.[test]'"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path):
    assert found_by("shellcheck", "--shell=bash", path) == ""


@pytest.mark.parametrize("name", CONTAINERS)
def test_hadolint_finds_nothing(name, tmp_path):
    assert found_by("hadolint", LAUNCH / name) == ""
    (tmp_path / name).write_text("FROM python\nRUN cd /tmp && pip install jax\n")
    assert "DL3006" in found_by("hadolint", tmp_path / name)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_header_says_what_to_edit_and_compiled_programs_are_kept(path):
    text = path.read_text()
    header = text[: text.index("\n\n")] if path.suffix != ".yaml" else text[: text.index("apiVersion")]
    assert re.search(r"\bEdit\b", header)
    assert "main.py" in header
    assert "JAX_COMPILATION_CACHE_DIR" in text


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_every_flag_of_nccl_and_xla_has_a_comment_above(path):
    lines = path.read_text().splitlines()
    for i, line in enumerate(lines):
        if re.search(r"^\s*(export |ENV |- name: )(NCCL|XLA)_", line):
            assert lines[i - 1].lstrip().startswith("#"), line


@pytest.fixture
def tools(tmp_path):
    """A folder of commands that write down how they were called, and the folder that stands for a checkout's .venv."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "venv" / "bin").mkdir(parents=True)

    def fake(path, code):
        path.write_text(f"#!/usr/bin/env bash\n{code}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    write = f'printf "%s\\n" "$@" > {tmp_path}/$(basename "$0").txt'
    cores = f'echo "$SRUN_CPUS_PER_TASK" > {tmp_path}/cores.txt; echo "$CUDA_VISIBLE_DEVICES" > {tmp_path}/gpus.txt'
    fake(tmp_path / "venv" / "bin" / "python", f'{write}; {cores}; exit "${{STATUS:-0}}"')
    # What starts the program takes its own options off, and runs the rest here, once.
    run = 'while [[ "$1" != */python ]]; do shift; done; exec "$@"'
    fake(tmp_path / "bin" / "srun", f"{write}\n{run}")
    one = 'while [ "$1" != bash ]; do shift; done; export OMPI_COMM_WORLD_{LOCAL_RANK,RANK}=0 OMPI_COMM_WORLD_SIZE=1'
    fake(tmp_path / "bin" / "mpirun", f'{write}\n{one}\nexec "$@"')
    fake(tmp_path / "bin" / "scontrol", write)
    far = 'command="${@: -1}"; case "$command" in *main.py*) cd "$FAR" && bash -c "${command#--command=}" ;; esac'
    fake(tmp_path / "bin" / "gcloud", f"{write}\n{far}")
    return tmp_path


def run(script, tools, *arguments, **environment):
    variables = {
        "PATH": f"{tools / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tools),
        "VENV": str(tools / "venv"),
        **environment,
    }
    return subprocess.run(
        ["bash", LAUNCH / script, *arguments], env=variables, cwd=tools, capture_output=True, text=True, check=False
    )


def called(tools, name):
    return (tools / f"{name}.txt").read_text().splitlines()


def test_arguments_reach_main_as_they_were_given(tools):
    done = run("slurm.sbatch", tools, *HARD, SLURM_SUBMIT_DIR=str(tools), SLURM_JOB_ID="7", SLURM_CPUS_PER_TASK="8")
    assert done.returncode == 0, done.stderr
    assert called(tools, "python") == ["main.py", "--distributed=auto", *HARD]
    assert called(tools, "cores") == ["8"]


def test_mpirun_gives_each_process_its_number_and_the_first_host(tools):
    done = run("mpirun.sh", tools, *HARD, HOSTS="node1:1,node2:1", PORT="7000")
    assert done.returncode == 0, done.stderr
    where = ["--coordinator=node1:7000", "--num_processes=1", "--process_id=0"]
    assert called(tools, "python") == ["main.py", *where, *HARD]
    assert called(tools, "gpus") == ["0"]
    run("mpirun.sh", tools, *HARD, CUDA_VISIBLE_DEVICES="4,6")
    assert called(tools, "gpus") == ["4"]


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="needs Open MPI")
def test_open_mpi_trains_saves_at_sigterm_and_returns_the_code(tmp_path):
    long = {"total_steps": 1_000_000, "eval_every_steps": 1_000_000, "checkpoint_every_steps": 1_000_000}
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    here = {"HOSTS": "localhost:2", "PORT": str(free_port()), "VENV": sys.prefix, "JAX_PLATFORMS": "cpu"}
    script = subprocess.Popen(
        ["bash", LAUNCH / "mpirun.sh", "--config=tests/tiny_config.py", f"--workdir={tmp_path / 'run'}"]
        + [f"--config.{name}={value}" for name, value in long.items()],
        env={**os.environ, **root, **here, "PYTHONPATH": str(LAUNCH.parent), "CACHE": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in script.stdout:
        if "step      3" in line:
            break
    script.terminate()
    rest = script.communicate(timeout=120)[0]
    assert script.returncode == 75, rest[-3000:]
    assert '"interrupted": true' in rest
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1


def test_tpu_vm_quotes_arguments_for_the_other_side(tools):
    far = tools / "far"
    (far / "mhe_jax").mkdir(parents=True)
    (far / "mhe_jax" / ".venv").symlink_to(tools / "venv")
    done = run("tpu_vm.sh", tools, *HARD, TPU="pod", ZONE="zone", FAR=str(far))
    assert done.returncode == 0, done.stderr
    assert called(tools, "python") == ["main.py", "--distributed=auto", *HARD]
    assert "--worker=all" in called(tools, "gcloud")


@pytest.mark.parametrize(("status", "requeued"), [(75, True), (1, False)])
def test_slurm_requeues_what_was_interrupted_and_nothing_else(status, requeued, tools):
    done = run("slurm.sbatch", tools, *HARD, SLURM_SUBMIT_DIR=str(tools), SLURM_JOB_ID="7", STATUS=str(status))
    assert done.returncode == status
    assert (tools / "scontrol.txt").exists() == requeued
    assert called(tools, "srun")[-len(HARD) - 2 :] == ["main.py", "--distributed=auto", *HARD]
    if requeued:
        assert called(tools, "scontrol") == ["requeue", "7"]


def test_slurm_wants_a_workdir_that_a_requeued_job_finds_again(tools):
    done = run("slurm.sbatch", tools, HARD[0], SLURM_SUBMIT_DIR=str(tools), SLURM_JOB_ID="7")
    assert done.returncode == 2
    assert "give --workdir" in done.stderr


def test_mpirun_starts_a_process_for_each_slot(tools):
    run("mpirun.sh", tools, *HARD, HOSTS="a:3,b,c:2")
    arguments = called(tools, "mpirun")
    assert arguments[arguments.index("-np") + 1] == "6"
    assert arguments[arguments.index("--host") + 1] == "a:3,b,c:2"


def test_the_jobset_has_the_shape_of_its_api():
    documents = {
        document["kind"]: document for document in yaml.safe_load_all((LAUNCH / "k8s-jobset.yaml").read_text())
    }
    assert set(documents) == {"ServiceAccount", "Role", "RoleBinding", "JobSet"}
    jobset = documents["JobSet"]
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert set(jobset) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(jobset["spec"]) == {"network", "failurePolicy", "replicatedJobs"}
    (replicated,) = jobset["spec"]["replicatedJobs"]
    assert set(replicated) == {"name", "replicas", "template"}
    job = replicated["template"]["spec"]
    # One pod for each host, numbered; all of them or none.
    assert job["completionMode"] == "Indexed"
    assert job["parallelism"] == job["completions"] > 1
    assert job["backoffLimit"] == 0
    assert [rule["onExitCodes"]["values"] for rule in job["podFailurePolicy"]["rules"]] == [[2]]
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy demands it
    assert pod["serviceAccountName"] == documents["ServiceAccount"]["metadata"]["name"]
    (container,) = pod["containers"]
    assert set(container) == {"name", "image", "args", "env", "resources", "volumeMounts"}
    assert container["args"][0] == "--distributed=auto"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert all(set(entry) == {"name", "value"} and isinstance(entry["value"], str) for entry in container["env"])


def test_the_pods_may_list_what_jax_looks_for():
    role, binding = list(yaml.safe_load_all((LAUNCH / "k8s-jobset.yaml").read_text()))[1:3]
    allowed = {
        (group, resource) for rule in role["rules"] for group in rule["apiGroups"] for resource in rule["resources"]
    }
    assert allowed == {("", "pods"), ("batch", "jobs")}
    assert binding["roleRef"]["name"] == role["metadata"]["name"]


@pytest.mark.parametrize(
    ("name", "program", "entry"),
    [
        ("Containerfile", {"main.py"}, 'ENTRYPOINT ["python", "main.py"]'),
        ("Containerfile.serve", set(), 'ENTRYPOINT ["mhe", "serve", "--host=0.0.0.0", "--port=8000"]'),
    ],
)
def test_the_container_copies_what_the_program_needs(name, program, entry):
    text = (LAUNCH / name).read_text()
    copied = {name for line in re.findall(r"^COPY (.*) \S+$", text, re.MULTILINE) for name in line.split()}
    installed = {"LICENSE", "README.md", "pyproject.toml", "setup.cfg", "launch/requirements-py312.txt"}
    assert copied == installed | program | {"mhe_jax", "mhe_jax/version.py", "configs"}
    assert all((LAUNCH.parent / name).exists() for name in copied)
    assert entry in text  # not through a shell, which would keep SIGTERM to itself


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_is_copied_first_can_be_installed(name, tmp_path):
    """What pip asks first, where there is no other mhe_jax to be imported."""
    first, _, rest = (LAUNCH / name).read_text().partition("\nRUN ")
    for sources, target in re.findall(r"^COPY (.*) (\S+)$", first, re.MULTILINE):
        (tmp_path / "image" / target).mkdir(parents=True, exist_ok=True)
        for source in sources.split():
            shutil.copy(LAUNCH.parent / source, tmp_path / "image" / target)
    subprocess.run(["sh", "-c", rest.partition(" && ")[0]], cwd=tmp_path / "image", check=True)
    (tmp_path / "installed").mkdir()
    for found in pathlib.Path(setuptools.__file__).parents[1].iterdir():
        if found.name.startswith(("setuptools", "_distutils_hack")):
            (tmp_path / "installed" / found.name).symlink_to(found)
    code = "import setuptools.build_meta as build; print(build.prepare_metadata_for_build_editable('..'))"
    # Without site-packages, in which the package itself may be.
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=tmp_path / "image",
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_server_runs_as_nobody_in_particular_and_is_asked_whether_it_is_ready():
    lines = (LAUNCH / "Containerfile.serve").read_text().splitlines()
    assert lines.index("USER 10001") < next(i for i, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    assert any("/readyz" in line for line in lines)
