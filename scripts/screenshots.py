"""Pictures for README and docs, from real runs of `iota localnet`.

    python scripts/screenshots.py [--out docs/img] [--epochs 6]

The terminal view is of a default run. Those of the page are of one with a cheat and a killed miner: starts it, waits
for the moments worth a picture, ends it. Needs Chromium (`scripts/browser.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.browser import Page, browser
from scripts.pictures import smaller

ROOT = Path(__file__).resolve().parents[1]

#: Seconds that a run may take until it is in its last epoch.
RUN_S = 1500.0

#: Seconds that an audit may take to find the cheat.
CAUGHT_S = 120.0

DESKTOP = (1440, 900)
PHONE = (390, 844)

EPOCH = "(document.getElementById('phase-title').textContent.match(/Epoch (\\d+)/) || [0, 0])[1]"


async def terminal(out: Path) -> None:
    """The last view of a default run."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "iota_subnet.cli", "localnet", "--no-ui", "--svg", str(out / "localnet.svg"),
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if await process.wait():
        raise SystemExit("the default run failed")


async def start(folder: Path, epochs: int) -> tuple[asyncio.subprocess.Process, str]:
    """The run, and the address of its page."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "iota_subnet.cli", "localnet", "--no-ui", "--miners", "6", "--stages", "3",
        "--epochs", str(epochs), "--batches", "100", "--adversary", "lazy:1", "--kill", "70:2",
        "--run-dir", str(folder / "run"),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout is not None
    async for line in process.stdout:
        print(line.decode().rstrip(), flush=True)
        found = re.search(r"dashboard: (http://\S+)", line.decode())
        if found:
            return process, found[1]
    raise SystemExit("the run ended before it had a page")


async def drain(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        print(line.decode().rstrip(), flush=True)


async def load(page: Page, url: str) -> None:
    """The page may be asked for before the validator listens."""
    for _ in range(600):
        answer = await page.call("Page.navigate", url=url)
        if "errorText" not in answer:
            with contextlib.suppress(TimeoutError):
                await page.until("document.getElementById('live')?.className.includes('on')", 3)
                return
        await asyncio.sleep(0.5)
    raise SystemExit(f"{url} never answered")


async def shoot(page: Page, out: Path, name: str, size: tuple[int, int], scheme: str, **options: Any) -> None:
    scale = 2.0 if size == PHONE else 1.0
    await page.scheme(scheme)
    await page.size(*size, scale=scale, mobile=size == PHONE)
    await asyncio.sleep(options.get("pause", 1.6))
    path = out / f"{name}.png"
    await page.picture(path)
    smaller(path)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB", flush=True)


async def pictures(url: str, out: Path, epochs: int) -> list[str]:
    async with browser() as page:
        await page.size(*DESKTOP)
        await page.scheme("dark")
        await load(page, url)
        middle = max(2, epochs - 1)
        await page.until(f"{EPOCH} >= {middle}", RUN_S)
        await page.until("document.querySelector('#tiles b').textContent.startsWith('–') === false", RUN_S)
        await asyncio.sleep(6)
        await shoot(page, out, "dashboard-dark", DESKTOP, "dark")
        await shoot(page, out, "dashboard-light", DESKTOP, "light")
        for _ in range(2):
            # What comes below is drawn when it comes into sight, and makes the page longer.
            await page.run("document.querySelector('.board').scrollIntoView(); scrollBy(0, -64)")
            await asyncio.sleep(1)
        await shoot(page, out, "dashboard-miners", DESKTOP, "dark")
        await page.run("scrollTo(0, 0)")
        await shoot(page, out, "dashboard-phone", PHONE, "dark")
        await page.run("document.querySelector('#t-map').scrollIntoView()")
        await page.run("scrollBy(0, -64)")
        await shoot(page, out, "dashboard-phone-swarm", PHONE, "light")
        link = "document.querySelector('.tr[aria-rowindex=\"2\"] a').getAttribute('href')"
        await page.run(f"location.hash = {link}")
        await page.until("document.querySelectorAll('#person .card').length > 3")
        await shoot(page, out, "miner-dark", DESKTOP, "dark")
        await shoot(page, out, "miner-phone", PHONE, "dark")
        over = "iota.known.head.phase === 'done' || [...iota.known.rows.values()].some((row) => row.fault)"
        with contextlib.suppress(TimeoutError):
            await page.until(over, CAUGHT_S)
        hotkey = await page.run("[...iota.known.rows.values()].find((row) => row.fault)?.hotkey")
        print("caught:", hotkey or "nobody", flush=True)
        if hotkey:
            await page.size(*DESKTOP)
            await page.run(f"location.hash = '#/miner/{hotkey}'")
            await page.until(f"document.querySelector('#person h1')?.textContent.includes('{hotkey}')")
            await shoot(page, out, "miner-caught", DESKTOP, "light")
        return page.log


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/img")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--url", help="a page that is there already, instead of a run")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.url:
        print(await pictures(options.url, options.out, 1))
        return
    await terminal(options.out)
    with tempfile.TemporaryDirectory() as folder:
        process, url = await start(Path(folder), options.epochs)
        output = asyncio.create_task(drain(process))
        try:
            log = await pictures(url, options.out, options.epochs)
            print("console:", log or "nothing")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), 60)
            output.cancel()


if __name__ == "__main__":
    asyncio.run(main())
