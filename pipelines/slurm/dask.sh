#!/bin/bash
# A featx command that has Dask workers do its work, which are jobs of their own, as workers.yaml describes them:
#
#     sbatch dask.sh extract SOURCE -o STORE [further options]
#     sbatch dask.sh fit svm STORE -o RUN [further options]
#
# This job shares out the work and collects it: it takes little, but as long as the work takes.
#
#SBATCH --job-name=dask
#SBATCH --time=24:00:00
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --kill-on-invalid-dep=yes
##SBATCH --partition=NAME
##SBATCH --account=NAME
set -euo pipefail

# How often a job whose time ran out is put into the queue again.
: "${RESTARTS:=10}"
# What the workers are.
: "${WORKERS:=workers.yaml}"
# Where featx isn't on the PATH that the job was submitted with:
# source ~/featx/bin/activate

featx "$@" --cluster slurm --cluster-settings "$WORKERS" &
featx=$!

# The time limit is near: featx keeps the shards, or cells, that are finished, and the job goes on from there.
time_is_over() {
    kill -TERM "$featx" 2>/dev/null || true
    wait "$featx" && exit 0 || code=$?
    if [ "$code" -eq 143 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$RESTARTS" ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$code"
}
trap time_is_over USR1
# scancel and preemption tell featx themselves; this script waits for it.
trap 'wait "$featx"; exit' TERM

wait "$featx"
