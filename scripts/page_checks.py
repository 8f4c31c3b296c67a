"""What a page must be: light, quick, silent, at home, legible, usable by keyboard, and fluid with 1,000 miners.

    python scripts/page_checks.py [--miners 1000] [--seconds 30] [--json]

Serves the real page over a swarm of the simulator, looks at it in headless Chromium, and prints one line per check.
Exit code 1 if one fails. The share of a core is of processor time; paint and frames are of the machine as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.browser import Page, browser
from scripts.pretend import PretendSwarm, serve

MAX_BYTES = 250_000
MAX_PAINT_MS = 1000.0
MIN_CONTRAST = 4.5
MAX_SHARE = 0.05

#: Milliseconds of a frame at 60 Hz.
FRAME_MS = 1000 / 60

CONTROL = (
    "data:text/html,<body><div id=a style='width:9px;height:9px;background:red;position:absolute'></div><script>"
    "let i=0;(function f(){a.style.left=i++%25300+'px';requestAnimationFrame(f)})()</script>"
)

HELPERS = Path(__file__).with_suffix(".js")


class Checks:
    """What was found."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] = []

    def say(self, name: str, good: bool, figure: str) -> None:
        self.found.append({"check": name, "ok": good, "figure": figure})
        print(f"{'ok  ' if good else 'FAIL'} {name}: {figure}", flush=True)


@contextlib.asynccontextmanager
async def served(swarm: PretendSwarm, port: int) -> AsyncIterator[Any]:
    """The page; its hub."""
    started: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    task = asyncio.get_running_loop().create_task(serve(swarm, port, started))
    try:
        yield await started
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def opened(page: Page, url: str) -> None:
    await page.call("Page.navigate", url=url)
    await page.until("document.querySelectorAll('#board .tr').length > 0", 60)
    await page.run(HELPERS.read_text(encoding="utf-8"))


async def weight_and_paint(page: Page, url: str, checks: Checks) -> None:
    sizes: dict[str, float] = {}
    names: dict[str, str] = {}
    page.on("Network.responseReceived", lambda told: names.update({told["requestId"]: told["response"]["url"]}))
    page.on(
        "Network.dataReceived",
        lambda told: sizes.update({told["requestId"]: sizes.get(told["requestId"], 0) + told["dataLength"]}),
    )
    paints = []
    for _ in range(3):
        sizes.clear()
        await page.call("Network.clearBrowserCache")
        await opened(page, url)
        paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
        paints.append(float(await page.until(paint)))
    own = {url: sizes.get(number, 0) for number, url in names.items() if "/v1/" not in url and number in sizes}
    total = sum(own.values())
    checks.say("page weight", 0 < total < MAX_BYTES, f"{total / 1e3:.1f} kB unpacked in {len(own)} files")
    checks.say("first paint", min(paints) < MAX_PAINT_MS, f"{min(paints):.0f} ms at best of {len(paints)}")


async def contrast(page: Page, checks: Checks, what: str) -> None:
    for scheme in ("dark", "light"):
        await page.scheme(scheme)
        await asyncio.sleep(0.3)
        worst = await page.run("worstContrast()")
        ratio, text = worst[0]
        checks.say(f"contrast, {what}, {scheme}", ratio >= MIN_CONTRAST, f"{ratio:.2f} at least ({text!r})")
    await page.scheme("dark")


