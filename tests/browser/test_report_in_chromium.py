# SPDX-License-Identifier: Apache-2.0
"""Reports in a real browser: no error, no missing chart, nothing cut off on a phone or in print."""

import shutil

import pytest
from e2train.energy import load_costs
from e2train.train import PRESETS, read_run, run_training, write_reports

pytestmark = pytest.mark.browser

CONFIG = PRESETS["digits"].changed(
    steps=24, batch=16, seed=3, skip=0.6, gate_weight=100.0, test_images=20, board="pynq_z2"
)
# Offline, and quiet about it.
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folders = []
    for method, device in (("smb-fp32", "emulator"), ("e2train", "emulator"), ("e2train", "csim")):
        folders.append(tmp_path_factory.mktemp(method))
        run_training(CONFIG.changed(method=method, device=device), out=folders[-1])
    return write_reports([read_run(folder) for folder in folders], load_costs(), tmp_path_factory.mktemp("r"))


@pytest.fixture(scope="module")
def chromium():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on PATH: apt install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_page_loads_whole_and_fits(chromium, report, width):
    page = chromium.new_page(viewport={"width": width, "height": 800})
    troubles = []
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("requestfailed", lambda request: troubles.append(request.url))
    requested = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(report.as_uri())
    assert troubles == []
    assert [url for url in requested if not url.startswith("data:")] == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # wide parts scroll by themselves
    boxes = page.evaluate(
        "[...document.querySelectorAll('figure svg')].map(s => [s.getBoundingClientRect().width,"
        " s.getBoundingClientRect().height, s.querySelectorAll('path').length])"
    )
    assert len(boxes) >= 8
    assert all(wide > 300 and high > 50 and paths > 5 for wide, high, paths in boxes)
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth)")
    for details in page.query_selector_all("details > summary"):
        details.click()
    assert page.inner_text("body").count("weights_sha256") == 3
    page.close()


def test_it_prints(chromium, report):
    page = chromium.new_page()
    page.goto(report.as_uri())
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    assert 2 <= pdf.count(b"/Type /Page\n") <= 12
    page.close()
