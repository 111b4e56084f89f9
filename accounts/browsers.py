"""What a browser calls itself, in words people know it by."""

# The first that fits: Edge and Opera also say Chrome, and Chrome also says Safari.
BROWSERS = {
    "Edg": "Edge", "OPR/": "Opera", "SamsungBrowser": "Samsung Internet", "Firefox/": "Firefox", "FxiOS": "Firefox",
    "CriOS": "Chrome", "Chrome/": "Chrome", "Safari/": "Safari",
}  # fmt: skip
SYSTEMS = {
    "iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows", "Mac OS X": "Mac",
    "CrOS": "ChromeOS", "Linux": "Linux",
}  # fmt: skip


def known_browser(user_agent: str) -> str:
    """As "Firefox on Linux"; empty for what is none of those."""
    browser = next((name for sign, name in BROWSERS.items() if sign in user_agent), "")
    system = next((name for sign, name in SYSTEMS.items() if sign in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    return browser or system


def browser_name(user_agent: str) -> str:
    """As "Firefox on Linux"; of programs what they call themselves."""
    return known_browser(user_agent) or user_agent[:40] or "Unknown browser"
