"""The routes of /api/v1/ that are not the schema."""

from django.urls import include, path
from rest_framework.routers import DefaultRouter

from volume import api

router = DefaultRouter()
router.include_format_suffixes = False  # ?format= and Accept say it, so that each thing has one address
router.register("credentials", api.CredentialViewSet, basename="credential")
router.register("volume/daily", api.DailyViewSet, basename="daily")
router.register("volume/summary", api.SummaryViewSet, basename="summary")
router.register("volume/markets", api.MarketViewSet, basename="market")
router.register("volume/kinds", api.KindViewSet, basename="kind")
router.register("fills", api.FillViewSet, basename="fill")
router.register("amendments", api.AmendmentViewSet, basename="amendment")
router.register("runs", api.RunViewSet, basename="run")
router.register("coverage", api.CoverageViewSet, basename="coverage")
router.register("held-rows", api.HeldRowViewSet, basename="held-row")
router.register("reconciliation", api.ReconciliationViewSet, basename="reconciliation")
router.register("checks", api.CheckViewSet, basename="check")
router.register("export", api.ExportViewSet, basename="export")
router.register("venues", api.VenueViewSet, basename="venue")
router.root_view_name = "root"

urlpatterns = [
    path("preferences/", api.PreferencesView.as_view(), name="preferences"),
    path("data/", api.DataView.as_view(), name="data"),
    path("", include(router.urls)),
]
