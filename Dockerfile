FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements.txt constraints.txt ./
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir -r requirements.txt -c constraints.txt

FROM python:3.13-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 VAR_DIR=/var/lib/perpdash
RUN useradd --system --create-home --home-dir /var/lib/perpdash perpdash
COPY --from=build /venv /venv
WORKDIR /app
COPY --chown=perpdash . .
USER perpdash
EXPOSE 8000
CMD ["daphne", "-e", "tcp:8000:interface=0.0.0.0:backlog=1024", "perpdash.asgi:application"]
