from django.apps import AppConfig


class VolumeConfig(AppConfig):
    name = "volume"
