#!/usr/bin/env bash
# A search on an autoscaling cluster that begins with its head alone. The nodes are raylets of this machine.
#
# SCRIPT    the search script
# CLUSTER   the cluster's configuration
# HEAD      the head's node id in it
here=$(cd "$(dirname "$0")" && pwd)
source "$here/sandbox.sh"

cp "$CLUSTER" ray_bootstrap_config.yaml
RAY_FAKE_CLUSTER=1 RAY_enable_autoscaler_v2=1 AUTOSCALER_UPDATE_INTERVAL_S=1 RAY_NODE_TYPE_NAME=ray.head.default \
  RAY_CLOUD_INSTANCE_ID=$HEAD RAY_OVERRIDE_NODE_ID_FOR_TESTING=$HEAD \
  ray start --head --port=6379 --node-ip-address="$LAN" --num-cpus=0 --num-gpus=0 --dashboard-port=8265 \
  --autoscaling-config=ray_bootstrap_config.yaml > /run/logs/up 2>&1

python "$SCRIPT" --study grown --trials 4 --set train.epochs=3 --set budget.at_chance=go_on --set budget.finalists=1 --set seeds.select=[201] \
  --set seeds.confirm=[1,2] --set resources.gpu=1 > /run/logs/search 2>&1 < /dev/null

python - > /run/nodes.json 2> /run/logs/nodes <<'EOF'
import json
import time

import ray

ray.init(address="auto", log_to_driver=False)
deadline = time.monotonic() + 60
while sum(node["Alive"] for node in ray.nodes()) > 1 and time.monotonic() < deadline:
    time.sleep(0.5)
print(json.dumps({"ever": len(ray.nodes()), "now": sum(node["Alive"] for node in ray.nodes())}))
EOF
