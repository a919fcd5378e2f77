#!/usr/bin/env bash
# Trains on all hosts of a Cloud TPU VM slice; also copies the repository there and installs it the first time.
#
#   TPU=my-tpu ZONE=us-central2-b launch/tpu_vm.sh --config=configs/imagenet_mhp.py --workdir=/mnt/shared/runs/imagenet
#
# All arguments go to main.py. Edit, here or in the environment: TPU, ZONE, PYTHON (the name of Python 3.11 or later over
# there, which an image of Ubuntu 22.04 has to be given), and CACHE, which all hosts and later slices can share if it is in
# a bucket (gs://...). Needs gcloud, logged in. --workdir must be a folder that all hosts have mounted.
# A slice that was preempted is created again, and the same command continues the run.
set -euo pipefail
cd "$(dirname "$0")/.."
TPU=${TPU:?the name of the TPU VM}
ZONE=${ZONE:?its zone}
PYTHON=${PYTHON:-python3}
CACHE=${CACHE:-/tmp/mhe_jax_compiled}

everywhere() {
  gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$1"
}

# The tracked files, without data and runs.
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT
git archive --format=tar.gz --output="$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$TPU:mhe_jax.tar.gz" --zone="$ZONE" --worker=all
everywhere "mkdir -p mhe_jax && tar -xzf mhe_jax.tar.gz -C mhe_jax && cd mhe_jax \
  && { [ -x .venv/bin/pip ] || $(printf %q "$PYTHON") -m venv --clear .venv; } && .venv/bin/pip install --quiet --editable '.[tpu]'"

# Each argument is quoted for the shell over there.
arguments=$(printf ' %q' "$@")
everywhere "cd mhe_jax && JAX_COMPILATION_CACHE_DIR=$(printf %q "$CACHE") \
  .venv/bin/python main.py --distributed=auto$arguments"
