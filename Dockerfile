# SPDX-License-Identifier: Apache-2.0
# Baton as a container, made for a Docker Space and for any other host.
#   docker build -t baton .                                     CPU
#   docker build -t baton --build-arg BUILD_BASE=nvidia/cuda:12.6.3-devel-ubuntu24.04 \
#                         --build-arg RUN_BASE=nvidia/cuda:12.6.3-base-ubuntu24.04 .      on the CUDA images
# The program is PID 1: it reaps, and SIGTERM drains. State goes to /data.
ARG BUILD_BASE=debian:12-slim
ARG RUN_BASE=debian:12-slim

FROM ${BUILD_BASE} AS build
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        gcc libc6-dev cmake ninja-build pkg-config libmicrohttpd-dev libsqlite3-dev libssl-dev \
        libpcre2-dev libutf8proc-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY CMakeLists.txt CMakePresets.json ./
COPY cmake cmake
COPY include include
COPY kernels kernels
COPY src src
RUN cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DBATON_CUDA_ARCHS=all && cmake --build build --target baton

FROM ${RUN_BASE}
# Debian 12 and Ubuntu 24.04 name three of these differently; apt reads them as patterns.
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        '^libmicrohttpd12(t64)?$' '^libsqlite3-0$' '^libssl3(t64)?$' libpcre2-8-0 '^libutf8proc[23]$' \
    && rm -rf /var/lib/apt/lists/* \
    && (getent passwd 1000 >/dev/null || useradd --uid 1000 --create-home user) \
    && mkdir -p /data /home/user && chown 1000:1000 /data /home/user
COPY --from=build /src/build/baton /usr/local/bin/baton
COPY models /models
USER 1000
WORKDIR /home/user
ENV BATON_MODEL=/models/stories260K.gguf BATON_DATA=/data
EXPOSE 7860
VOLUME /data
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s CMD ["baton", "doctor", "--health"]
CMD ["baton", "serve", "--host", "0.0.0.0", "--port", "7860"]
