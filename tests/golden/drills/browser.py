"""Pages as a browser shows them: one headless Chromium looks at many, wide and narrow, light and dark."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_DARK = "@media (prefers-color-scheme: dark)"
_SCRIPT = Path(__file__).with_name("inspect.js").read_text()


@dataclass(frozen=True)
class Looked:
    """What `inspect.js` found in each frame, named `page-width-scheme`, and what the browser complained about."""

    frames: Mapping[str, Mapping[str, Any]]
    complaints: tuple[str, ...]


def look(folder: Path, pages: Mapping[str, str], widths: tuple[int, ...] = (390, 1200)) -> Looked:
    """Show every page at every width in both colour schemes."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    assert browser, "this test needs chromium: apt-get install chromium"
    frames = []
    for name, page in pages.items():
        assert _DARK in page
        for scheme, shown in (
            ("light", page.replace(_DARK, "@media not all")),
            ("dark", page.replace(_DARK, "@media all")),
        ):
            frames += [
                f'<iframe id="{name}-{width}-{scheme}" style="width:{width}px;height:900px;border:0" '
                f'srcdoc="{html.escape(shown, quote=True)}"></iframe>'
                for width in widths
            ]
    outer = folder / "outer.html"
    outer.write_text(f"<!doctype html><meta charset=utf-8><body>{''.join(frames)}<script>{_SCRIPT}</script>")
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
            "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}",
            "--enable-logging=stderr", "--window-size=1300,1000", "--dump-dom", f"file://{outer}",
        ],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    found = re.search(r'<script type="application/json" id="found">(.*?)</script>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return Looked(json.loads(found.group(1)), tuple(line for line in done.stderr.splitlines() if ":CONSOLE" in line))


def flaws(looked: Looked) -> list[str]:
    """Everything that no page may have."""
    found = list(looked.complaints)
    for name, frame in looked.frames.items():
        width = int(name.rsplit("-", 2)[1])
        if not frame["scroll"] == frame["client"] == width:
            found.append(f"{name}: scrolls sideways, {frame['scroll']} in {frame['client']} px")
        found += [f"{name}: too pale: {one}" for one in (*frame["pale"], *frame["shapes"])]
        found += [f"{name}: cut off: {one}" for one in frame["cut"]]
        found += [f"{name}: loaded {one}" for one in frame["loaded"]]
        if frame["unnamed"] or frame["lost"]:
            found.append(f"{name}: {frame['unnamed']} nameless stops of the keyboard, {frame['lost']} dead links")
    return found
