# docker build -t streamer .
# docker run --read-only --tmpfs /tmp -v ./streamer.yaml:/etc/streamer/streamer.yaml:ro -v streamer:/var/lib/streamer \
#     -p 127.0.0.1:9108:9108 streamer

FROM python:3.11-slim-bookworm AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/var/cache/pip
RUN python -m venv /opt/streamer
WORKDIR /src
COPY . .
# The bytecode is compiled here: at run time the root file system may be read-only.
RUN --mount=type=cache,target=/var/cache/pip \
    /opt/streamer/bin/pip install --compile --constraint constraints.txt .

FROM python:3.11-slim-bookworm
COPY --from=builder /opt/streamer /opt/streamer
RUN useradd --system --uid 10001 --user-group --no-create-home streamer \
    && install -d -o streamer -g streamer /var/lib/streamer

# HOME and KERAS_HOME: Keras and TensorFlow write below them. Nothing else is written but the volume.
# STREAMER_HTTP__HOST: a container's own 127.0.0.1 is reachable neither by its neighbours nor by published ports.
ENV PATH=/opt/streamer/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    KERAS_HOME=/tmp/keras \
    STREAMER_HTTP__HOST=0.0.0.0

# By number, so that Kubernetes can check runAsNonRoot.
USER 10001:10001
# `models.url` is relative by default: the models land in the volume.
WORKDIR /var/lib/streamer
VOLUME /var/lib/streamer
EXPOSE 9108

# Another port than the default is set by STREAMER_HTTP__PORT, so that this check follows it.
# /livez answers while the start-up waits for the broker, too.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ.get('STREAMER_HTTP__PORT', '9108') + '/livez', timeout=4)"]

ENTRYPOINT ["streamer"]
CMD ["run", "-c", "/etc/streamer/streamer.yaml"]
