"""Pictures of the dashboard, of real traffic: `scripts/screenshots`."""

import contextlib
import http.client
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import sync_playwright
from ports import free_port
from processes import Stage, listening, stage, until

TOKEN = "a-token-of-the-pictures"
# So much of a history the charts are to show.
BEFORE_S, AFTER_S = 150, 60


class Town:
    """Three pools behind a balancer, with visitors."""

    def __init__(self, stage: Stage) -> None:
        self.port, self.admin = free_port(), free_port()
        self.backends = {
            name: stage.backend(name=name)[1] for name in ("b1", "b2", "b3", "b4", "a1", "a2", "a3", "s1", "s2")
        }
        file = stage.folder / "lb.toml"
        file.write_text(self._configuration())
        stage.twistd("lb", "lb", "--config", str(file))
        until(lambda: listening(self.admin), "the page")
        tac = stage.folder / "visitors.tac"
        urls = [f"http://127.0.0.1:{self.port}/{path}" for path in ("", "v1/", "v1/", "static/")]
        tac.write_text(
            "from twisted.application.service import Application\n"
            "from twisted_lb.sibling.visitors import Visitors\n"
            "application = Application('visitors')\n"
            f"for url in {urls}:\n"
            "    Visitors(url).setServiceParent(application)\n"
        )
        stage.twistd("visitors", "--python", str(tac))
        self.file = file

    def _configuration(self) -> str:
        def pool(letter: str, zones: str) -> str:
            names = [name for name in self.backends if name[0] == letter]
            return ", ".join(
                f'{{ name = "{name}", address = "127.0.0.1:{self.backends[name]}", labels = {{ zone = "{zone}" }} }}'
                for name, zone in zip(names, zones, strict=False)
            )

        return f"""name = "edge-1"

[admin]
socket = ""
address = "127.0.0.1:{self.admin}"
tokens = {{ alice = "{TOKEN}" }}

[listeners.web]
address = "127.0.0.1:{self.port}"

[pools.app]
backends = [{pool("b", "aabb")}]

[pools.api]
backends = [{pool("a", "abc")}]

[pools.static]
backends = [{pool("s", "ab")}]

[[routes]]
name = "v1"
path_prefix = "/v1/"
pool = "api"

[[routes]]
name = "static"
path_prefix = "/static/"
pool = "static"

[[routes]]
name = "rest"
pool = "app"
"""

    def suffer(self) -> None:
        """Requests that are slow, wrong, cut short, or lead from a backend that closes to another one."""
        for path in ("v1/?delay=0.7", "?status=404", "?status=500", "v1/?close=head&delay=0.2", "?size=5000&close=900"):
            request = urllib.request.Request(f"http://127.0.0.1:{self.port}/{path}")
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                urllib.request.urlopen(request, timeout=60) as one,
            ):
                one.read()

    def change(self, path: str, body: dict[str, object]) -> None:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin}/v1/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
            method="PATCH",
        )
        urllib.request.urlopen(request, timeout=60).close()


def main() -> None:
    """Make the pictures in the folder that is named."""
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as place, stage(Path(place)) as one:
        town = Town(one)
        time.sleep(BEFORE_S)
        town.change("backends/app/b4", {"weight": 2, "reason": "bigger machine"})
        time.sleep(AFTER_S)
        town.change("backends/api/a2", {"admin": "drain", "reason": "deploy 2026.11.4"})
        time.sleep(AFTER_S)
        town.suffer()
        urllib.request.urlopen(f"http://127.0.0.1:{town.backends['s2']}/down?seconds=600", timeout=60).close()
        time.sleep(AFTER_S / 2)
        shoot(town, folder)


def shoot(town: Town, folder: Path) -> None:
    """The page, light and dark."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": 1440, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{town.admin}/")
            page.get_by_role("button", name="Token…").click()
            page.locator("#dialog input[type=password]").fill(TOKEN)
            page.get_by_role("button", name="Use it").click()
            page.get_by_role("button", name="Drain… app/b1").wait_for()
            page.get_by_text("5 m", exact=True).click()
            page.wait_for_timeout(3000)
            page.mouse.move(0, 0)
            bottom = page.locator("#tables").bounding_box()
            assert bottom is not None
            clip = {"x": 0, "y": 0, "width": 1440, "height": bottom["y"] + bottom["height"] + 16}
            page.screenshot(path=folder / f"dashboard-{scheme}.png", full_page=True, clip=clip)  # type: ignore[arg-type]
            if scheme == "light":
                retried = page.locator("#failures > tbody").filter(has_text="retried, then well").first
                retried.locator("summary").click()
                page.evaluate("() => document.querySelector('.bar').hidden = true")  # it would lie over it
                retried.screenshot(path=folder / "dashboard-request.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
