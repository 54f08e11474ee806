"""Looks at a study in MLflow's pages as a person with a password does, and prints what it saw as JSON.

python browser.py URI EXPERIMENT PARENT CHILD ARTIFACTS OUTPUT
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

# What a browser would otherwise ask of the world when it starts.
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync"]


def look(page: Page, address: str, text: str, picture: Path) -> str:
    """Open a page, wait until it shows a text, keep a picture, and return all that it shows."""
    page.goto(address)
    page.get_by_text(text).first.wait_for(timeout=60_000)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=picture)
    return page.inner_text("body")


def open_page(browser: Browser, uri: str) -> Page:
    """A window that knows the password, without the side panel that MLflow opens for newcomers."""
    credentials = {"username": "admin", "password": os.environ["MLFLOW_TRACKING_PASSWORD"]}
    context = browser.new_context(http_credentials=credentials, viewport={"width": 1500, "height": 950})
    page = context.new_page()
    page.goto(f"{uri}/health")
    return page


def main() -> None:
    uri, experiment, parent, child, output = sys.argv[1:6]
    folder = Path(output)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=[*QUIET, "--no-sandbox"])
        page = open_page(browser, uri)
        seen = {}
        runs = f"{uri}/#/experiments/{experiment}/runs"
        for name, address, text in [
            ("tree", runs, "confirm-baseline"),
            ("run", f"{runs}/{child}", "test_accuracy"),
            ("curve", f"{runs}/{child}/model-metrics", "val_loss"),
            ("artifact", f"{runs}/{parent}/artifacts/report.html", "report.html"),
        ]:
            try:
                seen[name] = look(page, address, text, folder / f"{name}.png")
            except Exception as error:
                page.screenshot(path=folder / f"{name}.png")
                seen[name] = "ERR " + repr(error)[:300] + page.inner_text("body")[:1500]
        browser.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
