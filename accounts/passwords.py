"""What a password may not be, in our words."""

from django.contrib.auth import password_validation as django


class NotShort(django.MinimumLengthValidator):
    def get_error_message(self) -> str:
        return f"At least {self.min_length} characters."


class NotCommon(django.CommonPasswordValidator):
    def get_error_message(self) -> str:
        return "Many people take this one: choose another."


class NotLikeTheName(django.UserAttributeSimilarityValidator):
    def get_error_message(self) -> str:
        return "Too much like your name."
