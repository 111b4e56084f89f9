"""The API: what the pages show, for programs. Every view starts from the person who asks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, cast

from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from exchanges.models import STOPPED, Coverage, ExchangeCredential, Fill, HeldRow, SyncRun
from exchanges.venues import VENUES
from exchanges.venues.base import CredentialsRejected, VenueError
from volume import holding, queries, reconcile
from volume.data_views import stored_of, zipped
from volume.fills import FillList
from volume.models import Amendment, Preferences, VolumeCheck
from volume.newest import newest_summary
from volume.pagination import Pagination
from volume.periods import start_of
from volume.serializers import (
    AmendmentSerializer,
    BackfillSerializer,
    CheckSerializer,
    ComparisonSerializer,
    ConfirmSerializer,
    CoverageSerializer,
    CredentialSerializer,
    DailyQuerySerializer,
    FillSerializer,
    HeldRowSerializer,
    KindRowSerializer,
    MarketRowSerializer,
    PreferencesSerializer,
    ReconciliationQuerySerializer,
    RereadSerializer,
    RunSerializer,
    StoredSerializer,
    SummarySerializer,
    VenueSerializer,
    VolumeQuerySerializer,
    VolumeRowSerializer,
    credential_ids,
)


def _owner(request: Request) -> int:
    """The person who asks; nobody else gets this far."""
    return cast(int, request.user.pk)


class VenueTrouble(APIException):
    """The venue, not the request, is at fault: nothing was stored, and asking again later helps."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "venue_unavailable"


@contextmanager
def _refusals() -> Iterator[None]:
    """A key that is not taken, in the API's own shape."""
    try:
        yield
    except (CredentialsRejected, holding.AlreadyAdded) as fault:
        raise ValidationError({"secrets": [str(fault)]}) from None
    except holding.Retired as fault:
        raise ValidationError(str(fault)) from None
    except VenueError as fault:
        raise VenueTrouble(str(fault)) from None


class CredentialViewSet(viewsets.ModelViewSet[ExchangeCredential]):
    """Your accounts. Secrets are written, never read back; PATCH with `secrets` puts a new key into an account."""

    serializer_class = CredentialSerializer
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]
    costly = frozenset({"create", "partial_update", "verify"})  # asks the venue

    def get_queryset(self) -> Any:
        return ExchangeCredential.objects.filter(owner_id=self.request.user.pk)

    def perform_create(self, serializer: Any) -> None:
        values = serializer.validated_data
        with _refusals():
            serializer.instance = holding.add(
                cast(Any, self.request.user), values["venue"], values["label"], values["credentials"],
                now=timezone.now(), verify=values["verify"], allow_trading_key=values["allow_trading_key"],
            )  # fmt: skip

    def perform_update(self, serializer: Any) -> None:
        credential, values, now = serializer.instance, serializer.validated_data, timezone.now()
        if credentials := values.get("credentials"):
            with _refusals():
                holding.take_key(
                    credential, credentials, now=now, allow_trading_key=values.get("allow_trading_key", False)
                )
        if "label" in values:
            holding.rename(credential, values["label"])
        if (wanted := values.get("is_enabled", credential.is_enabled)) != credential.is_enabled:
            with _refusals():
                holding.resume(credential, now=now) if wanted else holding.pause(credential)

    def perform_destroy(self, instance: ExchangeCredential) -> None:
        holding.remove(instance)

    @extend_schema(request=None, responses=CredentialSerializer)
    @action(detail=True, methods=["post"])
    def verify(self, request: Request, pk: str) -> Response:
        """Asks the venue what the key is and may do; `health` holds the finding."""
        credential = self.get_object()
        with _refusals():
            holding.reverify(credential, now=timezone.now())
        return Response(self.get_serializer(credential).data)

    def _readable(self) -> ExchangeCredential:
        credential = self.get_object()
        if credential.retired_at:
            raise ValidationError(f"{credential}: {holding.retired_words(credential)}")
        if not credential.is_enabled:
            raise ValidationError(f"{credential} is paused: resume it first (PATCH is_enabled).")
        if credential.health_state in STOPPED:
            raise ValidationError(f"{credential} needs you first. {credential.health_text}")
        return credential

    @extend_schema(request=None, responses={202: CredentialSerializer})
    @action(detail=True, methods=["post"])
    def sync(self, request: Request, pk: str) -> Response:
        """Reads what is new, now."""
        credential = self._readable()
        holding.ask_for_reading(credential, now=timezone.now())
        return Response(self.get_serializer(credential).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=BackfillSerializer, responses={202: CredentialSerializer})
    @action(detail=True, methods=["post"])
    def backfill(self, request: Request, pk: str) -> Response:
        """Reads all that is missing back to `since` (two years if never said), gaps included."""
        credential = self._readable()
        wanted = BackfillSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        now = timezone.now()
        if since := wanted.validated_data.get("since"):
            if since > now.date():
                raise ValidationError({"since": ["This day is in the future."]})
            holding.want_from(credential, start_of(since))
        holding.ask_for_reading(credential, now=now, backfill=True)
        return Response(self.get_serializer(credential).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=RereadSerializer, responses={202: CredentialSerializer})
    @action(detail=True, methods=["post"])
    def reread(self, request: Request, pk: str) -> Response:
        """Reads a range once more, or everything where none is given. Harmless at any time, and resumed if cut off."""
        credential = self._readable()
        wanted = RereadSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        now = timezone.now()
        if holding.read_again(credential, wanted.window(credential, now=now), now=now) is None:
            since = credential.history_from.isoformat()
            raise ValidationError(f"The account's history is wanted only from {since} on: backfill/ extends it.")
        return Response(self.get_serializer(credential).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses=CredentialSerializer)
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: str) -> Response:
        """Ends a running backfill after its page. It goes on later from where it was."""
        credential = self.get_object()
        holding.stop_backfill(credential)
        return Response(self.get_serializer(credential).data)

    @extend_schema(request=None, responses=CredentialSerializer)
    @action(detail=True, methods=["post"])
    def retire(self, request: Request, pk: str) -> Response:
        """Removes the key and keeps the history, which still counts. DELETE removes both."""
        credential = self.get_object()
        if not credential.retired_at:
            holding.retire(credential, now=timezone.now())
        return Response(self.get_serializer(credential).data)


