"""All settings, read top to bottom. What the environment may say stands in .env.example."""

import sys
import tomllib
from pathlib import Path
from urllib.parse import quote, urlsplit

import django_stubs_ext
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from perpdash import sentry
from perpdash.environment import Environment
from perpdash.keys import kept_keys

django_stubs_ext.monkeypatch()  # lets Django's generic classes name what they are of, for the type checker

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment()
env.read_env(BASE_DIR / ".env")  # what the process was started with wins over the file

# --- Where this installation lives -----------------------------------------------------------------------------------
DEBUG = env.bool("DEBUG", default=False)
VAR_DIR = Path(env.str("VAR_DIR", default="") or BASE_DIR / "var").resolve()
REDIS_URL = env.str("REDIS_URL", default="")
if _password := env.str("REDIS_PASSWORD", default=""):  # apart from the address, so that it can come as a file
    _before, _at, _host = urlsplit(REDIS_URL).netloc.rpartition("@")
    _user = _before.partition(":")[0]
    REDIS_URL = urlsplit(REDIS_URL)._replace(netloc=f"{_user}:{quote(_password, safe='')}@{_host}").geturl()
EMBEDDED = not REDIS_URL  # one process tree: no broker, no cache server, in-process channel layer
SANDBOX = env.bool("SANDBOX", default=False)  # every venue is answered in process by its sandbox

# --- Keys ------------------------------------------------------------------------------------------------------------
_kept = kept_keys(VAR_DIR) if DEBUG or EMBEDDED else {}
SECRET_KEY = env.str("SECRET_KEY", default="") or _kept.get("SECRET_KEY", "")
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])
# django-fernet-encrypted-fields wants a list; the newest comes first and is the one that encrypts.
SALT_KEY = env.list("SALT_KEY", default=[]) or ([_kept["SALT_KEY"]] if _kept else [])

# --- The web ---------------------------------------------------------------------------------------------------------
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[]) or ["127.0.0.1", "localhost", "[::1]"]
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
ROOT_URLCONF = "perpdash.urls"
ASGI_APPLICATION = "perpdash.asgi.application"

INSTALLED_APPS = [
    # For its runserver alone: every other command would start by loading a web server it does not use.
    *(["daphne"] if "runserver" in sys.argv else []),
    "perpdash",
    "accounts",
    "exchanges",
    "volume",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "csp",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "perpdash.requests.RequestIdMiddleware",
    "perpdash.access.AccessMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "csp.middleware.CSPMiddleware",
    "perpdash.limits.SizeMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "perpdash.requests.PrivateMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "accounts.middleware.WelcomeMiddleware",
    "accounts.middleware.SignInMiddleware",
    "accounts.middleware.SeenMiddleware",
    "accounts.middleware.ConfirmMiddleware",
    "perpdash.limits.CostlyPagesMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "perpdash.refusals.RefusalMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "perpdash.pages.installation",
            ],
        },
    },
]

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
WHITENOISE_MIMETYPES = {".webmanifest": "application/manifest+json"}
WHITENOISE_USE_FINDERS = True  # static files are served from the checkout: nothing to collect before the first start

# 1 where a proxy ends TLS: then only that proxy can reach us, and only encrypted requests are answered.
HTTPS = env.bool("HTTPS", default=False)
# How many proxies of ours a request comes through: so many addresses at the end of X-Forwarded-For are believed.
PROXIES = int(env.str("PROXIES", default="") or HTTPS)
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]  # asked by whatever watches the process itself, past the proxy
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = HTTPS
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # no form and no request of the API comes near it
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "img-src": [SELF, "data:"],
        "object-src": [NONE],
        "base-uri": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    },
}

