#!/usr/bin/env bash
# A study on a head and a worker host, both behind ssh, and what may become of them.
#
# REPOSITORY   the checkout
# CLUSTER      cluster/onprem.yaml with these hosts filled in
# SPACE        the space file
# COUNTING     the folder of the module of the network that counts its steps
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"
source "$here/hosts.sh"

mkdir /run/counting /run/state
echo "${PACE:-0.1}" > /run/counting/pace
cat >> /run/home/.bashrc <<EOF
export TUNE_BN_TEST_COUNTING_FOLDER=/run/counting PYTHONPATH=$COUNTING OMP_NUM_THREADS=1 RAY_AUTH_MODE=token
export TUNE_BN_HEAD_STATE=/run/state/head
EOF
begin_hosts
host_up head 10.77.0.1
host_up worker 10.77.0.2
cp "$SPACE" /run/hosts/head/home/fleet.yaml

study=/run/hosts/head/home/studies/fleet
head() { on 10.77.0.1 "$*"; }
note() { echo "== $*, after $SECONDS s" >> /run/logs/story; }
look() { note "$1"; head tune_bn status >> /run/logs/story 2>&1; }
records() { cat "$study/records.jsonl" 2> /dev/null | wc -l; }
await() { timeout "$1" bash -c "until $2; do sleep 0.2; done" || { note "waited in vain: $2"; return 1; }; }
await_records() { await 200 "test \"\$(cat $study/records.jsonl 2> /dev/null | wc -l)\" -ge $1"; }

trap 'rm -rf /tmp/ray_ssh_*/'"$(printf %s "$NAME" | sha256sum | cut -c1-10)" EXIT
ray up --yes "$CLUSTER" > /run/logs/up 2>&1 < /dev/null
look 'the head is up'

# The connection is lost in the middle of the search.
ray submit "$CLUSTER" "$REPOSITORY/cluster/search.py" -- --space fleet.yaml --study fleet > /run/logs/search 2>&1 < /dev/null &
submit=$!
await_records 1
kill "$(pgrep --parent "$submit" --exact ssh)"
wait "$submit" || true
look 'the connection is lost'

# The worker's network is gone for a while.
before=$(records)
host_cut worker
sleep 6
host_join worker
await_records $((before + 1))
look 'the network was gone and is back'

# The driver is killed; the head's watch submits the study again.
head 'kill -KILL $(pgrep -f "[t]une_bn search --space")'
look 'the driver is killed'
before=$(records)
await_records $((before + 1))
look 'another driver goes on'

# The head loses its power in the middle of a run, and comes back with its disk.
steps=$(stat -c %s /run/counting/steps)
await 60 "test \$(stat -c %s /run/counting/steps) -ge $((steps + 10))"
host_down head
note 'the head is gone'
host_up head 10.77.0.1
ray up --yes "$CLUSTER" > /run/logs/up-again 2>&1 < /dev/null
look 'the head is back'
await 240 "test -s $study/verdict.json"
await 60 "ssh -q $(ssh_options) 10.77.0.1 'source ~/.bashrc; tune_bn status' | grep -q finished"
look 'finished'
head tune_bn logs fleet >> /run/logs/story 2>&1
head tune_bn status --json > /run/status.json
head "python -c 'from mlflow import MlflowClient as C
import json
c = C(\"http://127.0.0.1:5000\")
e = [x.experiment_id for x in c.search_experiments()]
print(json.dumps([[r.info.run_name, r.info.status, r.data.tags.get(\"mlflow.parentRunId\")] for r in c.search_runs(e, max_results=1000)]))'" \
  > /run/mlflow.json
stat -c '%a %n' /run/hosts/*/home/.ray/auth_token > /run/tokens

ray down --yes "$CLUSTER" > /run/logs/down 2>&1 < /dev/null
await_gone 'raylet|gcs_server'
head 'ps -eo comm=' > /run/processes
