from django.apps import AppConfig


class PerpdashConfig(AppConfig):
    name = "perpdash"

    def ready(self) -> None:
        from exchanges.rotation import keepers
        from perpdash import audit, ended, pooling, second_factors  # noqa: F401  # all but the last connect themselves

        keepers.append(second_factors.kept)
