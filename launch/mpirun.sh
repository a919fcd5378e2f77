#!/usr/bin/env bash
# Trains under Open MPI 4, one process for each GPU of each host (JAX does not recognise version 5).
#
#   HOSTS=node1:8,node2:8 launch/mpirun.sh --config=configs/imagenet_mhp.py --workdir=/shared/runs/imagenet
#
# All arguments go to main.py. Edit, here or in the environment: HOSTS, with the number of GPUs after each name; VENV and
# CACHE. The repository, VENV and --workdir must be at the same paths on every host. MPI only starts the processes: JAX's
# own runtime connects them. Exit code 75 means interrupted and saved: run the same command again.
set -euo pipefail
cd "$(dirname "$0")/.."
HOSTS=${HOSTS:-localhost:1}
VENV=${VENV:-$PWD/.venv}
CACHE=${CACHE:-$HOME/.cache/mhe_jax}

# Compiled programs are kept from run to run.
export JAX_COMPILATION_CACHE_DIR=$CACHE/compiled

processes=0
for host in ${HOSTS//,/ }; do
  slots=${host##*:}
  [ "$slots" = "$host" ] && slots=1
  processes=$((processes + slots))
done

# A proxy would catch the processes' calls to their coordinator, and the start would hang.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY

# NCCL then says which network or peer failed, and not just that something did.
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}

# --bind-to none: Open MPI would pin each process to one core, and its readers of pictures with it.
# --tag-output: whose line it is.
# orte_abort_on_non_zero_status: the processes of an interrupted run end one after the other, none of them to be killed.
exec mpirun --host "$HOSTS" -np "$processes" --bind-to none --tag-output \
  --mca orte_abort_on_non_zero_status 0 \
  -x JAX_COMPILATION_CACHE_DIR -x NCCL_DEBUG \
  "$VENV/bin/python" main.py --distributed=auto "$@"
