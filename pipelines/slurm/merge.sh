#!/bin/bash
# One store of all the shards that extract-array.sh has left:
#
#     sbatch --dependency=afterok:ID merge.sh STORE [further options of featx merge]
#
#SBATCH --job-name=merge
#SBATCH --time=02:00:00
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --kill-on-invalid-dep=yes
##SBATCH --partition=NAME
##SBATCH --account=NAME
set -euo pipefail

# Where featx isn't on the PATH that the job was submitted with:
# source ~/featx/bin/activate

featx merge "$@"