async def keyboard(page: Page, checks: Checks) -> None:
    seen: list[str] = []
    outlined = True
    await page.run("document.activeElement.blur(); scrollTo(0, 0)")
    for _ in range(60):
        await page.press("Tab", 9)
        name, shown = await page.run("focused()")
        seen.append(name)
        outlined = outlined and shown
        if name.startswith("board mono"):
            break
    wanted = ("skip", "theme", "loss", "rate", "events", "find", "board button", "board mono")
    missing = [one for one in wanted if not any(one in name for name in seen)]
    checks.say(
        "keyboard reaches", not missing, f"{len(seen)} stops, {'all' if not missing else f'not {missing} in {seen}'}"
    )
    checks.say("focus is visible", outlined, "an outline at every stop" if outlined else "not at every stop")
    first = await page.run("document.activeElement.textContent")
    await page.press("ArrowDown", 40)
    second = await page.run("document.activeElement.textContent")
    await page.press("Enter", 13, "\r")
    await page.until("document.querySelectorAll('#person .card').length > 3")
    title = await page.run("document.querySelector('#person h1').textContent")
    moved = first != second and title.startswith(second.split("…")[0])
    checks.say("keyboard opens a miner", moved, f"{first} -> {second} -> {title[:24]}")
    await contrast(page, checks, "miner")
    await page.run("location.hash = '#/'")
    await page.until("!document.getElementById('overview').hidden")
    await page.run("document.querySelector('#loss svg').focus()")
    await page.press("ArrowLeft", 37)
    shown = await page.run("!document.querySelector('#loss .tip').hidden")
    checks.say("keyboard reads a chart", shown, "an arrow shows the values of a point")


async def narrow(page: Page, checks: Checks) -> None:
    await page.size(390, 844, 2, mobile=True)
    await asyncio.sleep(0.4)
    for where in ("#/", None):
        if where is None:
            await page.run("location.hash = document.querySelector('.tr a').getAttribute('href')")
            await page.until("document.querySelectorAll('#person .card').length > 3")
        width = await page.run("document.documentElement.scrollWidth")
        checks.say(f"fits 390 px, {'miner' if where is None else 'run'}", width <= 390, f"{width} px wide")
    await page.run("location.hash = '#/'")
    cut = []
    for width in (700, 1024, 1180, 1280, 1440):
        await page.size(width, 900)
        await asyncio.sleep(0.4)
        inside = "[...document.querySelectorAll('.thead > div')].at(-1).getBoundingClientRect().right"
        if not await page.run(f"{inside} <= document.getElementById('board').getBoundingClientRect().right + 0.5"):
            cut.append(width)
    checks.say("the table of miners fits", not cut, f"too wide at {cut} px" if cut else "from 700 to 1440 px")


