#!/usr/bin/env bash
# The services of a head, and everybody who may not enter.
#
# NODE      the address at which other hosts would reach this one
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"
ip addr add "$NODE/32" dev lo

tune_bn head start --port 5000 --allowed-hosts mlflow.example > /run/logs/start 2>&1
tune_bn head start > /run/logs/again 2>&1
find /run/home -path '*/postgres/data/*' -prune -o -printf '%m %u %y %p\n' > /run/modes
status=0
tune_bn head start --port 5001 > /run/logs/other 2>&1 || status=$?
echo "$status" > /run/other.status

RAY_AUTH_MODE=token ray start --head --port=6379 --node-ip-address="$NODE" --num-cpus=1 \
  --object-store-memory=100000000 --dashboard-host=127.0.0.1 > /run/logs/ray 2>&1

cat /proc/*/cmdline 2> /dev/null | tr '\0' '\n' > /run/command_lines
listening /run/listening
python "$here/head_doors.py" > /run/doors.json 2> /run/logs/doors

before=$(cat /run/home/.mlflow/credentials)
tune_bn head password > /run/logs/password 2>&1
test "$before" != "$(cat /run/home/.mlflow/credentials)"
tune_bn head status > /run/logs/status 2>&1

state=$(dirname "$(find /run/home -name supervisord.pid)")
cp -r "$state/logs" /run/service_logs
kill -KILL "$(cat "$state/supervisord.pid")"
timeout 30 bash -c 'while pgrep --full "uvicor[n] .*--port 5000|bin/postgre[s] -D" > /dev/null; do sleep 0.1; done'
tune_bn head status > /run/logs/lost 2>&1 || echo $? > /run/lost.status
