"""The pages in a real browser, against `manage.py up` as a user starts it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
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
PATIENCE = 20_000  # milliseconds; a slow machine may need them, a quick one never waits

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found: apt-get install chromium"),
]


def manage(*arguments: str, var_dir: Path) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("DATABASE_URL", "REDIS_URL", "DEBUG")}
    return subprocess.Popen(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=environment | {"VAR_DIR": str(var_dir), "SANDBOX": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def sign_in_link(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The application with demo data; the link it prints on start."""
    var_dir = tmp_path_factory.mktemp("var")
    demo = manage("demo", var_dir=var_dir)
    said, _ = demo.communicate(timeout=120)
    assert demo.returncode == 0, said
    process = manage("up", "--port", str(free_port()), var_dir=var_dir)
    said = ""
    assert process.stdout
    for line in process.stdout:
        said += line
        if found := re.search(r"http://\S+/sign-in/\S+", line):
            break
    else:
        pytest.fail(f"`manage.py up` ended without a sign-in link:\n{said}")
    threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would stop the application
    yield found[0]
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="module")
def context(sign_in_link: str) -> Iterator["sync_api.BrowserContext"]:
    """A browser that came in by the printed link."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        context = browser.new_context(
            base_url=sign_in_link.split("/sign-in/")[0],
            viewport={"width": 1280, "height": 800},
            timezone_id="Europe/Berlin",
            locale="en-GB",
        )
        context.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page = context.new_page()
        page.goto(sign_in_link)
        page.get_by_role("button", name="Sign in as demo").click()
        page.get_by_role("region", name="Last 24 hours").wait_for()
        page.close()
        yield context
        browser.close()


@pytest.fixture
def page(context: "sync_api.BrowserContext") -> Iterator["sync_api.Page"]:
    """A page whose console must stay silent: no error, no violation of the content security policy."""
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
    page.on("pageerror", lambda fault: complaints.append(str(fault)))
    yield page
    page.close()
    assert complaints == []


def add_account(page: "sync_api.Page", label: str, address: str) -> None:
    page.goto("/accounts/add/hyperliquid/")
    page.get_by_label("Label").fill(label)
    page.get_by_label("Account address").fill(address)
    page.get_by_role("button", name="Add this account").click()


def test_the_dashboard_shows_figures_and_a_chart_live(page):
    page.goto("/")
    day = page.get_by_role("region", name="Last 24 hours")
    expect(day.locator("[data-figure]")).to_have_text(re.compile(r"^\$[\d,]+\.\d\d$"))
    everything = page.get_by_role("region", name="All, since")
    expect(everything.locator("[data-figure]")).not_to_have_text("$0.00")
    expect(page.locator("#volume-chart")).to_be_visible()
    expect(page.locator("#key")).to_contain_text("Hyperliquid")
    expect(page.locator("#markets tbody tr").first).to_contain_text("$")
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    expect(page.locator("#next-day")).to_contain_text("for you")


def test_a_figure_that_is_not_complete_says_why(page):
    page.goto("/")
    everything = page.get_by_role("region", name="All, since")
    everything.get_by_role("button", name="not complete").press("Enter")
    reasons = page.get_by_role("dialog", name="Why this is not complete")
    expect(reasons).to_contain_text("keeps")
    page.keyboard.press("Escape")
    expect(reasons).to_be_hidden()


def test_range_buttons_and_the_back_button(page):
    page.goto("/")
    ranges = page.get_by_role("navigation", name="Range")
    expect(ranges.locator("[aria-current]")).to_have_text("90d")
    ranges.get_by_role("link", name="2y").click()
    expect(ranges.locator("[aria-current]")).to_have_text("2y")
    expect(page).to_have_url(re.compile(r"\?range=2y$"))
    expect(page.locator("#chart-title")).to_have_text("Volume per week")
    expect(page.locator("#key")).to_contain_text("not complete")
    page.go_back()
    expect(ranges.locator("[aria-current]")).to_have_text("90d")
    expect(page.locator("#chart-title")).to_have_text("Volume per day")
    page.get_by_text("Show as table").click()
    expect(page.locator("#periods tbody tr")).to_have_count(90)


def test_an_agent_wallet_is_explained_and_not_stored(page):
    add_account(page, "Bot", AGENT)
    expect(page.get_by_role("alert")).to_contain_text("agent wallet")
    expect(page.get_by_label("Account address")).to_have_value(AGENT)
    page.get_by_label("Account address").fill("hello")
    page.get_by_role("button", name="Add this account").click()
    expect(page.get_by_text("Not a Hyperliquid address")).to_be_visible()


def test_an_account_is_added_renamed_paused_and_removed(page):
    add_account(page, "Grid", SUB_ACCOUNT)
    expect(page.get_by_role("heading", name="Hyperliquid · Grid")).to_be_visible()
    expect(page.locator("[data-since]")).to_contain_text("Complete since")  # arrives by the socket, without a reload
    expect(page.locator(".runs li").first).to_contain_text(re.compile(r"Complete|Finished"))

    page.get_by_label("Name").fill("Night grid")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", name="Hyperliquid · Night grid")).to_be_visible()

    page.get_by_role("button", name="Pause").click()
    expect(page.locator("[data-health]")).to_contain_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("[data-health]")).to_contain_text("Works")

    page.goto("/")
    expect(page.locator("#accounts")).to_contain_text("Night grid")
    page.get_by_role("link", name="Hyperliquid · Night grid").click()
    page.get_by_text("Remove this account").click()
    page.get_by_role("button", name="Remove everything").click()
    expect(page.get_by_role("status").filter(has_text="removed")).to_be_visible()
    expect(page.locator("#accounts")).not_to_contain_text("Night grid")


@pytest.mark.parametrize("address", ["/", "/?range=2y", "/accounts/", "/accounts/2/", "/accounts/add/hyperliquid/"])
@pytest.mark.parametrize("width", [320, 360])
def test_a_phone_never_scrolls_sideways(page, width, address):
    page.set_viewport_size({"width": width, "height": 740})
    page.goto(address)
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_the_pages_work_without_javascript(context, sign_in_link):
    plain = context.browser.new_context(
        base_url=sign_in_link.split("/sign-in/")[0],
        storage_state=context.storage_state(),
        java_script_enabled=False,
    )
    page = plain.new_page()
    page.goto("/?range=7d")
    page.locator(".as-table summary").click()
    expect(page.locator("#periods tbody tr")).to_have_count(7)
    expect(page.locator("#markets tbody tr").first).to_contain_text("$")
    plain.close()
