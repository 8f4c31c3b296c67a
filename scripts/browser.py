"""Headless Chromium over the DevTools protocol: just what the page's checks and pictures need.

`CHROMIUM` names the program; without it the usual names are looked for. Nothing is downloaded.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import websockets

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-default-apps --disable-extensions --disable-sync --metrics-recording-only "
    "--no-proxy-server --hide-scrollbars --mute-audio"
).split()

#: Seconds that the browser may take to start, and for one answer.
START_S = 60.0
ANSWER_S = 60.0


def program() -> str | None:
    """The browser's path, None where there is none."""
    found = os.environ.get("CHROMIUM")
    return found or next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One tab. `log` keeps console errors and exceptions, `requests` the URLs that were asked for."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._handlers: dict[str, list[Callable[[dict[str, Any]], None]]] = {}
        self.log: list[str] = []
        self.requests: list[str] = []
        self._reader = asyncio.get_running_loop().create_task(self._read())
        self.on("Network.requestWillBeSent", lambda told: self.requests.append(told["request"]["url"]))
        self.on("Runtime.exceptionThrown", lambda told: self.log.append(json.dumps(told["exceptionDetails"])[:600]))
        self.on("Log.entryAdded", self._entry)
        self.on("Runtime.consoleAPICalled", self._console)

    def _entry(self, told: dict[str, Any]) -> None:
        entry = told["entry"]
        if entry["level"] in ("error", "warning"):
            self.log.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")

    def _console(self, told: dict[str, Any]) -> None:
        if told["type"] in ("error", "warning", "assert"):
            self.log.append(f"{told['type']}: {json.dumps(told['args'])[:600]}")

    def on(self, event: str, handler: Callable[[dict[str, Any]], None]) -> None:
        self._handlers.setdefault(event, []).append(handler)

    async def _read(self) -> None:
        async for text in self._socket:
            message = json.loads(text)
            if "id" in message:
                answer = self._waiting.pop(message["id"], None)
                if answer is not None and not answer.done():
                    answer.set_result(message)
            for handler in self._handlers.get(message.get("method", ""), []):
                handler(message["params"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command. Raises RuntimeError with the browser's reason."""
        number = next(self._ids)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        message = await asyncio.wait_for(answer, ANSWER_S)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error'].get('message')}")
        found: dict[str, Any] = message["result"]
        return found

    async def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited if it is a promise."""
        found = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"])[:600])
        return found["result"].get("value")

    async def until(self, script: str, within_s: float = 30.0) -> Any:
        """Poll an expression until it is true. Raises TimeoutError."""
        deadline = asyncio.get_running_loop().time() + within_s
        while not (found := await self.run(script)):
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(f"{script} was not true within {within_s:.0f} s")
            await asyncio.sleep(0.05)
        return found

    async def size(self, width: int, height: int, scale: float = 1.0, mobile: bool = False) -> None:
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=mobile
        )

    async def scheme(self, name: str) -> None:
        """ "dark" or "light", as the system would say."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, text=text
            )

    async def picture(self, path: Path, whole: bool = False) -> None:
        """A PNG of what is to be seen, or of the whole page."""
        params: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = (await self.call("Page.getLayoutMetrics"))["cssContentSize"]
            params["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = await self.call("Page.captureScreenshot", **params)
        path.write_bytes(base64.b64decode(shot["data"]))

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


@contextlib.asynccontextmanager
async def browser(*flags: str) -> AsyncIterator[Page]:
    """An empty page in a profile of its own; all of it is gone at the end. Raises FileNotFoundError."""
    path = program()
    if path is None:
        raise FileNotFoundError("no Chromium here; install one, or name it with CHROMIUM")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            path, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", *flags, "about:blank",
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        page = None
        try:
            port = await _port(Path(profile) / "DevToolsActivePort", process)
            address = await asyncio.to_thread(_target, port)
            async with websockets.connect(address, max_size=None, proxy=None) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await page.call(f"{domain}.enable")
                yield page
                with contextlib.suppress(RuntimeError, asyncio.TimeoutError, websockets.WebSocketException):
                    await page.call("Browser.close")
        finally:
            if page is not None:
                await page.close()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _port(file: Path, process: asyncio.subprocess.Process) -> int:
    deadline = asyncio.get_running_loop().time() + START_S
    while not (file.is_file() and file.read_text().strip()):
        if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
            raise RuntimeError("Chromium did not start")
        await asyncio.sleep(0.05)
    return int(file.read_text().split()[0])


def _target(port: int) -> str:
    import urllib.request

    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(f"http://127.0.0.1:{port}/json/list", timeout=START_S) as answer:
        pages = [one for one in json.load(answer) if one["type"] == "page"]
    found: str = pages[0]["webSocketDebuggerUrl"]
    return found