class Trace:
    """What Chromium's trace says of some seconds: frames, and tasks of the page's main thread."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        main = {event["tid"] for event in events if event["name"] == "FireAnimationFrame"}
        # Of the page's own process: one that has been left may go on drawing for a while.
        pages = {event["pid"] for event in events if event["name"] == "FireAnimationFrame"}
        ours = sorted((e for e in events if e["pid"] in pages), key=lambda event: float(event["ts"]))
        turns = [bool(e["args"]["data"]["needsBeginFrame"]) for e in ours if e["name"] == "NeedsBeginFrameChanged"]
        moving = not turns[0] if turns else True
        seen: dict[str, set[tuple[int, int]]] = {"DrawFrame": set(), "DroppedFrame": set(), "BeginFrame": set()}
        for event in ours:
            if event["name"] == "NeedsBeginFrameChanged":
                moving = bool(event["args"]["data"]["needsBeginFrame"])
            elif event["name"] in seen and (moving or event["name"] != "BeginFrame"):
                seen[event["name"]].add((event["pid"], event["args"]["frameSeqId"]))
        drawn, dropped, due = seen.values()
        # Chromium also calls dropped what is drawn by a later deadline, and the frame in whose midst a page that stood
        # still begins to move: nothing was due in it.
        self.drawn, self.dropped = len(drawn), len((dropped & due) - drawn)
        tasks = [e for e in events if e["name"] == "RunTask" and e["tid"] in main and "tdur" in e]
        #: Milliseconds of processor time, longest first: what else the machine does is not in it.
        self.tasks = sorted((event["tdur"] / 1e3 for event in tasks), reverse=True)

    def __str__(self) -> str:
        return f"{self.dropped} dropped of {self.dropped + self.drawn}"


async def traced(page: Page, seconds: float) -> Trace:
    events: list[dict[str, Any]] = []
    ended = asyncio.Event()
    kept = ("NeedsBeginFrameChanged", "BeginFrame", "DroppedFrame", "DrawFrame", "FireAnimationFrame", "RunTask")
    page.on("Tracing.dataCollected", lambda told: events.extend(e for e in told["value"] if e["name"] in kept))
    page.on("Tracing.tracingComplete", lambda told: ended.set())
    wanted = ["devtools.timeline", "disabled-by-default-devtools.timeline", "devtools.timeline.frame"]
    await page.call("Tracing.start", traceConfig={"includedCategories": [*wanted, f"disabled-by-default-{wanted[-1]}"]})
    await asyncio.sleep(seconds)
    await page.call("Tracing.end")
    await asyncio.wait_for(ended.wait(), 60)
    return Trace(events)


async def fluid(page: Page, hub: Any, url: str, miners: int, seconds: float, checks: Checks) -> None:
    """Server and browser with many miners, next to a page that only moves one box."""
    await page.call("Page.navigate", url=CONTROL)
    control = await traced(page, min(10.0, seconds))
    await opened(page, url)
    await asyncio.sleep(3)
    spent, began, busy = hub.spent_s, time.monotonic(), await _busy(page)
    found = await traced(page, seconds)
    took = time.monotonic() - began
    share, busy = (hub.spent_s - spent) / took, (await _busy(page) - busy) / took
    figure = f"{100 * share:.2f} % of a core over {took:.0f} s, {hub.watchers} watching"
    checks.say(f"{miners} miners: server", share < MAX_SHARE, figure)
    frames = f"{found} frames in {seconds:.0f} s; a page with one moving box here: {control}"
    if control.dropped:
        print(f"?    {miners} miners: frames: {frames}: this machine drops frames of any page", flush=True)
    else:
        checks.say(f"{miners} miners: frames", found.dropped == 0, frames)
    long = [task for task in found.tasks if task > FRAME_MS]
    figure = (
        f"{len(long)} of {len(found.tasks)} tasks of the main thread need more than a frame ({FRAME_MS:.1f} ms of "
        f"processor time), the longest {found.tasks[0] if found.tasks else 0:.1f} ms; {100 * busy:.0f} % of a core"
    )
    checks.say(f"{miners} miners: work per frame", bool(found.tasks) and not long, figure)


async def _busy(page: Page) -> float:
    """Seconds of processor time that the page's main thread has worked."""
    found = (await page.call("Performance.getMetrics"))["metrics"]
    return next(float(one["value"]) for one in found if one["name"] == "TaskDuration")


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--miners", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--port", type=int, default=8098)
    parser.add_argument("--only-fluid", action="store_true", help="leave out the checks of one small page")
    parser.add_argument("--json", action="store_true", help="print what was found as JSON as well")
    options = parser.parse_args()
    checks = Checks()
    url = f"http://127.0.0.1:{options.port}/"
    if not options.only_fluid:
        await small(url, options.port, checks)
    swarm = PretendSwarm(options.miners, 8, 0, 4 * options.miners, pace=1.0)
    async with served(swarm, options.port + 1) as hub, browser() as page:
        await page.call("Performance.enable", timeDomain="threadTicks")
        await page.size(1440, 900)
        # Who looks at a swarm has the validator on another machine: here it must not take the browser's processors.
        os.nice(19)
        address = f"http://127.0.0.1:{options.port + 1}/"
        await fluid(page, hub, address, options.miners, options.seconds, checks)
        checks.say(f"{options.miners} miners: console", not page.log, "silent" if not page.log else page.log[0])
    if options.json:
        print(json.dumps(checks.found, indent=2))
    return 0 if all(one["ok"] for one in checks.found) else 1


async def small(url: str, port: int, checks: Checks) -> None:
    """All but fluidity, with twelve miners."""
    async with served(PretendSwarm(12, 3, 0, 60, speed=2.0), port), browser() as page:
        await page.size(1440, 900)
        await weight_and_paint(page, url, checks)
        await asyncio.sleep(20)
        await page.size(1440, 2600)
        await asyncio.sleep(1)
        await contrast(page, checks, "run")
        await page.size(1440, 900)
        await keyboard(page, checks)
        await narrow(page, checks)
        checks.say("console", not page.log, "silent" if not page.log else page.log[0])
        others = {host for one in page.requests if (host := urlsplit(one).netloc) not in ("", f"127.0.0.1:{port}")}
        checks.say("requests", not others, f"{len(page.requests)}, none to another host" if not others else str(others))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