class _Computed(viewsets.ViewSet):
    """Lists that are computed, not queried, and paginated like the others."""

    pagination_class = Pagination

    def answer(self, request: Request, rows: Sequence[dict[str, Any]]) -> Response:
        paginator = self.pagination_class()
        page = paginator.paginate_queryset(rows, request, view=self)
        return paginator.get_paginated_response([queries.as_strings(row) for row in page or []])


class DailyViewSet(_Computed):
    """Your volume per day, week or month, by any of day, venue, market, credential."""

    @extend_schema(parameters=[DailyQuerySerializer], responses=VolumeRowSerializer(many=True))
    def list(self, request: Request) -> Response:
        query = DailyQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        values = query.validated_data
        rows = queries.VolumeRows(
            query.as_filter(_owner(request)), by=values["group_by"], granularity=values["granularity"],
            now=timezone.now(),
        )  # fmt: skip
        return self.answer(request, rows)


class MarketViewSet(_Computed):
    """Your volume by venue and market, largest first."""

    @extend_schema(parameters=[VolumeQuerySerializer], responses=MarketRowSerializer(many=True))
    def list(self, request: Request) -> Response:
        query = VolumeQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        return self.answer(request, queries.markets(query.as_filter(_owner(request)), now=timezone.now()))


class KindViewSet(_Computed):
    """Your volume by how the fills came about: order book, block trades, TWAP, liquidations ..."""

    @extend_schema(parameters=[VolumeQuerySerializer], responses=KindRowSerializer(many=True))
    def list(self, request: Request) -> Response:
        query = VolumeQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        return self.answer(request, queries.kinds(query.as_filter(_owner(request))))


class PreferencesView(APIView):
    """How you want your volume counted. Every view follows at once."""

    @extend_schema(responses=PreferencesSerializer)
    def get(self, request: Request) -> Response:
        return Response(PreferencesSerializer(Preferences.of(_owner(request))).data)

    @extend_schema(request=PreferencesSerializer, responses=PreferencesSerializer)
    def patch(self, request: Request) -> Response:
        chosen = PreferencesSerializer(Preferences.of(_owner(request)), data=request.data, partial=True)
        chosen.is_valid(raise_exception=True)
        return Response(PreferencesSerializer(holding.prefer(request.user, **chosen.validated_data)).data)


class SummaryViewSet(viewsets.ViewSet):
    """Your volume at a glance; the socket sends the same object."""

    @extend_schema(responses=SummarySerializer)
    def list(self, request: Request) -> Response:
        return Response(newest_summary(_owner(request), now=timezone.now()))


class _OfMyAccounts(mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Any]):
    """Rows that hang on a credential, filtered by ?credential=."""

    model: Any

    def get_queryset(self) -> Any:
        rows = self.model.objects.filter(credential__owner_id=self.request.user.pk)
        if wanted := self.request.query_params.get("credential"):
            try:
                (number,) = credential_ids(wanted)
            except (ValueError, ValidationError):
                raise ValidationError({"credential": ["The number of a credential."]}) from None
            rows = rows.filter(credential_id=number)
        return rows