# --- People ----------------------------------------------------------------------------------------------------------
AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "accounts:sign-in"
LOGIN_REDIRECT_URL = "volume:dashboard"
LOGOUT_REDIRECT_URL = "accounts:sign-in"
PASSWORD_HASHERS = ["accounts.hashing.Argon2"]
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_RESET_TIMEOUT = 24 * 3600  # also of links that sign in once
SESSION_COOKIE_AGE = 30 * 24 * 3600
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"accounts.passwords.{name}"} for name in ("NotLikeTheName", "NotShort", "NotCommon")
]
# django-allauth. Only the pages of it that accounts/urls.py names are there: nobody signs up but by invitation.
ALLAUTH_TRUSTED_PROXY_COUNT = PROXIES
ACCOUNT_ADAPTER = "accounts.adapter.Adapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*", "password2*"]
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_CHANGE_EMAIL = True  # one address a person, replaced once the new one is confirmed
ACCOUNT_EMAIL_VERIFICATION = "none"  # at sign-in; an address counts only once it is confirmed
ACCOUNT_EMAIL_NOTIFICATIONS = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False  # nobody gets mail of ours because a stranger typed an address
ACCOUNT_REAUTHENTICATION_REQUIRED = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600
ACCOUNT_RATE_LIMITS = {
    "login_failed": "20/5m/ip,10/5m/key",  # key: the name, and for second factors the person
    "login": "60/m/ip",
    "signup": "10/m/ip",
    "reset_password": "10/m/ip,3/m/key",
    "invite": "20/m/user",
}
ACCOUNT_FORMS = {
    "login": "accounts.forms.SignInForm",
    "reauthenticate": "accounts.forms.PasswordAgainForm",
    "add_email": "accounts.forms.EmailForm",
    "change_password": "accounts.forms.NewPasswordForm",
    "set_password": "accounts.forms.FirstPasswordForm",
    "reset_password": "accounts.forms.ForgottenForm",
    "reset_password_from_key": "accounts.forms.ResetForm",
}
MFA_ADAPTER = "perpdash.second_factors.Adapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_ALLOW_UNVERIFIED_EMAIL = True  # whoever is here was let in by hand
MFA_PASSKEY_LOGIN_ENABLED = True
# Always. A key that asks for no PIN or finger would else, once stolen, pass for a passkey and sign in alone.
MFA_WEBAUTHN_USER_VERIFICATION = "required"
MFA_TOTP_ISSUER = "perpdash"
MFA_FORMS = {
    "authenticate": "accounts.forms.CodeForm",
    "reauthenticate": "accounts.forms.CodeAgainForm",
    "activate_totp": "accounts.forms.AppForm",
    "login_webauthn": "accounts.forms.PasskeySignInForm",
    "authenticate_webauthn": "accounts.forms.PasskeyStepForm",
    "reauthenticate_webauthn": "accounts.forms.PasskeyAgainForm",
    "add_webauthn": "accounts.forms.PasskeyForm",
    "edit_webauthn": "accounts.forms.PasskeyNameForm",
}
USERSESSIONS_TRACK_ACTIVITY = True

# --- Mail ------------------------------------------------------------------------------------------------------------
# Only what concerns a sign-in is mailed. Without it, manage.py sign_in_link does what a mail would.
MAIL = bool(env.str("EMAIL_URL", default=""))
if MAIL:
    vars().update(env.email_url("EMAIL_URL"))
else:
    EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
EMAIL_TIMEOUT = 15
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="") or "perpdash@localhost"

# --- Data ------------------------------------------------------------------------------------------------------------
_database_url = env.str("DATABASE_URL", default="") or f"sqlite:///{VAR_DIR / 'perpdash.sqlite3'}"
DATABASES = {"default": env.db_url_config(_database_url)}
DATABASES["default"]["ATOMIC_REQUESTS"] = False
if _password := env.str("DATABASE_PASSWORD", default=""):
    DATABASES["default"]["PASSWORD"] = _password
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # Readers never wait for the writer, and a transaction that will write says so at its start: with the default
        # (deferred) two of them can read first and then both fail with "database is locked".
        "transaction_mode": "IMMEDIATE",
        "timeout": 30,
        # Each thread has its own cache. Files are not mapped: it saves little, and all of a file would count as ours.
        "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;PRAGMA cache_size=-16384;"
        "PRAGMA temp_store=MEMORY;",
    }
else:
    # A host that went away is said to be gone, rather than waited for.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 5,
        # The line to it is looked after: of a machine that vanished nobody hears.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25_000,
        # Whoever holds a lock and says nothing more holds up nobody for ever.
        "options": "-c lock_timeout=20s -c idle_in_transaction_session_timeout=300s",
    } | DATABASES["default"].get("OPTIONS", {})
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
USE_I18N = False

