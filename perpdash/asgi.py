"""Where daphne comes in: HTTP to Django, sockets to Channels."""

import os

from django.core.asgi import get_asgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "perpdash.settings")
django_application = get_asgi_application()  # before the imports below: they need the apps loaded

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

from perpdash.access import SocketCount, no_other_log  # noqa: E402
from perpdash.sockets import OwnOriginValidator, SteadyMiddleware, WelcomeMiddleware, nowhere  # noqa: E402
from perpdash.starting import refuse_unsafe  # noqa: E402
from volume.urls import websocket_urlpatterns  # noqa: E402

refuse_unsafe()
no_other_log()

sockets = URLRouter([*websocket_urlpatterns, re_path("", nowhere)])
application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": SocketCount(OwnOriginValidator(SteadyMiddleware(AuthMiddlewareStack(WelcomeMiddleware(sockets))))),
    },
)
