# SPDX-License-Identifier: Apache-2.0
# Baton as a container, made for a Docker Space and for any other host.
#   docker build -t baton .                                  CPU
#   docker build -t baton --build-arg VARIANT=cuda .         on the CUDA runtime image
# The program is PID 1: it reaps, and SIGTERM drains. State goes to /data.
ARG VARIANT=cpu
ARG CUDA=12.4.1
ARG CPU_BASE=debian:12-slim

FROM ${CPU_BASE} AS build-cpu
FROM nvidia/cuda:${CUDA}-devel-ubuntu22.04 AS build-cuda

FROM build-${VARIANT} AS build
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        gcc cmake ninja-build pkg-config libmicrohttpd-dev libcjson-dev libsqlite3-dev libssl-dev libpcre2-dev \
        libutf8proc-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY CMakeLists.txt CMakePresets.json ./
COPY include include
COPY kernels kernels
COPY src src
RUN cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release && cmake --build build --target baton

FROM ${CPU_BASE} AS run-cpu
FROM nvidia/cuda:${CUDA}-base-ubuntu22.04 AS run-cuda

FROM run-${VARIANT} AS run
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        libmicrohttpd12 libcjson1 libsqlite3-0 libssl3 libpcre2-8-0 libutf8proc2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 1000 --create-home user && mkdir -p /data && chown 1000:1000 /data
COPY --from=build /src/build/baton /usr/local/bin/baton
COPY --chown=1000:1000 models /models
USER 1000
WORKDIR /home/user
ENV BATON_MODEL=/models/stories260K.gguf BATON_DATA=/data
EXPOSE 7860
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["baton", "doctor", "--health"]
CMD ["baton", "serve", "--host", "0.0.0.0", "--port", "7860"]
