from django.apps import AppConfig


class PerpdashConfig(AppConfig):
    name = "perpdash"

    def ready(self) -> None:
        from exchanges.rotation import keepers
        from perpdash import audit, ended, second_factors  # noqa: F401  # audit and ended connect themselves

        keepers.append(second_factors.kept)
