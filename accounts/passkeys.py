"""Where a browser offers passkeys at all."""

import ipaddress

from django.http import HttpRequest
from django.http.request import split_domain_port


def are_possible(request: HttpRequest) -> bool:
    """Browsers give them to names, not to bare addresses, and over https; on one's own machine also to localhost."""
    host, _ = split_domain_port(request.get_host())
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return request.is_secure() or host == "localhost"
    return False
