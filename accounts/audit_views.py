"""The log of what was done, for whom it concerns: as a page, and over the API."""

from typing import Any

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework import generics, serializers

from accounts.audit import sentence
from accounts.models import AuditEvent

EVENTS_A_PAGE = 50


def log(request: HttpRequest) -> HttpResponse:
    """One's own; with ?of=all, for the owner of the installation, everybody's and what concerns nobody here."""
    user: Any = request.user
    is_all = user.is_superuser and request.GET.get("of") == "all"
    events = AuditEvent.objects.select_related("owner")
    page = Paginator(events if is_all else events.filter(owner=user), EVENTS_A_PAGE).get_page(request.GET.get("page"))
    rows = [(event, sentence(event)) for event in page]
    return render(request, "accounts/audit.html", {"rows": rows, "page": page, "is_all": is_all})


class AuditSerializer(serializers.ModelSerializer[AuditEvent]):
    sentence = serializers.SerializerMethodField(help_text="All of it in words.")

    class Meta:
        model = AuditEvent
        fields = ["id", "at", "what", "about", "actor", "way", "token", "address", "client", "sentence"]

    def get_sentence(self, event: AuditEvent) -> str:
        return sentence(event)


class AuditList(generics.ListAPIView[AuditEvent]):
    """What was done of yours, or tried: sign-ins, keys, exports, tokens and the like. Newest first."""

    serializer_class = AuditSerializer

    def get_queryset(self) -> Any:
        return AuditEvent.objects.select_related("owner").filter(owner_id=self.request.user.pk)
