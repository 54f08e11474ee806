#!/usr/bin/env bash
# cluster/config.yaml from `ray up` to `ray down`: Moto plays Amazon's API, hosts of this machine its instances.
#
# REPOSITORY   the checkout
# CLUSTER      cluster/config.yaml for this place
# SPACE        the space file
# COUNTING     the folder of the module of the network that counts its steps
# NAME         of the cluster
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"
source "$here/hosts.sh"

mkdir -p /run/counting /run/state /run/shared
echo "${PACE:-0.1}" > /run/counting/pace
# The image's user is the one of this test.
echo 'ubuntu:*:0:0::/run/home:/bin/bash' >> /run/passwd
cat >> /run/home/.bashrc <<EOF
export TUNE_BN_TEST_COUNTING_FOLDER=/run/counting PYTHONPATH=$COUNTING OMP_NUM_THREADS=1 RAY_AUTH_MODE=token
export TUNE_BN_HEAD_STATE=/run/state/head AUTOSCALER_UPDATE_INTERVAL_S=1
export AWS_ENDPOINT_URL=http://172.31.255.254:5000 AWS_DEFAULT_REGION=us-west-2
EOF
source /run/home/.bashrc
begin_hosts 172.31.255.254 16
ip addr add 169.254.169.254/32 dev bridge
cp "$SPACE" /run/cloud.yaml

# A person's credentials; the instances get theirs from the metadata service.
export AWS_ACCESS_KEY_ID=a-person AWS_SECRET_ACCESS_KEY=a-secret
amazon() { python "$here/amazon.py" "$@"; }
MOTO_IAM_LOAD_MANAGED_POLICIES=true amazon serve 2> /run/logs/amazon | while read -r what name address; do
  echo "$what $name $address, after $SECONDS s" >> /run/logs/hosts
  # Without the pipe as their input, from which ssh would read.
  case $what in
    up) host_up "$name" "$address" >> /run/logs/hosts 2>&1 < /dev/null ;;
    down) host_down "$name" >> /run/logs/hosts 2>&1 < /dev/null ;;
  esac
done &
note() { echo "== $*, after $SECONDS s" >> /run/logs/story; }
look() { note "$1"; cat /run/amazon/instances >> /run/logs/story; }
await() { timeout "$1" bash -c "until $2; do sleep 0.2; done" || { note "waited in vain: $2"; return 1; }; }
workers() { # workers [LIFECYCLE]: names of those that run
  grep '"type": "gpu_worker"' /run/amazon/instances | grep "\"lifecycle\": \"${1:-}" | grep '"state": "running"' | cut -d'"' -f4
}
records() { cat /run/shared/cloud/records.jsonl 2> /dev/null | wc -l; }
trains() { pgrep -f 'ray::.*Trainable' --ns "$(cat "/run/hosts/$1.pid")" --nslist net > /dev/null; }
export -f workers records trains
await 30 'test -e /run/amazon/instances'

trap 'rm -rf /tmp/ray_ssh_*/"$(printf %s "$NAME" | sha256sum | cut -c1-10)"' EXIT
ray up --yes "$CLUSTER" > /run/logs/up 2>&1 < /dev/null
look 'the head is up'
head=$(ray get-head-ip "$CLUSTER" 2> /dev/null | tail -n 1)
cp /run/cloud.yaml "$(ls -d /run/hosts/*/home)/cloud.yaml"
ray submit "$CLUSTER" "$REPOSITORY/cluster/search.py" -- --space cloud.yaml --study cloud > /run/logs/search 2>&1 < /dev/null &
submit=$!

# Trials wait for workers, and workers come.
await 300 'test "$(records)" -ge 1 && test "$(workers | wc -l)" -ge 2'
look 'two workers, and a run is recorded'
{ read -r first; read -r second; } <<< "$(workers)"

# Amazon takes an instance without notice, and has no other at that price.
touch /run/amazon/no-spot
amazon take "$first"
note "$first was taken"
before=$(records)
await 200 'test -n "$(workers on-demand)"'
rm /run/amazon/no-spot
await 200 "test \"\$(records)\" -ge $((before + 2))"
look 'the study goes on, on a worker at the full price'

# It announces that it will take another one, and does.
echo '{"action": "terminate"}' > "/run/amazon/$(grep "\"$second\"" /run/amazon/instances | cut -d'"' -f8).notice"
note "$second was announced"
await 60 "grep -qs '^drained' /run/hosts/$second/home/preemption.log"
await 60 "! trains $second"
note 'it was drained'
amazon take "$second"

wait "$submit"
look 'the study is finished'
await 60 'test -z "$(workers)"'
look 'idle workers are gone'
on "$head" tune_bn status --json > /run/status.json
ray down --yes "$CLUSTER" > /run/logs/down 2>&1 < /dev/null
look 'the cluster is down'
await 20 "! pgrep -x 'raylet|gcs_server|postgres' > /dev/null"
ps -eo comm= > /run/processes
