"""The HTML report in a browser: pictures are there, nothing complains or is fetched, and a telephone can show it."""

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from oodles.comparing.comparison import compare
from oodles.data import load_suite
from tests.comparing.synthetic_runs import SIZES, write_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="There is no chromium or chrome to open the report with.")

WIDTH = 400
PROBE = """<!DOCTYPE html>
<body><iframe src="report.html" style="width: WIDTHpx; height: 800px; border: 0"></iframe>
<script>
document.querySelector("iframe").onload = function () {
  const page = this.contentDocument, all = [...page.querySelectorAll("body *")];
  for (const node of page.querySelectorAll("details")) node.open = true;
  const outside = all.filter(node => !node.closest("thead") && node.getBoundingClientRect().width);
  const words = all.filter(node => [...node.childNodes].some(child => child.nodeType == 3 && child.data.trim()));
  const measured = {
    pictures: [...page.images].map(node => [node.alt, node.naturalWidth, node.getBoundingClientRect().width]),
    width: Math.max(page.documentElement.scrollWidth, page.body.scrollWidth),
    beyond: outside.filter(node => !node.closest(".scroll") && node.getBoundingClientRect().right > WIDTH + 0.5)
      .map(node => node.outerHTML.slice(0, 80)),
    smallest: Math.min(...words.map(node => parseFloat(getComputedStyle(node).fontSize))),
  };
  document.body.innerHTML = "<pre></pre>";
  document.querySelector("pre").textContent = JSON.stringify(measured);
};
</script>""".replace("WIDTH", str(WIDTH))


def opened(folder: Path, report: str) -> tuple[dict[str, Any], list[str]]:
    """Open a page 400 pixels wide in a browser; return its measurements, and what the browser complains about."""
    (folder / "report.html").write_text(report, encoding="utf-8")
    (folder / "probe.html").write_text(PROBE, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--allow-file-access-from-files"]
    flags += ["--enable-logging=stderr", "--virtual-time-budget=20000", "--host-resolver-rules=MAP * ~NOTFOUND"]
    done = subprocess.run(
        [str(BROWSER), *flags, f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "probe.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    shown = re.search(r"<pre>(.*?)</pre>", done.stdout, flags=re.DOTALL)
    assert shown, done.stdout + done.stderr
    return json.loads(unescape(shown[1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("runs")
    folders = []
    for data, sets in (("digits", SIZES), ("other", {**SIZES, "far:a-set-with-quite-a-long-name": 40})):
        for method, better in {"cross-entropy": 0.0, "mixup": 0.5, "cutmix": -0.5, "energy-bounded": 0.2}.items():
            for seed in range(3):
                broken = "the loss term 'cross-entropy' was not finite" if (method, seed) == ("cutmix", 2) else ""
                about = {"seed": seed, "better": better, "data": data, "sizes": sets, "diverged": broken}
                folders.append(write_run(folder / f"{data}-{method}-{seed}", method, **about))
    return compare(folders).to_html()


def test_the_report(tmp_path: Path, report: str) -> None:
    measured, complaints = opened(tmp_path, report)
    assert complaints == []
    assert measured["width"] <= WIDTH and measured["beyond"] == []
    # on every set a picture of differences, for every method three pictures, and one of ranks
    assert len(measured["pictures"]) == (2 + 3) + 2 * 4 * 3 + 1
    for alt, width, shown in measured["pictures"]:
        assert width > 0 and 200 < shown <= WIDTH, alt
    assert measured["smallest"] >= 12


def test_long_names_do_not_widen_the_report(tmp_path: Path) -> None:
    long = ["felis_silvestris_catus_domesticus_european_shorthair" * 2, "a class of many words, " * 9, *"2345"]
    suite = load_suite("digits", 0)
    sizes = {"validation": len(suite.validation), "test": len(suite.test), "far:letters": len(suite.far["letters"])}
    sizes |= {"far:" + "a_set_with_a_name_without_any_space" * 3: 30}
    runs = [
        write_run(tmp_path / "a_run_whose_folder_has_a_long_name" / name, name, sizes=sizes, classes=long)
        for name in ("cross-entropy", "mixup")
    ]
    measured, complaints = opened(tmp_path, compare(runs).to_html())
    assert complaints == [] and measured["width"] <= WIDTH and measured["beyond"] == []
    rows = [shown for _, _, shown in measured["pictures"] if shown < 100]
    assert len(rows) == 2 * 3 * 5  # of both methods, accepted, rejected and unknown ones


def test_what_is_wrong_with_a_page_is_noticed(tmp_path: Path, report: str) -> None:
    wrong = """<img src="https://example.org/nowhere.png" alt="gone"><script>document.title = "no"</script>
    <p style="width: 500px; font-size: 9px">wide</p>
    <div class="scroll"><p style="width: 900px">may be wide</p></div>"""
    measured, complaints = opened(tmp_path, report.replace("<h1>", f"{wrong}<h1>"))
    assert len(complaints) == 2 and all("Content Security Policy" in line for line in complaints)
    assert measured["pictures"][0][:2] == ["gone", 0]
    assert measured["width"] > WIDTH and len(measured["beyond"]) == 1 and measured["smallest"] == 9
