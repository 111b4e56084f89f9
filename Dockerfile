FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements.txt constraints.txt ./
# Wheels only: there is no compiler here, and none is needed. The image needs no pip either.
RUN python -m venv --without-pip /venv \
    && pip --python /venv/bin/python install --no-cache-dir --only-binary :all: -r requirements.txt -c constraints.txt


FROM caddy:2.10 AS proxy
ENV XDG_DATA_HOME=/var/lib/caddy XDG_CONFIG_HOME=/tmp
RUN mkdir /var/lib/caddy && chown 10001:10001 /var/lib/caddy
COPY Caddyfile /etc/caddy/Caddyfile
USER 10001:10001


FROM python:3.13-slim AS app
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 VAR_DIR=/var/lib/perpdash
RUN groupadd --gid 10001 perpdash \
    && useradd --uid 10001 --gid 10001 --create-home --home-dir /var/lib/perpdash --shell /usr/sbin/nologin perpdash
COPY --from=build /venv /venv
WORKDIR /app
# Owned by root: what runs can't change what it is.
COPY . .
RUN python -m compileall -q .
USER 10001:10001
EXPOSE 8000
CMD ["daphne", "-e", "tcp:8000:interface=0.0.0.0:backlog=1024", "perpdash.asgi:application"]
