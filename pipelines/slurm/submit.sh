#!/bin/bash
# From images to a run, as four jobs that wait for each other. Set what is below, here or in the environment:
#
#     SOURCE=/data/photos STORE=/data/photos.h5 SHARDS=32 bash submit.sh
#
set -euo pipefail

: "${SOURCE:=photos}" "${STORE:=photos.h5}" "${RUN:=results/svm}"
# Tasks of the two arrays, and how many of them may run at once (all, if this is empty).
: "${SHARDS:=16}" "${FIT_SHARDS:=4}" "${AT_ONCE:=}"
# Options with spaces between them, '' for none (of images that are divided already); those of featx extract are the same
# in every shard.
: "${EXTRACT_OPTIONS=--split 0.6,0.2,0.2}"
: "${CLASSIFIER:=svm}" "${FIT_OPTIONS=--discretize both}"

here=$(dirname -- "$0")
read -ra extract_options <<<"$EXTRACT_OPTIONS"
read -ra fit_options <<<"$FIT_OPTIONS"
limit=${AT_ONCE:+%$AT_ONCE}
fit=("$CLASSIFIER" "$STORE" -o "$RUN" "${fit_options[@]}")

# submit JOB_TO_WAIT_FOR SBATCH_ARGUMENTS...: prints the number of the new job.
submit() {
    local after=$1
    shift
    sbatch --parsable ${after:+"--dependency=afterok:$after"} "$@"
}

export SHARDS FIT_SHARDS
extract=$(submit "" --array="1-$SHARDS$limit" "$here/extract-array.sh" "$SOURCE" -o "$STORE" "${extract_options[@]}")
merge=$(submit "$extract" "$here/merge.sh" "$STORE")
cells=$(submit "$merge" --array="1-$FIT_SHARDS$limit" "$here/fit-array.sh" "${fit[@]}")
run=$(submit "$cells" "$here/fit.sh" "${fit[@]}")
echo "extract $extract, merge $merge, cells $cells, fit $run"
