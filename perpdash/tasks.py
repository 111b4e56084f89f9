"""Tasks that know people, which volume and exchanges do not."""

from datetime import timedelta

from allauth.usersessions.models import UserSession
from celery import shared_task
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.utils import timezone

from accounts import audit
from accounts.models import Invitation
from volume.tasks import clock_is_doubted


@shared_task
def forget_people() -> None:
    """Forgets what was done long ago, and sessions and invitations that have run out. Beat calls it."""
    if clock_is_doubted():
        return
    now = timezone.now()
    audit.forget(now - timedelta(days=settings.AUDIT_DAYS))
    Invitation.objects.filter(expires_at__lt=now).delete()  # used ones as well: until then the page shows by whom
    call_command("clearsessions")
    UserSession.objects.exclude(session_key__in=Session.objects.values("session_key")).delete()
