"""Passkeys in a real browser, which has an authenticator of its own for that."""

import re

from tests.test_browser import (  # noqa: F401  # the fixture, and the marks of tests with a browser
    PASSWORD,
    Application,
    browser,
    expect,
    open_context,
    pytestmark,
    serious,
    silent,
)

AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


def test_a_passkey_is_added_signs_in_serves_as_second_step_and_is_removed(browser, tmp_path):  # noqa: F811
    application = Application(tmp_path, SANDBOX="1")
    application.start()
    context = open_context(browser, f"http://localhost:{application.port}")  # to a bare address no passkey is given
    page = context.new_page()
    complaints = silent(page)
    tools = context.new_cdp_session(page)
    tools.send("WebAuthn.enable")
    key = tools.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})["authenticatorId"]
    here = re.compile(r"/you/$")
    try:
        page.goto("/")
        page.get_by_label("Username").fill("ada")
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("Password again").fill(PASSWORD)
        page.get_by_role("button", name="Make your account").click()

        page.get_by_role("link", name="You", exact=True).click()
        page.get_by_role("link", name="Add a passkey").click()
        assert serious(page) == []
        page.get_by_label("Name").fill("Laptop")
        page.get_by_role("button", name="Add a passkey").click()
        expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()  # made along with the first
        page.goto("/you/")
        expect(page.get_by_role("region", name="Passkeys")).to_contain_text("Laptop")
        assert serious(page) == []

        page.get_by_role("button", name="Sign out").click()
        page.goto("/sign-in/?next=/you/")
        page.get_by_role("button", name="Sign in with a passkey").click()
        expect(page).to_have_url(here)

        page.get_by_role("button", name="Sign out").click()
        page.goto("/sign-in/?next=/you/")
        page.get_by_label("Username").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("heading", name="The second step")).to_be_visible()
        tools.send("WebAuthn.setUserVerified", {"authenticatorId": key, "isUserVerified": False})
        page.get_by_role("button", name="Use a passkey").click()
        expect(page.get_by_role("alert")).to_contain_text("try again")  # neither finger nor PIN
        tools.send("WebAuthn.setUserVerified", {"authenticatorId": key, "isUserVerified": True})
        page.get_by_role("button", name="Use a passkey").click()
        expect(page).to_have_url(here)

        page.goto("/you/confirm/passkey/?next=/you/")
        page.get_by_role("button", name="Use a passkey").click()
        page.get_by_role("link", name="Rename Laptop").click()
        page.get_by_label("Name").fill("Desk")
        page.get_by_role("button", name="Save").click()
        page.get_by_role("link", name="Remove Desk").click()
        page.get_by_role("button", name="Remove it").click()
        expect(page).to_have_url(here)

        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="Sign in with a passkey").click()
        expect(page.get_by_role("status")).to_contain_text("not accepted")  # the device offers it still
        page.get_by_label("Username").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in", exact=True).click()
        page.goto("/you/")
        expect(page.get_by_role("region", name="Second step")).to_contain_text("the password alone signs you in")
        assert complaints == []
    finally:
        context.close()
        application.stop()
