#!/usr/bin/env bash
# ray up, ray submit, ray down over an sshd on loopback.
#
# SCRIPT    what to submit
# CLUSTER   cluster/onprem-loopback.yaml, with the user and the key of this script
# NAME      of the cluster
# EXAMPLE   folder of a script of the user's own, with its space file
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"

mkdir /run/ssh /run/sshd
ssh-keygen -q -t ed25519 -N '' -f /run/ssh/host_key
ssh-keygen -q -t ed25519 -N '' -f /run/ssh/user_key
sshd_settings 127.0.0.1 /run/ssh/host_key /run/ssh/user_key.pub > /run/ssh/sshd_config
"$(command -v sshd)" -f /run/ssh/sshd_config -E /run/logs/sshd

mkdir /run/state
echo 'export TUNE_BN_HEAD_STATE=/run/state/head' >> /run/home/.bashrc
cluster=$CLUSTER
# Where Ray keeps the sockets of its ssh connections, whatever TMPDIR says.
sockets=$(printf %s "$NAME" | sha256sum | cut -c1-10)
trap 'rm -rf /tmp/ray_ssh_*/"$sockets"' EXIT

ray up --yes "$cluster" > /run/logs/up 2>&1 < /dev/null

# While a study runs, its workers listen too.
(
  timeout 200 bash -c 'until test -s /run/home/studies/over-ssh/records.jsonl; do sleep 0.1; done'
  listening /run/listening
) &

# Two shells read what ray submit passes on, so what has spaces or braces is quoted twice.
ray submit "$cluster" "$SCRIPT" -- --space digits.yaml --study over-ssh --trials 3 --set train.epochs=3 --set budget.at_chance=go_on \
  --set budget.finalists=1 --set seeds.select=[201] --set "'seeds.confirm={from: 1, to: 2}'" \
  > /run/logs/search 2>&1 < /dev/null

# A script of one's own goes to the head first, and is checked there.
ray rsync-up "$cluster" "$EXAMPLE/" /run/home/ridge/ > /run/logs/rsync 2>&1 < /dev/null
ray exec "$cluster" 'tune_bn check --space ridge/space.yaml' > /run/logs/check 2>&1 < /dev/null
ray submit "$cluster" "$SCRIPT" -- --space ridge/space.yaml --study own --trials 3 --set budget.finalists=1 \
  --set seeds.select=[201] --set seeds.confirm=[1,2,3] > /run/logs/own 2>&1 < /dev/null

status=0
ray submit "$cluster" "$SCRIPT" -- --space "'no such space.yaml'" > /run/logs/refused 2>&1 < /dev/null || status=$?
echo "$status" > /run/refused.status
status=0

ray exec "$cluster" 'tune_bn status; tune_bn head status; tune_bn ui' > /run/logs/status 2>&1 < /dev/null
ray exec "$cluster" 'tune_bn head ports --host 127.0.0.1 6379 10001' > /run/logs/taken 2>&1 < /dev/null || status=$?
echo "$status" > /run/taken.status
ray exec "$cluster" 'tune_bn head stop' > /run/logs/stop 2>&1 < /dev/null
ray exec "$cluster" 'tune_bn ui' > /run/logs/ui-stopped 2>&1 < /dev/null || true
ray down --yes "$cluster" > /run/logs/down 2>&1 < /dev/null
await_gone 'raylet|gcs_server'
ps -eo comm= > /run/processes
