#!/usr/bin/env bash
# Two searches on one machine, as on a laptop, which has an address of a network besides: each has a Ray of its own, and both
# write to one mlflow.db, which is not there yet.
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"

for study in one two; do
  TUNE_BN_CORES=1 tune_bn search --space digits.yaml --study $study --trials 2 --set train.epochs=3 --set budget.at_chance=go_on \
    --set budget.finalists=1 --set seeds.select=[201] --set 'seeds.confirm=[1, 2]' > /run/logs/$study 2>&1 &
done
timeout 200 bash -c 'until test -s studies/one/records.jsonl && test -s studies/two/records.jsonl; do sleep 0.1; done'
listening /run/listening
wait %1
wait %2
listening /run/listening.after
