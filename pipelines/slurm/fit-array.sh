#!/bin/bash
# The cells of a grid, a share a task; fit.sh makes the run of them:
#
#     sbatch --dependency=afterok:ID fit-array.sh svm STORE -o RUN [further options of featx fit]
#
#SBATCH --job-name=fit-cells
#SBATCH --array=1-4
#SBATCH --time=04:00:00
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --kill-on-invalid-dep=yes
##SBATCH --partition=NAME
##SBATCH --account=NAME
set -euo pipefail

# The last number of --array above. Shards, not tasks: when some tasks are submitted again, there are as many as before.
: "${FIT_SHARDS:=4}"
# How often a task whose time ran out is put into the queue again.
: "${RESTARTS:=10}"
# Where featx isn't on the PATH that the job was submitted with:
# source ~/featx/bin/activate

featx fit "$@" --shard "$SLURM_ARRAY_TASK_ID/$FIT_SHARDS" &
featx=$!

# The time limit is near: featx keeps the cells that are finished, and the task goes on from there. Only
# a task's number with its array's means this task alone: one of the tasks has the array's number as its own.
time_is_over() {
    kill -TERM "$featx" 2>/dev/null || true
    wait "$featx" && exit 0 || code=$?
    if [ "$code" -eq 143 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$RESTARTS" ]; then
        scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    fi
    exit "$code"
}
trap time_is_over USR1
# scancel and preemption tell featx themselves; this script waits for it.
trap 'wait "$featx"; exit' TERM

wait "$featx"
