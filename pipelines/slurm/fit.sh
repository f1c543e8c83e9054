#!/bin/bash
# A run, out of the cells that fit-array.sh has finished, and what is missing; or all of it, where there was no array:
#
#     sbatch --dependency=afterok:ID fit.sh svm STORE -o RUN [further options of featx fit]
#
#SBATCH --job-name=fit
#SBATCH --time=04:00:00
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
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
# Where featx isn't on the PATH that the job was submitted with:
# source ~/featx/bin/activate

featx fit "$@" &
featx=$!

# The time limit is near: featx keeps the cells that are finished, and the job goes on from there.
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
