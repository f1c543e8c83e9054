#!/bin/bash
# Features of many images, a shard a task:
#
#     sbatch extract-array.sh SOURCE -o STORE [further options of featx extract]
#
#SBATCH --job-name=extract
#SBATCH --array=1-16
#SBATCH --time=04:00:00
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --output=%x-%A_%a.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
##SBATCH --gres=gpu:1
##SBATCH --partition=NAME
##SBATCH --account=NAME
set -euo pipefail

# The last number of --array above. Shards, not tasks: when some tasks are submitted again, there are as many as before.
: "${SHARDS:=16}"
# How often a task whose time ran out is put into the queue again.
: "${RESTARTS:=10}"
# Where featx isn't on the PATH that the job was submitted with:
# source ~/featx/bin/activate

featx extract "$@" --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" &
featx=$!

# The time limit is near: featx ends the batch in hand, and the task goes on from there when it is started again. Only a
# task's number with its array's means this task alone: one of the tasks has the array's number as its own.
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
