#!/usr/bin/env bash
# ray up, ray submit, ray down over an sshd on loopback.
#
# SCRIPT    what to submit
# NAME      of the cluster
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"

mkdir /run/ssh /run/sshd
ssh-keygen -q -t ed25519 -N '' -f /run/ssh/host_key
ssh-keygen -q -t ed25519 -N '' -f /run/ssh/user_key
cp /run/ssh/user_key.pub /run/ssh/authorized_keys
cat > /run/ssh/sshd_config <<EOF
ListenAddress 127.0.0.1:22
HostKey /run/ssh/host_key
AuthorizedKeysFile /run/ssh/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
PidFile none
EOF
"$(command -v sshd)" -f /run/ssh/sshd_config -E /run/logs/sshd

cluster=/run/cluster.yaml
sed -e "s|{name}|$NAME|; s|{user}|$USER_NAME|; s|{key}|/run/ssh/user_key|" "$here/loopback.yaml" > "$cluster"
# Where Ray keeps the sockets of its ssh connections, whatever TMPDIR says.
sockets=$(printf %s "$NAME" | sha256sum | cut -c1-10)
trap 'rm -rf /tmp/ray_ssh_*/"$sockets"' EXIT

ray up --yes "$cluster" > /run/logs/up 2>&1 < /dev/null

# Two shells read what ray submit passes on, so what has spaces or braces is quoted twice.
ray submit "$cluster" "$SCRIPT" -- --space digits.yaml --study over-ssh --trials 3 --set train.epochs=3 \
  --set budget.finalists=1 --set seeds.select=[201] --set "'seeds.confirm={from: 1, to: 2}'" \
  > /run/logs/search 2>&1 < /dev/null

status=0
ray submit "$cluster" "$SCRIPT" -- --space "'no such space.yaml'" > /run/logs/refused 2>&1 < /dev/null || status=$?
echo "$status" > /run/refused.status

# A connection that is lost in the middle of a search.
ray submit "$cluster" "$SCRIPT" -- --study cut --trials 40 --set train.epochs=20 > /run/logs/cut 2>&1 < /dev/null &
submit=$!
timeout 60 bash -c 'until test -s studies/cut/records.jsonl; do sleep 0.2; done'
kill "$(pgrep --parent "$submit" --exact ssh)"
wait "$submit" || true
timeout 60 bash -c 'while pgrep --full "python [^ ]*/search.py" > /dev/null; do sleep 0.2; done'

ray down --yes "$cluster" > /run/logs/down 2>&1 < /dev/null
ps -eo comm= > /run/processes
