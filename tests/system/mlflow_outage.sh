#!/usr/bin/env bash
# A study that logs to the services of a head, whose servers die and stay away meanwhile.
#
# REPOSITORY   where tests and benchmarks are
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"
tune_bn head start > /run/logs/start 2>&1
PYTHONPATH="$REPOSITORY" python "$here/mlflow_outage.py" > /run/outage.json 2> /run/logs/outage
python "$here/mlflow_browser.py" http://127.0.0.1:5000 one /run > /run/seen.json 2> /run/logs/browser
tune_bn head stop > /run/logs/stop 2>&1
