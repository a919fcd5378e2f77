#!/usr/bin/env bash
# Trains under Open MPI, one process for each GPU of each host.
#
#   HOSTS=node1:8,node2:8 launch/mpirun.sh --config=configs/imagenet_mhp.py --workdir=/shared/runs/imagenet
#
# All arguments go to main.py. Edit, here or in the environment: HOSTS, with the number of GPUs after each name; PORT, free
# on the first of them and open to the others; VENV and CACHE. The repository, VENV and --workdir must be at the same paths
# on every host. MPI only starts the processes: JAX's own runtime connects them, through the first host. Ctrl-C or SIGTERM to
# this script saves first; exit code 75 means interrupted and saved: run the same command again.
set -euo pipefail
cd "$(dirname "$0")/.."
HOSTS=${HOSTS:-localhost:1}
PORT=${PORT:-12355}
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
first=${HOSTS%%,*}

# A proxy would catch the processes' calls to their coordinator, and the start would hang.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY all_proxy ALL_PROXY

# NCCL then says which network or peer failed, and not just that something did.
export NCCL_DEBUG=${NCCL_DEBUG:-WARN}

# What MPI starts: a process with one GPU and the number that MPI gave it. At the first code but 0 mpirun ends all the
# others, and returns it: an interrupted run gets some seconds in which each of its processes comes to its end.
# shellcheck disable=SC2016  # expanded over there
one='IFS=, read -ra gpus <<<"${CUDA_VISIBLE_DEVICES:-}"
export CUDA_VISIBLE_DEVICES=${gpus[$OMPI_COMM_WORLD_LOCAL_RANK]:-$OMPI_COMM_WORLD_LOCAL_RANK}
"$0" main.py --coordinator="$1" --num_processes="$OMPI_COMM_WORLD_SIZE" --process_id="$OMPI_COMM_WORLD_RANK" "${@:2}" &
trap "kill -USR1 $!" USR1
while kill -0 $! 2>/dev/null; do wait $! && status=0 || status=$?; done
[ "$status" -eq 0 ] || sleep 10
exit "$status"'

# --bind-to none: Open MPI would pin each process to one core, and its readers of pictures with it.
# --tag-output: whose line it is.
# odls_base_sigkill_timeout: seconds between SIGTERM and SIGKILL for those that are left after a failure.
# A session of its own: Ctrl-C would reach it directly, and make it kill the processes.
setsid mpirun --host "$HOSTS" -np "$processes" --bind-to none --tag-output \
  --mca odls_base_sigkill_timeout 10 \
  -x JAX_COMPILATION_CACHE_DIR -x NCCL_DEBUG \
  bash -c "$one" "$VENV/bin/python" "${first%%:*}:$PORT" "$@" &
mpirun=$!

# mpirun passes SIGUSR1 on, and waits; at SIGTERM it stops to read what the processes print, and kills them.
trap 'kill -USR1 "$mpirun"' TERM INT
status=0
while kill -0 "$mpirun" 2>/dev/null; do
  wait "$mpirun" && status=0 || status=$?
done
exit "$status"
