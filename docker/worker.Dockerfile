# Where searches run: Ray's head and workers, and MLflow's server. torch's wheels bring CUDA's
# libraries; of the host, NVIDIA's driver and container toolkit are wanted. Build from the checkout:
#   docker build -f docker/worker.Dockerfile -t etnas-worker:0.1.0 .
FROM python:3.11.14-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY nas ./nas
COPY kernels ./kernels
COPY services ./services
COPY search_spaces ./search_spaces
RUN python -m venv /opt/etnas \
    && /opt/etnas/bin/pip install --no-cache-dir -c constraints.txt '.[engine,postgres,objects]'

FROM python:3.11.14-slim-bookworm
# Triton compiles its launchers with a C compiler; LightGBM links to OpenMP.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home etnas && install -d -o etnas -g etnas /work
COPY --from=build /opt/etnas /opt/etnas
COPY docker/entrypoint.sh /usr/local/bin/entrypoint.sh
ENV PATH=/opt/etnas/bin:$PATH PYTHONUNBUFFERED=1 NAS_HOME=/work NAS_DATA_DIR=/data \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    RAY_USAGE_STATS_ENABLED=0
USER etnas
WORKDIR /work
ENTRYPOINT ["entrypoint.sh"]
CMD ["nas", "doctor"]