OF_CREDENTIAL = extend_schema(parameters=[OpenApiParameter("credential", int)])


class RunViewSet(_OfMyAccounts):
    """What was asked of venues, what came, how it ended. Newest first."""

    model, serializer_class = SyncRun, RunSerializer

    @OF_CREDENTIAL
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)


class CoverageViewSet(_OfMyAccounts):
    """The ledger: which ranges are covered, could not be read, or are out of reach."""

    model, serializer_class = Coverage, CoverageSerializer

    @OF_CREDENTIAL
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)


class HeldRowViewSet(_OfMyAccounts):
    """Rows of a venue that were not understood."""

    model, serializer_class = HeldRow, HeldRowSerializer

    @OF_CREDENTIAL
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)


class AmendmentViewSet(_OfMyAccounts):
    """Days that changed after they had been called read, by how much, and why. Newest first."""

    model, serializer_class = Amendment, AmendmentSerializer

    @OF_CREDENTIAL
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)


class FillViewSet(_OfMyAccounts):
    """Your fills in perpetual markets, newest first."""

    model, serializer_class = Fill, FillSerializer

    def get_queryset(self) -> Any:
        if self.action != "list":
            return super().get_queryset()
        query = VolumeQuerySerializer(data=self.request.query_params)
        query.is_valid(raise_exception=True)
        return FillList(query.as_filter(_owner(self.request)))

    @extend_schema(parameters=[VolumeQuerySerializer])
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)


class ReconciliationViewSet(_Computed):
    """What venues say your accounts traded, beside what perpdash counted. Newest first within an answer of a venue."""

    @extend_schema(parameters=[ReconciliationQuerySerializer], responses=ComparisonSerializer(many=True))
    def list(self, request: Request) -> Response:
        query = ReconciliationQuerySerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        now, since = timezone.now(), query.validated_data.get("since")
        rows = [
            reconcile.as_json(comparison)
            for account in query.as_filter(_owner(request)).accounts()
            for comparison in reconcile.compare(account, now=now, since=start_of(since) if since else None)
        ]
        return self.answer(request, rows)


class VenueViewSet(_Computed):
    """The venues perpdash can read, and what each needs from you."""

    @extend_schema(responses=VenueSerializer(many=True))
    def list(self, request: Request) -> Response:
        return self.answer(request, [_venue_json(slug) for slug in VENUES])


class CheckViewSet(_OfMyAccounts):
    """The proofs of your numbers: fills, days, ledger and totals against each other. Newest first."""

    model, serializer_class = VolumeCheck, CheckSerializer

    @OF_CREDENTIAL
    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().list(request, *args, **kwargs)


class ZipRenderer(BaseRenderer):
    """For who asks for a ZIP by name. The file is streamed past it."""

    media_type, format = "application/zip", "zip"

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        return JSONRenderer().render(data)  # a refusal, which is no ZIP


class ExportViewSet(viewsets.ViewSet):
    """Everything that is yours, as one ZIP of CSV files; README.txt in it says what each holds. No secrets."""

    renderer_classes = [JSONRenderer, ZipRenderer]
    costly = frozenset({"list"})

    @extend_schema(responses={(200, "application/zip"): OpenApiTypes.BINARY})
    def list(self, request: Request) -> HttpResponseBase:
        return zipped(request.user, timezone.now())


class DataView(APIView):
    """What is stored of you."""

    @extend_schema(operation_id="data_retrieve", responses=StoredSerializer)
    def get(self, request: Request) -> Response:
        """How much there is of it."""
        return Response(StoredSerializer(stored_of(_owner(request))).data)

    @extend_schema(request=ConfirmSerializer, responses={204: None})
    def delete(self, request: Request) -> Response:
        """Removes all of it but your sign-in, for good. The body is {"confirm": your user name}."""
        wanted = ConfirmSerializer(data=request.data)
        wanted.is_valid(raise_exception=True)
        if wanted.validated_data["confirm"] != request.user.get_username():
            raise ValidationError({"confirm": ["The name you sign in with. Nothing was removed."]})
        holding.remove_all(_owner(request))
        return Response(status=status.HTTP_204_NO_CONTENT)


def _venue_json(slug: str) -> dict[str, Any]:
    venue = VENUES[slug]
    return {
        "venue": slug,
        "name": venue.name,
        "secrets": [
            {
                "name": item.name,
                "label": item.metadata["label"],
                "help": item.metadata["help"],
                "is_secret": not item.repr,
                "is_optional": "optional" in item.metadata,
                "choices": [
                    {"value": value, "label": label} for value, label in (item.metadata.get("choices") or {}).items()
                ],
            }
            for item in fields(venue.credentials_type)
        ],
        "key_steps": list(venue.key_steps),
        "memory_note": venue.memory_note,
    }
