from django.apps import AppConfig


class PerpdashConfig(AppConfig):
    name = "perpdash"

    def ready(self) -> None:
        from exchanges.rotation import keepers
        from perpdash import audit, second_factors  # noqa: F401  # audit connects itself

        keepers.append(second_factors.kept)
