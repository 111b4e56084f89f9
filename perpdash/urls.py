"""Every address of the site."""

from allauth.account.decorators import secure_admin_login
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from csp.constants import SELF
from csp.decorators import csp_update
from django.contrib import admin
from django.contrib.auth.decorators import login_not_required
from django.templatetags.static import static
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from accounts.audit_views import AuditList
from accounts.urls import allauth_urlpatterns
from perpdash import health, metrics

admin.site.site_header = "perpdash"
admin.site.site_title = "perpdash admin"
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]  # through our own door
own_password = RedirectView.as_view(pattern_name="account_change_password")
admin.site.password_change = own_password  # type: ignore[method-assign, assignment]
for held in (EmailAddress, Authenticator, UserSession):  # each person's own, and not to be filled in by hand
    admin.site.unregister(held)

# The one inline style of its page, as it is in drf-spectacular 0.30; a browser names the hash it misses.
swagger_style = "'sha256-MMpT0iDxyjALd9PdfepImGX3DBfJPXZ4IlDWdPAgtn0='"
split_view = SpectacularSwaggerSplitView.as_view(url_name="api:schema", http_method_names=["get", "head"])
docs = csp_update({"style-src": [SELF, swagger_style]})(split_view)

api: list[URLPattern | URLResolver] = [
    path("", include("volume.api_urls")),
    path("audit/", AuditList.as_view(), name="audit"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", docs, name="docs"),
]

favicon = login_not_required(RedirectView.as_view(url=static("img/mark.svg")))

urlpatterns = [
    path("favicon.ico", favicon),
    path("health/", health.health, name="health"),
    path("health/live", health.live, name="live"),
    path("health/ready", health.ready, name="ready"),
    path("metrics", metrics.metrics, name="metrics"),
    path("", include("volume.urls")),
    path("", include("accounts.urls")),
    path("", include(allauth_urlpatterns)),
    path("api/", RedirectView.as_view(pattern_name="api:root")),
    path("api/v1/", include((api, "api"))),
    path("admin/", admin.site.urls),
]

handler400 = "perpdash.refusals.bad_request"
handler429 = "accounts.limits.too_often"
handler404 = "perpdash.requests.not_found"
handler500 = "perpdash.requests.failed"
