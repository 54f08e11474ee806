"""Looks at a study in MLflow's pages as a person with a password does; keeps pictures, and what the pages say.

python mlflow_browser.py URI STUDY FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mlflow import MlflowClient
from mlflow.utils.credentials import read_mlflow_creds
from playwright.sync_api import Page, sync_playwright

# What a browser would otherwise ask of the world when it starts.
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--no-sandbox"]
# The panel that MLflow opens for newcomers covers a quarter of the page.
WITHOUT_PANEL = """localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');"""


def tree(page: Page, runs: str, study: str) -> str:
    """The list of runs, with the study's row unfolded."""
    page.goto(runs)
    row = page.get_by_role("row").filter(has=page.get_by_text(study, exact=True)).first
    row.get_by_role("button").first.click()
    page.get_by_text("confirm-baseline").first.wait_for()
    return str(page.inner_text("body"))


def curve(page: Page, run: str) -> dict[str, object]:
    """The chart of a metric over the epochs: its text, and how many points its line has."""
    page.goto(f"{run}/model-metrics")
    chart = page.locator(".js-plotly-plot").filter(has_text="Step").first
    chart.locator("path.point").first.wait_for(state="attached")
    return {"text": chart.inner_text(), "points": chart.locator("path.point").count()}


def report(page: Page, run: str) -> str:
    """What the report says in the frame that MLflow gives it."""
    page.goto(f"{run}/artifacts/report.html")
    frame = page.frame_locator("iframe").first
    frame.get_by_text("Provenance").first.wait_for()
    return str(frame.locator("body").inner_text())


def main() -> None:
    uri, study, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    client = MlflowClient(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found = {run.info.run_name: run for run in client.search_runs(experiments, f"tags.study = '{study}'")}
    parent, child = found[study], next(run for name, run in found.items() if name.startswith("confirm-baseline"))
    runs = f"{uri}/#/experiments/{parent.info.experiment_id}/runs"
    login = read_mlflow_creds()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=QUIET)
        seen: dict[str, object] = {}
        context = browser.new_context(
            http_credentials={"username": login.username or "", "password": login.password or ""},
            viewport={"width": 1500, "height": 950},
        )
        context.add_init_script(WITHOUT_PANEL)
        page = context.new_page()
        page.set_default_timeout(60_000)
        looks = {
            "tree": lambda: tree(page, runs, study),
            "curve": lambda: curve(page, f"{runs}/{child.info.run_id}"),
            "report": lambda: report(page, f"{runs}/{parent.info.run_id}"),
        }
        for name, look in looks.items():
            seen[name] = look()
            page.screenshot(path=folder / f"{name}.png")
        browser.close()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
