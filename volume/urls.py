from django.urls import path

from volume import account_views, data_views, views
from volume.consumers import VolumeConsumer

app_name = "volume"
urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("series/", views.series, name="series"),
    path("day/<str:day>/", views.day, name="day"),
    path("accounts/", account_views.accounts, name="accounts"),
    path("accounts/add/", account_views.choose_venue, name="choose-venue"),
    path("accounts/add/<slug:venue>/", account_views.add, name="add"),
    path("accounts/<int:pk>/", account_views.account, name="account"),
    path("accounts/<int:pk>/key/", account_views.key, name="key"),
    path("accounts/<int:pk>/fills/", account_views.fills, name="fills"),
    path("accounts/<int:pk>/remove/", data_views.remove, name="remove"),
    path("accounts/<int:pk>/<slug:action>/", account_views.act, name="act"),
    path("data/", data_views.data, name="data"),
    path("data/export/", data_views.export, name="export"),
    path("settings/", views.preferences, name="preferences"),
]
websocket_urlpatterns = [path("ws/volume/", VolumeConsumer.as_asgi())]