# --- Work behind the page --------------------------------------------------------------------------------------------
CELERY_BROKER_URL = REDIS_URL or "memory://localhost"
CELERY_BROKER_TRANSPORT_OPTIONS = (
    {"polling_interval": 0.05}
    if EMBEDDED
    else {"visibility_timeout": 600, "socket_timeout": 5, "socket_connect_timeout": 2, "socket_keepalive": True}
)
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # workers and beat wait for Redis as long as it takes
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False  # they read on: the ledger does not need Redis
# A page that hands out work does not wait for Redis: what is due stands in the database.
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False  # the ledger, not the queue, knows what is still to be read
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
DISPATCH_SECONDS = 5  # how often beat looks for accounts that are due
CELERY_BEAT_SCHEDULER = "perpdash.beat.Scheduler"
CELERY_BEAT_MAX_LOOP_INTERVAL = DISPATCH_SECONDS
CELERY_BEAT_SCHEDULE = {
    # A message nobody picked up is worth nothing once the next one is there: hours without a worker leave no pile.
    "refresh due accounts": {
        "task": "volume.tasks.refresh_due",
        "schedule": DISPATCH_SECONDS,
        "options": {"expires": DISPATCH_SECONDS},
    },
    "forget old runs": {"task": "volume.tasks.forget_old_runs", "schedule": 3600, "options": {"expires": 3600}},
    "forget who was here": {"task": "perpdash.tasks.forget_people", "schedule": 3600, "options": {"expires": 3600}},
    "prove what the night did not": {"task": "volume.tasks.prove_due", "schedule": 600, "options": {"expires": 600}},
    "fetch prices": {"task": "volume.tasks.fetch_prices", "schedule": 3600, "options": {"expires": 3600}},
    "fetch venues' figures": {"task": "volume.tasks.fetch_figures", "schedule": 600, "options": {"expires": 600}},
    "bring days up to date": {"task": "volume.tasks.bring_up_to_date", "schedule": 300, "options": {"expires": 300}},
}
LEASE_SECONDS = env.int("LEASE_SECONDS", default=90)  # a killed worker's account is free again after this long

CHANNEL_LAYERS = {
    "default": {"BACKEND": "perpdash.channel_layer.EmbeddedChannelLayer"}
    if EMBEDDED
    # The core layer of channels-redis drops idle sockets with redis-py 8; the pub/sub layer beneath this does not.
    else {"BACKEND": "perpdash.channel_layer.RedisChannelLayer", "CONFIG": {"url": REDIS_URL}},
}
CACHES = {
    # Room enough that nobody pushes another's limits out by filling it.
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}
    if EMBEDDED
    else {"BACKEND": "perpdash.caching.SteadyCache", "LOCATION": REDIS_URL},
}

# --- Venues ----------------------------------------------------------------------------------------------------------
# Each may be pointed at another origin (a sandbox, a proxy); empty means the venue's own host.
VENUE_URLS = {
    "bybit": env.str("BYBIT_API_URL", default=""),
    "hyperliquid": env.str("HYPERLIQUID_API_URL", default=""),
    "paradex": env.str("PARADEX_API_URL", default=""),
    "woox": env.str("WOOX_API_URL", default=""),
}
VENUE_BUDGET_SHARE = env.float("VENUE_BUDGET_SHARE", default=1.0)  # lower it when bots of yours share the IP address

# --- Dollars ---------------------------------------------------------------------------------------------------------
# Counted 1:1 as USD. Everything else is priced by day, or shown as not priced.
DOLLARS = env.list("DOLLARS", default=[]) or [
    "USD", "USDC", "USDT", "USDT0", "USDH", "USDE", "USDB", "FDUSD", "DAI", "PYUSD", "TUSD", "USDP", "USDL",
]  # fmt: skip
COINGECKO_API_URL = env.str("COINGECKO_API_URL", default="")  # an origin; empty is that of the plan
COINGECKO_API_KEY = env.str("COINGECKO_API_KEY", default="").strip()  # works without, slowly
COINGECKO_PLAN = env.str("COINGECKO_PLAN", default="") or "demo"  # what the key was bought for: demo or pro
if COINGECKO_PLAN not in ("demo", "pro"):
    raise ImproperlyConfigured("COINGECKO_PLAN is demo or pro.")
