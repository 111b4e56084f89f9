"""Addresses of people: ours under the name of the app, those django-allauth looks up under its own names."""

from allauth.account import views as account
from allauth.account.decorators import reauthentication_required
from allauth.mfa.base import views as mfa
from allauth.mfa.recovery_codes import views as codes
from allauth.mfa.totp import views as totp
from allauth.mfa.webauthn import views as webauthn
from django.urls import path, re_path
from django.views.decorators.cache import never_cache
from django.views.generic import RedirectView

from accounts import audit_views, people_views, token_views, views, you_views

app_name = "accounts"
sign_in, sign_out = views.SignIn.as_view(), account.LogoutView.as_view()
urlpatterns = [
    path("welcome/", views.welcome, name="welcome"),
    path("join/<str:token>/", views.join, name="join"),
    path("sign-in/", sign_in, name="sign-in"),
    path("sign-in/<int:pk>/<str:token>/", views.sign_in_by_link, name="link"),
    path("sign-out/", sign_out, name="sign-out"),
    path("you/", you_views.you, name="you"),
    path("you/sessions/<int:pk>/end/", you_views.end_session, name="end-session"),
    path("you/tokens/", token_views.tokens, name="tokens"),
    path("you/tokens/<int:pk>/revoke/", token_views.revoke, name="revoke-token"),
    path("you/log/", audit_views.log, name="audit"),
    path("people/", people_views.people, name="people"),
    path("people/<int:pk>/shut-out/", people_views.shut_out, name="shut-out"),
    path("people/<int:pk>/let-in/", people_views.let_in, name="let-in"),
    path("people/invitations/<int:pk>/revoke/", people_views.revoke, name="revoke"),
]

# Without the name of the app. What is not named here is not there: no sign-up, no sign-in by other sites.
allauth_urlpatterns = [
    path("sign-in/", sign_in, name="account_login"),
    path("sign-in/code/", mfa.authenticate, name="mfa_authenticate"),
    path("sign-in/passkey/", webauthn.login_webauthn, name="mfa_login_webauthn"),
    path("sign-in/closed/", account.account_inactive, name="account_inactive"),
    path("sign-out/", sign_out, name="account_logout"),
    path("forgotten/", views.Forgotten.as_view(), name="account_reset_password"),
    path("forgotten/sent/", account.password_reset_done, name="account_reset_password_done"),
    path("forgotten/done/", account.password_reset_from_key_done, name="account_reset_password_from_key_done"),
    re_path(
        r"^forgotten/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>.+)/$",
        never_cache(account.password_reset_from_key),
        name="account_reset_password_from_key",
    ),
    path("you/", you_views.you, name="mfa_index"),
    path("you/confirm/", account.reauthenticate, name="account_reauthenticate"),
    path("you/confirm/code/", mfa.reauthenticate, name="mfa_reauthenticate"),
    path("you/confirm/passkey/", webauthn.reauthenticate_webauthn, name="mfa_reauthenticate_webauthn"),
    path("you/password/", you_views.Password.as_view(), name="account_change_password"),
    path("you/password/set/", reauthentication_required(account.password_set), name="account_set_password"),
    path("you/email/", you_views.Email.as_view(), name="account_email"),
    path("you/email/<str:key>/", account.confirm_email, name="account_confirm_email"),
    path("you/app/", never_cache(totp.activate_totp), name="mfa_activate_totp"),
    path("you/app/remove/", totp.deactivate_totp, name="mfa_deactivate_totp"),
    path("you/codes/", never_cache(codes.view_recovery_codes), name="mfa_view_recovery_codes"),
    path("you/codes/new/", codes.generate_recovery_codes, name="mfa_generate_recovery_codes"),
    path("you/codes/download/", never_cache(codes.download_recovery_codes), name="mfa_download_recovery_codes"),
    path("you/passkeys/", RedirectView.as_view(pattern_name="accounts:you"), name="mfa_list_webauthn"),
    path("you/passkeys/add/", you_views.AddPasskey.as_view(), name="mfa_add_webauthn"),
    path("you/passkeys/<int:pk>/name/", webauthn.edit_webauthn, name="mfa_edit_webauthn"),
    path("you/passkeys/<int:pk>/remove/", webauthn.remove_webauthn, name="mfa_remove_webauthn"),
    path("you/sessions/", you_views.Sessions.as_view(), name="usersessions_list"),
]
