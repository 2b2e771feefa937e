# The API: HTTP alone, without torch, Ray or MLflow. Build from the checkout:
#   docker build -f docker/api.Dockerfile -t etnas-api:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY nas ./nas
COPY kernels ./kernels
COPY services ./services
COPY search_spaces ./search_spaces
RUN python -m venv /opt/etnas \
    && /opt/etnas/bin/pip install --no-cache-dir -c constraints.txt '.[service,postgres]'

FROM python:3.11.14-slim-bookworm
RUN useradd --uid 10001 --create-home etnas && install -d -o etnas -g etnas /work
COPY --from=build /opt/etnas /opt/etnas
COPY docker/entrypoint.sh /usr/local/bin/entrypoint.sh
ENV PATH=/opt/etnas/bin:$PATH PYTHONUNBUFFERED=1 NAS_HOME=/work NAS_DATA_DIR=/data
USER etnas
WORKDIR /work
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=6 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["entrypoint.sh"]
CMD ["nas", "serve"]
