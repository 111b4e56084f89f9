"""The pages in a real browser, against `manage.py up` as a user starts it.

SCREENSHOTS names a directory for a picture of every page at three widths; else they go to pytest's own.
"""

import csv
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from exchanges.sandbox.hyperliquid import Hyperliquid
from exchanges.sandbox.server import serve
from tests import factories

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
expect = sync_api.expect

ROOT = Path(__file__).parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SUB_ACCOUNT = "0xde3000000000000000000000000000000000a003"
AGENT = "0xde3000000000000000000000000000000000a004"
ME = "0x00000000000000000000000000000000000000aa"
PASSWORD = "correct horse battery staple"
PATIENCE = 20_000  # milliseconds; a slow machine may need them, a quick one never waits

pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),  # one demo for all of them, where pytest-xdist keeps groups together
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found: apt-get install chromium"),
]


class Application:
    """`manage.py` in a directory of its own."""

    def __init__(self, var_dir: Path, **environment: str) -> None:
        known = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL", "DEBUG")}
        self.environment = known | {"VAR_DIR": str(var_dir), "PYTHONUNBUFFERED": "1"} | environment
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def manage(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def start(self) -> str:
        """Serves; returns the last line said on the way, which has the sign-in link where there is somebody."""
        self.process = self.manage("up", "--port", str(self.port))
        said = ""
        assert self.process.stdout
        for line in self.process.stdout:
            said += line
            if line.startswith(("Sign in once", "Open it")):
                threading.Thread(target=self.process.stdout.read, daemon=True).start()  # a full pipe would stop it
                return line
        pytest.fail(f"`manage.py up` ended before it served:\n{said}")

    def stop(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        expect.set_options(timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    application = Application(tmp_path_factory.mktemp("var"), SANDBOX="1")
    filling = application.manage("demo")
    said, _ = filling.communicate(timeout=240)
    assert filling.returncode == 0, said
    application.sign_in_link = re.search(r"http://\S+", application.start())[0]
    yield application
    application.stop()


def open_context(browser: "sync_api.Browser", url: str, **options: Any) -> "sync_api.BrowserContext":
    context = browser.new_context(
        base_url=url,
        viewport={"width": 1280, "height": 800},
        timezone_id="Europe/Berlin",
        locale="en-GB",
        **options,
    )
    context.set_default_timeout(PATIENCE)
    return context


@pytest.fixture(scope="module")
def context(browser: "sync_api.Browser", demo: Application) -> Iterator["sync_api.BrowserContext"]:
    """A browser that came in by the printed link."""
    context = open_context(browser, demo.url)
    page = context.new_page()
    page.goto(demo.sign_in_link)
    page.get_by_role("button", name="Sign in as demo").click()
    page.get_by_role("region", name="Last 24 hours").wait_for()
    page.close()
    yield context
    context.close()


def silent(page: "sync_api.Page") -> list[str]:
    """What its console complains of from now on: errors, violations of the content security policy."""
    complaints: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
    page.on("pageerror", lambda fault: complaints.append(str(fault)))
    return complaints


@pytest.fixture
def page(context: "sync_api.BrowserContext") -> Iterator["sync_api.Page"]:
    """A page whose console must stay silent."""
    page = context.new_page()
    complaints = silent(page)
    yield page
    page.close()
    assert complaints == []


def add_account(page: "sync_api.Page", label: str, address: str) -> None:
    page.goto("/accounts/add/hyperliquid/")
    page.get_by_label("Label").fill(label)
    page.get_by_label("Account address").fill(address)
    page.get_by_role("button", name="Add this account").click()


def is_live(page: "sync_api.Page") -> None:
    expect(page.locator("#live")).to_have_attribute("data-state", "live")


# --- From nothing to numbers -----------------------------------------------------------------------------------------


def test_a_first_visitor_gets_from_nothing_to_a_figure_that_ticks(browser, screenshots, tmp_path):
    """Welcome, the first account, its first days, a fill that appears; then out, and in again by password."""
    venue = Hyperliquid(weight_per_minute=10**9, latency=0.2)
    first = factories.hyperliquid_row(datetime.now(UTC) - timedelta(minutes=1))
    venue.add(ME, rows=[first])
    with serve(venue) as server:
        application = Application(
            tmp_path, SANDBOX="", HYPERLIQUID_API_URL=server.url, COINGECKO_API_URL="http://127.0.0.1:9",
            VENUE_BUDGET_SHARE="1000",
        )  # fmt: skip
        application.start()
        context = open_context(browser, application.url)
        page = context.new_page()
        complaints = silent(page)
        try:
            page.goto("/")
            assert serious(page) == []
            page.get_by_label("Username").fill("ada")
            page.get_by_label("Password", exact=True).fill(PASSWORD)
            page.get_by_label("Password again").fill("something else")
            page.get_by_role("button", name="Make your account").click()
            again = page.get_by_label("Password again")
            expect(again).to_be_focused()  # the first field that is wrong
            expect(again).to_have_accessible_description(re.compile("The two are not the same"))
            picture(page, screenshots, "welcome")
            page.get_by_label("Password", exact=True).fill(PASSWORD)
            again.fill(PASSWORD)
            page.get_by_role("button", name="Make your account").click()

            page.get_by_role("link", name="Hyperliquid").click()  # nothing is there yet, so it asks where you trade
            page.get_by_label("Label").fill("Main")
            page.get_by_label("Account address").fill(ME)
            page.get_by_role("button", name="Add this account").click()
            expect(page.get_by_role("status").filter(has_text="is added")).to_be_visible()
            picture(page, screenshots, "first-days")
            expect(page.locator("[data-since]")).to_contain_text("Complete since")
            expect(page.locator(".last-days")).to_contain_text("$100,000.00")

            page.get_by_role("link", name="Dashboard", exact=True).click()
            day = page.get_by_role("region", name="Last 24 hours").locator("[data-figure]").first
            expect(day).to_have_text("$100,000.00")
            is_live(page)
            page.evaluate("window.isSame = true")
            at = datetime.now(UTC) - timedelta(seconds=1)
            venue.add(ME, rows=[first, factories.hyperliquid_row(at, tid=2, oid=2)])
            other = context.new_page()
            other.goto("/accounts/1/")
            other.get_by_role("button", name="Read new fills now").click()
            expect(day).to_have_text("$200,000.00")
            assert page.evaluate("window.isSame")  # by the socket, without a reload

            page.get_by_role("button", name="Sign out").click()
            page.get_by_label("Username").fill("ada")
            page.get_by_label("Password").fill("wrong")
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("alert")).to_be_focused()
            assert serious(page) == []
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            expect(day).to_have_text("$200,000.00")
            assert complaints == []
        finally:
            context.close()
            application.stop()


def test_an_agent_wallet_is_explained_and_not_stored(page):
    add_account(page, "Bot", AGENT)
    expect(page.get_by_role("alert")).to_contain_text("agent wallet")
    expect(page.get_by_role("alert")).to_be_focused()
    expect(page.get_by_label("Account address")).to_have_value(AGENT)
    page.get_by_label("Account address").fill("hello")
    page.get_by_role("button", name="Add this account").click()
    expect(page.get_by_label("Account address")).to_be_focused()
    expect(page.get_by_label("Account address")).to_have_accessible_description(re.compile("Not a Hyperliquid address"))


def test_an_account_is_added_renamed_paused_and_removed(page):
    add_account(page, "Grid", SUB_ACCOUNT)
    expect(page.get_by_role("heading", name="Hyperliquid · Grid")).to_be_visible()
    expect(page.locator("[data-since]")).to_contain_text("Complete since")  # arrives by the socket, without a reload
    expect(page.locator(".runs li").first).to_contain_text(re.compile(r"Complete|Finished"))

    page.get_by_label("Name").fill("Night grid")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", name="Hyperliquid · Night grid")).to_be_visible()

    page.goto("/accounts/")
    page.get_by_role("button", name="Pause Hyperliquid · Night grid").click()
    expect(page.locator("[data-health]")).to_contain_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("[data-health]")).to_contain_text("Works")

    page.goto("/")
    expect(page.locator("#accounts")).to_contain_text("Night grid")
    page.get_by_role("link", name="Hyperliquid · Night grid").first.click()
    page.get_by_text("Remove this account").click()
    page.get_by_role("button", name="Remove everything").click()
    expect(page.get_by_role("status").filter(has_text="removed")).to_be_visible()
    expect(page.locator("#accounts")).not_to_contain_text("Night grid")


# --- The dashboard ---------------------------------------------------------------------------------------------------


def test_the_dashboard_shows_figures_and_a_chart_live(page):
    page.goto("/")
    day = page.get_by_role("region", name="Last 24 hours")
    expect(day.locator("[data-figure]").first).to_have_text(re.compile(r"^\$[\d,]+\.\d\d$"))
    everything = page.get_by_role("region", name="All, since")
    expect(everything.locator("[data-figure]").first).not_to_have_text("$0.00")
    expect(page.locator("#volume-chart")).to_be_visible()
    expect(page.locator("#key")).to_contain_text("Hyperliquid")
    expect(page.locator("#markets tbody tr").first).to_contain_text("$")
    is_live(page)
    expect(page.locator("#next-day")).to_contain_text("for you")


def test_a_figure_that_is_not_complete_says_why(page):
    page.goto("/")
    button = page.get_by_role("region", name="All, since").get_by_role("button", name="not complete").first
    button.press("Enter")
    reasons = page.get_by_role("dialog", name="Why this is not complete")
    expect(reasons).to_contain_text("keeps")
    page.keyboard.press("Escape")
    expect(reasons).to_be_hidden()
    expect(button).to_be_focused()


def test_range_buttons_and_the_back_button(page):
    page.goto("/")
    ranges = page.get_by_role("navigation", name="Range")
    expect(ranges.locator("[aria-current]")).to_have_text("90d")
    ranges.get_by_role("link", name="2y").click()
    expect(ranges.locator("[aria-current]")).to_have_text("2y")
    expect(page).to_have_url(re.compile(r"range=2y"))
    expect(page.locator("#chart-title")).to_have_text("Volume per week")
    page.go_back()
    expect(ranges.locator("[aria-current]")).to_have_text("90d")
    expect(page.locator("#chart-title")).to_have_text("Volume per day")
    page.get_by_text("Show as table").click()
    expect(page.locator("#periods tbody tr")).to_have_count(90)


def test_a_figure_is_followed_down_to_its_fills_and_out_as_a_file(page):
    page.goto("/?range=30d&venue=hyperliquid")
    page.get_by_text("Show as table").click()
    period = page.locator("#periods tbody tr").filter(has_not_text="$0.00").nth(2)
    total = period.locator("td").first.inner_text()
    period.get_by_role("link").click()
    day = page.get_by_role("region", name="The day")
    expect(day.locator(".figure")).to_have_text(total)

    market = page.locator("#markets tbody tr").first
    volume = market.locator("[data-label=Volume]").get_attribute("title")
    fills = market.locator("[data-label=Fills]").inner_text()
    market.get_by_role("link").first.click()
    expect(page.locator("#markets tbody tr")).to_have_count(1)
    expect(page.get_by_role("region", name="Fills").last.locator("tbody tr")).to_have_count(int(fills))

    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV: markets").click()
    with open(download.value.path(), newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["notional_usd"], row["fills"]) == (volume, fills)
    with page.expect_download() as download:
        page.get_by_role("link", name="Export as CSV: fills").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == int(fills) + 1


def test_the_rest_of_many_markets_is_one_click_away(page):
    """As if three were what a table shows at first: the demo has less than fifty."""

    def cut(route):
        answer = route.fetch()
        told = answer.json()
        if "markets=all" not in route.request.url:
            told["markets"] = told["markets"][:3]
        route.fulfill(response=answer, json=told)

    page.route("**/series/**", cut)
    page.goto("/?range=7d")
    expect(page.locator("#more-markets")).to_be_hidden()
    whole = page.locator("#markets tbody tr").count()
    page.get_by_role("navigation", name="Range").get_by_role("link", name="30d").click()
    expect(page.locator("#more-markets")).to_contain_text("The first 3 of")
    expect(page.locator("#markets tbody tr")).to_have_count(3)
    page.get_by_role("link", name="Show all markets").press("Enter")
    expect(page.locator("#more-markets")).to_be_hidden()
    assert page.locator("#markets tbody tr").count() >= whole > 3
    expect(page.get_by_role("region", name="Volume by venue and market")).to_be_focused()
    page.go_back()
    expect(page.locator("#markets tbody tr")).to_have_count(3)


def test_a_mark_follows_its_figure_from_complete_to_lacking_and_back(page):
    page.goto("/")
    is_live(page)
    shown = page.evaluate(
        """async () => {
          const names = performance.getEntriesByType("resource").map(({ name }) => name);
          const { showMark } = await import(names.find((name) => /mark[.\\w]*\\.js$/.test(name)));
          const mark = document.createElement("span");
          mark.innerHTML = '<span class="mark-complete">complete</span>';
          document.body.append(mark);
          const seen = [];
          for (const [complete, why] of [[true, []], [false, ["One.", "Two."]], [true, []], [false, ["Two."]]]) {
            showMark(mark, { complete, stale: false, why }, "it");
            const [whole, lacking] = [".mark-complete", ".mark-lacking"].map((part) => mark.querySelector(part).hidden);
            const listed = [...mark.querySelectorAll("[role=listitem]")].map((one) => one.textContent);
            seen.push([whole, lacking, complete ? "" : listed.join()]);
          }
          return seen;
        }"""
    )
    assert shown == [[False, True, ""], [True, False, "One.,Two."], [False, True, ""], [True, False, "Two."]]


def test_the_pages_work_without_javascript(browser, context, demo):
    plain = open_context(browser, demo.url, storage_state=context.storage_state(), java_script_enabled=False)
    page = plain.new_page()
    page.goto("/?range=7d")
    page.locator(".as-table summary").click()
    expect(page.locator("#periods tbody tr")).to_have_count(7)
    expect(page.locator("#markets tbody tr").first).to_contain_text("$")
    page.goto("/accounts/2/")
    expect(page.get_by_role("img", name="History of Hyperliquid · Main")).to_be_visible()
    plain.close()


# --- Live ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def clocked(browser, context, demo) -> Iterator["sync_api.Page"]:
    """A page whose clock can be moved, alone: a clock is a browser context's."""
    own = open_context(browser, demo.url, storage_state=context.storage_state())
    page = own.new_page()
    page.clock.install()
    yield page
    own.close()


def sockets_of(page: "sync_api.Page") -> list[Any]:
    opened: list[Any] = []
    page.on("websocket", lambda socket: opened.append(socket))
    return opened


def hide(page: "sync_api.Page", is_hidden: bool) -> None:
    """As if its tab went to the background, or came back."""
    page.evaluate(
        """(isHidden) => {
          Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def until(page: "sync_api.Page", happens: Callable[[], bool]) -> None:
    for _ in range(PATIENCE // 100):
        if happens():
            return
        page.wait_for_timeout(100)
    pytest.fail("it did not happen in time")


def test_a_hidden_tab_drops_its_socket_and_is_right_at_once_when_seen_again(context, clocked):
    page = clocked
    sockets = sockets_of(page)
    page.goto("/accounts/")
    is_live(page)
    hide(page, True)
    page.clock.run_for(59_000)
    assert not sockets[0].is_closed()  # a short look elsewhere costs nothing
    page.clock.run_for(2_000)
    until(page, sockets[0].is_closed)
    other = context.new_page()
    other.goto("/accounts/5/")
    other.get_by_role("button", name="Pause").click()
    card = page.locator('[data-account="5"] [data-health]')
    expect(card).to_contain_text("Works")
    hide(page, False)
    expect(card).to_contain_text("Paused")
    is_live(page)
    assert len(sockets) == 2
    other.get_by_role("button", name="Resume").click()
    expect(card).to_contain_text("Works")
    other.close()


def test_after_sleep_a_page_begins_anew_at_once(clocked):
    page = clocked
    sockets = sockets_of(page)
    page.goto("/accounts/")
    is_live(page)
    page.clock.fast_forward("02:00:00")  # the lid was closed: no timer ran meanwhile
    until(page, lambda: len(sockets) == 2)
    is_live(page)


def test_without_a_socket_the_page_says_so_and_asks_every_half_minute(context):
    page = context.new_page()  # its console may complain: that is the point
    page.route_web_socket("**/ws/volume/", lambda socket: socket.close())
    page.goto("/accounts/")
    expect(page.get_by_role("status").filter(has_text="reconnecting")).to_be_visible()
    with page.expect_request("**/api/v1/volume/summary/"):
        expect(page.get_by_role("status").filter(has_text="not live: checking every 30 s")).to_be_visible()
    page.close()


def test_an_answer_that_the_database_is_away_is_shown_until_the_next_summary(context):
    page = context.new_page()  # its console may complain: that is the point
    page.route_web_socket("**/ws/volume/", lambda socket: socket.close())
    error = {"code": "unavailable", "message": "perpdash's database does not answer.", "details": {}, "request_id": "1"}
    page.route("**/api/v1/volume/summary/", lambda route: route.fulfill(status=503, json={"error": error}))
    page.goto("/")
    trouble = page.locator("#trouble")
    expect(trouble).to_have_text("perpdash's database does not answer.")
    expect(trouble).to_be_visible()
    page.unroute_all()
    page.route_web_socket("**/ws/volume/", lambda socket: socket.connect_to_server())
    page.evaluate("dispatchEvent(new Event('online'))")
    expect(trouble).to_be_hidden()
    page.close()


def test_a_page_reconnects_by_itself_after_the_server_was_restarted(context, demo):
    page = context.new_page()  # its console may complain: that is the point
    page.goto("/accounts/")
    is_live(page)
    page.evaluate("window.isSame = true")
    demo.stop()
    expect(page.locator("#live")).to_have_attribute("data-state", re.compile("reconnecting|polling"))
    demo.start()
    expect(page.locator("#live")).to_have_attribute("data-state", "live", timeout=2 * PATIENCE)
    assert page.evaluate("window.isSame")
    page.close()


# --- For everybody, on every screen ----------------------------------------------------------------------------------

PAGES = {
    "dashboard": "/",
    "dashboard-2y-market": "/?range=2y&by=market",
    "day": f"/day/{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}/",
    "accounts": "/accounts/",
    "account": "/accounts/4/",
    "account-out-of-reach": "/accounts/3/",
    "fills": "/accounts/2/fills/",
    "remove": "/accounts/2/remove/",
    "choose-venue": "/accounts/add/",
    "add": "/accounts/add/bybit/",
    "key": "/accounts/1/key/",
    "settings": "/settings/",
    "data": "/data/",
    "not-found": "/nothing/",
    "sign-in": "/sign-in/",
    "you": "/you/",
    "sessions": "/you/sessions/",
    "people": "/people/",
    "set-a-password": "/you/password/set/",
    "e-mail": "/you/email/",
    "authenticator-app": "/you/app/",
    "add-a-passkey": "/you/passkeys/add/",
    "tokens": "/you/tokens/",
    "what-was-done": "/you/log/",
}
WIDTHS = (360, 768, 1440)


def serious(page: "sync_api.Page") -> list[str]:
    """What axe-core finds that keeps people out: rule, and where."""
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['impact']} {one['id']}: {node['html'][:160]}"
        for one in found
        if one["impact"] in ("serious", "critical") or one["id"] == "heading-order"
        for node in one["nodes"]
    ]


def fits(page: "sync_api.Page", width: int) -> None:
    """It never scrolls sideways, once what is drawn has followed the window."""
    page.set_viewport_size({"width": width, "height": 800})
    until(page, lambda: page.evaluate("document.documentElement.scrollWidth") == width)


def picture(page: "sync_api.Page", screenshots: Path | None, name: str) -> None:
    """It fits every screen; a picture is only taken for who asks for some."""
    for width in WIDTHS:
        fits(page, width)
        if screenshots:
            page.screenshot(path=screenshots / f"{name}-{width}.png", full_page=True, animations="disabled")


@pytest.fixture(scope="module")
def screenshots() -> Path | None:
    if not os.environ.get("SCREENSHOTS"):
        return None
    directory = Path(os.environ["SCREENSHOTS"])
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_open_to_everybody_and_fits_every_screen(browser, context, demo, screenshots, name):
    own = open_context(browser, demo.url) if name == "sign-in" else context
    page = own.new_page()
    page.goto(PAGES[name])
    if name != "sign-in":
        is_live(page)
    picture(page, screenshots, name)
    assert serious(page) == []
    fits(page, 320)
    assert serious(page) == []
    page.close()
    if own is not context:
        own.close()


def test_the_keyboard_alone_is_enough_to_add_an_account(page):
    page.goto("/accounts/")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the page")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    add = page.get_by_role("link", name="Add an account")
    expect(add).to_be_focused()
    assert add.evaluate("(link) => getComputedStyle(link).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    venue = page.get_by_role("link", name="Hyperliquid")
    for _ in range(12):
        page.keyboard.press("Tab")
        if venue.evaluate("(link) => link === document.activeElement"):
            break
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Add a Hyperliquid account")).to_be_visible()
    label = page.get_by_label("Label")
    for _ in range(12):
        page.keyboard.press("Tab")
        if label.evaluate("(field) => field === document.activeElement"):
            break
    page.keyboard.type("Agent")
    page.keyboard.press("Tab")
    page.keyboard.type(AGENT)
    page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    expect(alert).to_be_focused()
    expect(alert).to_contain_text("agent wallet")


def test_perpdash_can_be_installed(page):
    page.goto("/")
    manifest = page.evaluate("fetch(document.querySelector('link[rel=manifest]').href).then((answer) => answer.json())")
    assert (manifest["name"], manifest["background_color"], manifest["theme_color"]) == (
        "perpdash", "#000000", "#ffd230",
    )  # fmt: skip
    for icon in manifest["icons"]:
        answer = page.request.get(f"/static/{icon['src']}")
        assert (answer.status, answer.headers["content-type"]) == (200, icon["type"])
    assert {icon.get("purpose", "any") for icon in manifest["icons"]} == {"any", "maskable"}


def test_the_api_documentation_opens_without_a_complaint(page):
    page.goto("/api/v1/docs/")
    expect(page.get_by_role("heading", name="perpdash")).to_be_visible()
