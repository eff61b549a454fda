# The chat in a container: docker build -t gochat . && docker run -p 8080:8080 gochat
# Further flags go at the end: docker run -p 8080:8080 gochat --rate 5. SIGTERM ends it cleanly.
FROM python:3.13-slim AS build
COPY . /source
RUN pip wheel --no-cache-dir --wheel-dir /wheels '/source[metrics,relay]'

FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels 'gochat[metrics,relay]'
RUN useradd --system --no-create-home gochat
USER gochat
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:9100/healthz', timeout=4)"]
ENTRYPOINT ["gochat", "serve", "--addr", ":8080", "--metrics-addr", "127.0.0.1:9100"]