# What CoinGecko calls an asset. One that is not here is taken where just one coin has its symbol.
COINGECKO_IDS = {
    "ADA": "cardano", "ARB": "arbitrum", "AVAX": "avalanche-2", "BNB": "binancecoin", "BTC": "bitcoin", "DAI": "dai",
    "DOGE": "dogecoin", "DOT": "polkadot", "ENA": "ethena", "ETH": "ethereum", "FDUSD": "first-digital-usd",
    "HYPE": "hyperliquid", "LINK": "chainlink", "LTC": "litecoin", "MNT": "mantle", "PYUSD": "paypal-usd",
    "SOL": "solana", "STRK": "starknet", "SUSDE": "ethena-staked-usde", "TUSD": "true-usd", "USDC": "usd-coin",
    "USDE": "ethena-usde", "USDP": "paxos-standard", "USDT": "tether", "WOO": "woo-network", "XRP": "ripple",
}  # fmt: skip
for _pair in env.list("COINGECKO_IDS", default=[]):
    _asset, _, _coin = _pair.partition("=")
    COINGECKO_IDS[_asset.strip()] = _coin.strip()

# --- API -------------------------------------------------------------------------------------------------------------
API_RATE = env.int("API_RATE", default=600)  # requests a minute of one person, by page and tokens together
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "accounts.tokens.TokenAuthentication",  # first, so that an anonymous request is told 401 rather than 403
        "accounts.tokens.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": [
        "accounts.throttles.PersonThrottle",
        "accounts.throttles.WriteThrottle",
        "accounts.throttles.CostlyThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "person": f"{API_RATE}/min",
        "write": "120/min",
        "costly": "30/min",  # what asks a venue, and exports
        "stranger": "60/min",  # of an address, without a session or token
        "wrong_token": "20/min",  # of an address
    },
    "DEFAULT_PARSER_CLASSES": [
        "perpdash.limits.JSONParser",
        "rest_framework.parsers.FormParser",
        "rest_framework.parsers.MultiPartParser",
    ],
    "DEFAULT_PAGINATION_CLASS": "volume.pagination.Pagination",
    "PAGE_SIZE": 100,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "perpdash.requests.api_error",
    "COERCE_DECIMAL_TO_STRING": True,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "perpdash",
    "DESCRIPTION": "Your own traded volume of perpetual futures, per day, venue and market.",
    "VERSION": "1",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "perpdash.openapi.describe_refusals",
    ],
}

DEFAULT_EXCEPTION_REPORTER_FILTER = "perpdash.reports.ReportFilter"

# --- Words for the operator ------------------------------------------------------------------------------------------
# Lines of JSON for machines that gather them; for people in development, and where they watch the one process.
LOG_FORMAT = env.str("LOG_FORMAT", default="") or ("text" if DEBUG or (EMBEDDED and sys.stderr.isatty()) else "json")
LOG_LEVEL = env.str("LOG_LEVEL", default="") or "INFO"
if LOG_FORMAT not in ("json", "text") or LOG_LEVEL not in ("DEBUG", "INFO", "WARNING", "ERROR"):
    raise ImproperlyConfigured("LOG_FORMAT is json or text, and LOG_LEVEL is DEBUG, INFO, WARNING or ERROR.")
# A line for each request and each run, which people read only if they ask for it.
_each_level = "WARNING" if (LOG_FORMAT, LOG_LEVEL) == ("text", "INFO") else LOG_LEVEL
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")  # empty: /metrics answers this machine alone
SENTRY_DSN = env.str("SENTRY_DSN", default="")
if SENTRY_DSN:
    from perpdash import sentry  # for nobody else: it takes a while to load

    _version = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())["project"]["version"]
    _environment = env.str("SENTRY_ENVIRONMENT", default="") or "production"
    sentry.start(SENTRY_DSN, environment=_environment, release=f"perpdash@{_version}")
# How many days is kept what piles up. Fills, and what was computed from them, stay for ever.
RUNS_DAYS = env.int("RUNS_DAYS", default=180)
QUIET_RUNS_DAYS = env.int("QUIET_RUNS_DAYS", default=2)  # of runs that brought nothing
CHECKS_DAYS = env.int("CHECKS_DAYS", default=400)
AUDIT_DAYS = env.int("AUDIT_DAYS", default=365)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "json": {"()": "perpdash.logs.JsonFormatter"},
        "text": {"()": "perpdash.logs.TextFormatter"},
    },
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {
        "perpdash": {"level": LOG_LEVEL},
        "perpdash.access": {"level": _each_level},
        "perpdash.runs": {"level": _each_level},
        # One line a request would drown what matters, and Hyperliquid's carries an address.
        "httpx": {"level": "WARNING"},
        "django.channels.server": {"level": "WARNING"},
    },
}
