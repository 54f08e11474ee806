"""Knocks at every door of a head, and prints what answered as JSON: run by head_services.sh."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

MLFLOW, DASHBOARD = ("127.0.0.1", 5000), ("127.0.0.1", 8265)
INTRUDED, LET_IN = Path("/run/intruded"), Path("/run/let_in")
JOB = json.dumps({"entrypoint": f"touch {INTRUDED}"})


def ask(server: tuple[str, int], method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
    """Status and beginning of the answer to one request."""
    connection = http.client.HTTPConnection(*server, timeout=30)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(
            method, path, body=body, headers=names | ({"Content-Type": "application/json"} if body else {})
        )
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")[:200]
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def mlflow_routes() -> list[tuple[str, str]]:
    """Every method and path of the application that the server runs, with something for their parameters."""
    folder = Path(tempfile.mkdtemp())
    configuration = folder / "auth.ini"
    configuration.write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\nadmin_password = not-the-servers-own\n"
        f"database_uri = sqlite:///{folder}/users.db\n"
    )
    os.environ.update(
        MLFLOW_AUTH_CONFIG_PATH=str(configuration),
        MLFLOW_FLASK_SERVER_SECRET_KEY="for this process",
        _MLFLOW_SERVER_FILE_STORE=f"sqlite:///{folder}/mlflow.db",
        _MLFLOW_SERVER_SERVE_ARTIFACTS="true",
        _MLFLOW_SGI_NAME="uvicorn",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )
    from mlflow.server import app as flask
    from mlflow.server.auth import create_app

    fast = create_app()
    found = {(method, rule.rule) for rule in flask.url_map.iter_rules() for method in rule.methods or ()}
    found |= {(method.upper(), path) for path, item in fast.openapi()["paths"].items() for method in item}
    found |= {("GET", path) for path in ("/docs", "/redoc", "/openapi.json", "/metrics", "/anything")}
    filled = {(method, re.sub(r"<[^>]*>|\{[^}]*\}", "1", path)) for method, path in found}
    return sorted((method, path) for method, path in filled if method != "OPTIONS")


def mlflow_doors() -> dict[str, Any]:
    state = next(Path("/run/home").glob("**/mlflow_admin_password"))
    right = basic("admin", state.read_text().strip())
    routes = mlflow_routes()
    without = [(method, path, *ask(MLFLOW, method, path, "{}" if method != "GET" else None)) for method, path in routes]
    wrong = [
        (method, path, *ask(MLFLOW, method, path, Authorization=basic("admin", "guess")))
        for method, path in routes[:: max(1, len(routes) // 20)]
    ]
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    create = "/api/2.0/mlflow/experiments/create"
    named = {
        "right": ask(MLFLOW, "GET", search, Authorization=right),
        "right, allowed name": ask(MLFLOW, "GET", search, Authorization=right, Host="mlflow.example"),
        "right, name through a tunnel": ask(MLFLOW, "GET", search, Authorization=right, Host="localhost:8123"),
        "right, foreign name": ask(MLFLOW, "GET", search, Authorization=right, Host="evil.example"),
        "right, private address": ask(MLFLOW, "GET", search, Authorization=right, Host="10.1.2.3:5000"),
        "right, foreign page": ask(
            MLFLOW, "POST", create, '{"name": "evil"}', Authorization=right, Origin="http://evil.example"
        ),
        "somebody signs up": ask(
            MLFLOW, "POST", "/api/2.0/mlflow/users/create", '{"username": "eve", "password": "123456789012"}'
        ),
        "a reader is added": ask(
            MLFLOW,
            "POST",
            "/api/2.0/mlflow/users/create",
            '{"username": "reader", "password": "123456789012"}',
            Authorization=right,
        ),
        "an experiment is made": ask(MLFLOW, "POST", create, '{"name": "digits"}', Authorization=right),
    }
    identifier = json.loads(named["an experiment is made"][1])["experiment_id"]
    reader = basic("reader", "123456789012")
    named["a reader reads"] = ask(
        MLFLOW, "GET", f"/api/2.0/mlflow/experiments/get?experiment_id={identifier}", Authorization=reader
    )
    run = json.dumps({"experiment_id": identifier})
    named["a reader writes"] = ask(MLFLOW, "POST", "/api/2.0/mlflow/runs/create", run, Authorization=reader)
    named["a reader adds users"] = ask(
        MLFLOW,
        "POST",
        "/api/2.0/mlflow/users/create",
        '{"username": "x", "password": "123456789012"}',
        Authorization=reader,
    )
    return {"without": without, "wrong": wrong, "named": named}


def ray_doors() -> dict[str, Any]:
    token = Path("/run/home/.ray/auth_token").read_text().strip()
    node = os.environ["NODE"]
    requests = [("GET", "/", None), ("GET", "/api/version", None), ("GET", "/nodes?view=summary", None)]
    requests += [("GET", "/api/jobs/", None), ("POST", "/api/jobs/", JOB), ("GET", "/api/cluster_status", None)]
    requests += [("GET", "/api/v0/actors", None), ("GET", "/logs", None), ("POST", "/api/packages/gcs/x.zip", "x")]
    http_doors = {
        name: [(method, path, *ask(DASHBOARD, method, path, body, **headers)) for method, path, body in requests]
        for name, headers in {"without": {}, "wrong": {"Authorization": "Bearer " + "0" * 64}}.items()
    }
    right = ask(DASHBOARD, "GET", "/api/jobs/", Authorization=f"Bearer {token}")
    agent = {
        f"{method} {path}": ask((node, 52365), method, path, body)
        for method, path, body in [("GET", "/api/job_agent/jobs/x/logs", None), ("POST", "/api/job_agent/jobs/", JOB)]
    }
    numbers = re.findall(r" 0\.0\.0\.0:(\d+) ", Path("/run/listening").read_text())
    metrics = {number: ask((node, int(number)), "GET", "/metrics") for number in numbers}
    code = (
        "import sys, ray, ray.util\n"
        "address, trace = sys.argv[1:]\n"
        "if '//' in address: ray.util.connect(address.partition('//')[2], connection_retries=1)\n"
        "else: ray.init(address=address, log_to_driver=False)\n"
        "ray.get(ray.remote(num_cpus=0)(lambda: open(trace, 'w').close()).remote(), timeout=60)\n"
    )
    modes = {
        "disabled": {"RAY_AUTH_MODE": "disabled"},
        "wrong": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
        "right": {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token},
    }

    def knock(mode: str, address: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["timeout", "100", sys.executable, "-c", code, address, str(LET_IN if mode == "right" else INTRUDED)],
            env={**os.environ, "HOME": "/run/tmp", **modes[mode]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    pairs = [(mode, address) for mode in modes for address in (f"{node}:6379", f"ray://{node}:10001")]
    tries = {pair: knock(*pair) for pair in pairs}
    drivers = {}
    for (mode, address), process in tries.items():
        said, _ = process.communicate()
        if mode == "right" and process.returncode:
            # Six drivers at once may be too many for a small machine, which gives its client server half a minute.
            process = knock(mode, address)
            said, _ = process.communicate()
        name = f"{mode} {address.partition(':')[0] if 'ray:' in address else 'gcs'}"
        drivers[name] = (process.returncode, said[-600:])
    return {"http": http_doors, "right": right, "agent": agent, "metrics": metrics, "drivers": drivers}


def main() -> None:
    doors = {"mlflow": mlflow_doors(), "ray": ray_doors()}
    print(json.dumps({**doors, "intruded": INTRUDED.exists()}))


if __name__ == "__main__":
    main()
