"""``mlflow server`` as supervisord runs it: with its secrets in its environment, and as one process.

python -m tune_bn.service.mlflow_server STATE
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

from tune_bn.observers.mlflow.compat import HOSTS_VARIABLE, PASSPHRASE_VARIABLE, SERVER, STORE_VARIABLE, serve
from tune_bn.observers.mlflow.uri import for_mlflow, sqlite_uri
from tune_bn.service.head import ADMINISTRATOR, Head
from tune_bn.service.secret_files import read_or_make, write_private

_AUTHENTICATION = """\
[mlflow]
default_permission = READ
database_uri = {uri}
admin_username = {administrator}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
"""


def main() -> None:
    """Wait for the database, and become the server."""
    head = Head(Path(sys.argv[1]))
    settings = head.settings()
    if settings.store is None:
        head.postgres.wait()
        store = head.postgres.uri()
    else:
        store = for_mlflow(settings.store)
    # Users and permissions in the same database; SQLite takes one writer at a time, so there it is another file.
    users = sqlite_uri(head.folder / "users.db") if store.startswith("sqlite") else store
    configuration = head.secrets / "basic_auth.ini"
    text = _AUTHENTICATION.format(uri=users.replace("%", "%%"), administrator=ADMINISTRATOR)
    write_private(configuration, text)
    os.environ.update(
        MLFLOW_AUTH_CONFIG_PATH=str(configuration),
        MLFLOW_AUTH_ADMIN_PASSWORD=read_or_make(head.password_file),
        MLFLOW_FLASK_SERVER_SECRET_KEY=read_or_make(head.secrets / "flask_secret_key"),
        **{
            PASSPHRASE_VARIABLE: read_or_make(head.secrets / "mlflow_passphrase"),
            STORE_VARIABLE: store,
            HOSTS_VARIABLE: ",".join(head.allowed_hosts(settings)),
        },
        **SERVER,
    )
    arguments = ["server", "--app-name", "basic-auth", "--host", settings.host, "--port", str(settings.port)]
    # One process: only there is a changed password forgotten at once.
    arguments += ["--artifacts-destination", settings.artifacts, "--workers", "1"]
    serve(arguments, _become)


def _become(command: list[str], *, extra_env: dict[str, str], **_: object) -> NoReturn:
    """What MLflow would start as a child: that would outlive a parent that is killed, and keep its port."""
    os.execvpe(command[0], command, {**os.environ, **extra_env})


if __name__ == "__main__":
    main()
