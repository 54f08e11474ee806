#!/bin/sh
# A script without Python: a curve that falls towards a floor, and reports by lines of JSON. Key: rate.
# usage: train.sh RATE SEED STEPS RUN_FOLDER
set -eu
rate=$1 seed=$2 steps=$3 run=$4
step=0 loss=1.0
attempt=$(sed -n 's/.*"attempt": *\([0-9]*\).*/\1/p' "$run/run.json")
while [ "$step" -lt "$steps" ]; do
    loss=$(awk -v loss="$loss" -v rate="$rate" -v seed="$seed" -v step="$step" 'BEGIN {
        srand(seed * 1000 + step); rand()
        printf "%.9f", loss * (1 - rate) + 0.05 * rate * rand() + 0.02 * rate * rate }')
    echo "{\"step\": $step, \"loss\": $loss}" >>"$run/metrics.$attempt.jsonl"
    step=$((step + 1))
    if [ -e "$run/stop" ]; then exit 0; fi
done
# The test score, in the confirmation alone: another noise around the same floor.
if grep -q '"wants_test": true' "$run/run.json"; then
    test=$(awk -v loss="$loss" -v seed="$seed" 'BEGIN { srand(seed + 77); rand(); printf "%.9f", loss + 0.002 * rand() }')
    echo "{\"final\": true, \"test_loss\": $test}" >>"$run/metrics.$attempt.jsonl"
fi
