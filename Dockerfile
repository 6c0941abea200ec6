# A slim Python image, not a CUDA one: the PyTorch wheels bring the CUDA libraries that they were built with, so the
# host gives only its driver (NVIDIA Container Toolkit, `docker run --gpus all`). Without a GPU the same image uses
# the processor. libsndfile comes inside the soundfile wheel. Nothing is fetched at run time: `--network none` works.
FROM python:3.11.14-slim-bookworm

# To read AAC, MP4 and films. Not pinned: Debian keeps only the newest security fix of a version that can be installed.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ffmpeg \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /source
COPY constraints.txt ./
# The large packages in a layer of their own: a change of the program does not fetch them again.
RUN pip install --no-cache-dir --root-user-action ignore --constraint constraints.txt torch torchaudio
COPY pyproject.toml README.md LICENSE prefect.yaml ./
COPY audiorestore audiorestore
COPY flows flows
COPY configs configs
# What else is to be installed: --build-arg EXTRAS='[s3,sftp,http,metrics]'
ARG EXTRAS=""
RUN pip install --no-cache-dir --root-user-action ignore --constraint constraints.txt ".${EXTRAS}"

# Caches and Prefect's database go to a place that any `--user` may write to.
ENV HOME=/tmp DO_NOT_TRACK=1 PREFECT_SERVER_ANALYTICS_ENABLED=false
RUN useradd --no-create-home --uid 1000 audiorestore
USER 1000:1000
WORKDIR /data

# Restores a second of sound, so not too often.
HEALTHCHECK --interval=30m --timeout=2m --start-period=1m CMD ["audiorestore", "doctor"]
ENTRYPOINT ["audiorestore"]
CMD ["--help"]
